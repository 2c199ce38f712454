"""Run counter.py as one of several tasks or ranks: `ranked.py VARIABLE FOLDER ...` counts in FOLDER-<the variable's value>."""

import os
import runpy
import sys

variable = sys.argv.pop(1)
sys.argv[1] += f"-{os.environ[variable]}"
sys.argv[0] = os.path.join(os.path.dirname(os.path.abspath(__file__)), "counter.py")
runpy.run_path(sys.argv[0], run_name="__main__")
