"""A process of a random tree: `node.py NAME GATE HEAR [--helper]`, light because it imports next to nothing.

It catches the signals whose numbers stand in HEAR (`10,15`, or `-` for none), no others, prints `NAME ready`, waits until the test
closes the fifo GATE, and prints `NAME heard [numbers]`. With --helper it has forked a copy of itself, `NAME+`, that does the same.
"""

import _signal
import os
import sys

name, gate, hear = sys.argv[1:4]
heard = []
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)
for number in () if hear == "-" else map(int, hear.split(",")):
    _signal.signal(number, lambda arrived, _frame: heard.append(arrived))
child = os.fork() if "--helper" in sys.argv else -1
if child == 0:
    name += "+"
reader = os.open(gate, os.O_RDONLY)
os.write(1, f"{name} ready\n".encode())
os.read(reader, 1)
os.write(1, f"{name} heard {heard}\n".encode())
if child > 0:
    os.waitpid(child, 0)
