"""Save through the module and die by SIGKILL at the N-th line that runs: `dies_at_line.py MODULE NAME N [--folder]`.

It writes the content "new" over NAME, with --folder into two files of the folder NAME; the lines of this file count, too. Where the
save has fewer than N lines it ends well.
"""

import importlib.util
import os
import signal
import sys

module, name, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
spec = importlib.util.spec_from_file_location("ckptrun", module)
ckptrun = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ckptrun)
lines = 0


def trace(frame, event, _argument):
    """Count the lines of the module and of the block; die before the last one."""
    global lines
    if event == "line" and frame.f_code.co_filename in (module, __file__):
        lines += 1
        if lines == last:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace


sys.settrace(trace)
sys._getframe().f_trace = trace
if "--folder" in sys.argv:
    with ckptrun.atomic_dir(name) as path:
        os.mkdir(os.path.join(path, "shard"))
        for part in ("state.bin", "shard/0.bin"):
            with open(os.path.join(path, part), "w") as file:
                file.write("new")
else:
    with ckptrun.atomic_path(name) as path, open(path, "w") as file:
        file.write("n")
        file.flush()
        file.write("ew")
sys._getframe().f_trace = None
sys.settrace(None)
