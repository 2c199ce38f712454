"""Takes the turn that a ckptrun is about to take with its second link's start, just before it does: a folder for PYTHONPATH.

`CKPTRUN_TEST_RACE=FILE`, which is made when it has happened: it happens once. The turn is the `term` of link 1, which a job takes
that is told to end while its successor starts already.
"""

import json
import os
import sys

noted = os.environ.get("CKPTRUN_TEST_RACE", "")
real_link = os.link


def link(source, target, **named):
    """Link, and before a start of link 2 be overtaken."""
    if os.path.basename(source).startswith(".start.") and not os.path.exists(noted):
        with open(source) as file:
            number = json.load(file)["link"]
        if number == 2:
            open(noted, "x").close()
            with open(target, "x") as file:
                json.dump({"v": 1, "kind": "term", "at": 0, "link": 1, "attempt": 1, "reason": "the job ended as NODE_FAIL"}, file)
    return real_link(source, target, **named)


if noted and any(os.path.basename(word) == "ckptrun" for word in sys.orig_argv[:3]):
    os.link = link
