"""Print as JSON what a process inherits: arguments, standard input, descriptors, signal masks, CKPTRUN variables."""

import json
import os
import sys

with open("/proc/self/status") as lines:
    masks = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("SigBlk", "SigIgn"))}
facts = {
    "argv": [os.fsencode(word).hex() for word in sys.argv[1:]],
    "stdin": sys.stdin.read() if "--stdin" in sys.argv else None,
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "masks": masks,
    "group": os.getpgrp() == os.getpgid(os.getppid()),
    "variables": {name: value for name, value in os.environ.items() if name.startswith("CKPTRUN") and name != "CKPTRUN_HOME"},
}
print(json.dumps(facts))
