"""A start that repairs its checkpoints, killed before each call that changes the world: `dies_at_each_call.py HISTORY WORK REAL`.

For every call in turn the folder is made anew, a process that does what a link does before its training is killed before that
call, and another one does the same to its end. Then what it resumes from must be the newest whole one, what state files name must
be there, and every file must stand somewhere still. Prints how many calls there were; a line that begins with WRONG for each fault.
"""

import hashlib
import json
import os
import shutil
import sys

from ckptrun.chain.model import ChainSoFar
from ckptrun.checkpoints import state_file
from ckptrun.link.resuming import find_resumption
from ckptrun.plan import Plan
from tests.children.kills import sitecustomize as kills

history, work, real = sys.argv[1:4]
MOST = 80


def put(path, content):
    """Write a file."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def date(folder):
    """Give files times in the order of their names, so that the newest is the last."""
    for number, name in enumerate(sorted(os.listdir(folder))):
        os.utime(os.path.join(folder, name), (1000 + number, 1000 + number))


def tensorflow(home):
    """The newest of two checkpoints is cut, and the state file names it."""
    shutil.copytree(f"{real}/tensorflow/managed", f"{home}/ck")
    shard = f"{home}/ck/ckpt-2.data-00000-of-00001"
    os.truncate(shard, os.path.getsize(shard) - 1)
    put(f"{home}/ck/checkpoint", b'model_checkpoint_path: "ckpt-2"\nall_model_checkpoint_paths: "ckpt-1"\n')
    date(f"{home}/ck")
    return f"{home}/ck", "ckpt-1"


def deepspeed(home):
    """The newest of two is cut, and `latest` names it."""
    for step in (1, 2):
        shutil.copytree(f"{real}/deepspeed/run/global_step2", f"{home}/ck/global_step{step}")
    largest = max((entry for entry in os.scandir(f"{home}/ck/global_step2")), key=lambda entry: entry.stat().st_size)
    os.truncate(largest.path, largest.stat().st_size - 1)
    put(f"{home}/ck/latest", b"global_step2")
    return f"{home}/ck", "global_step1"


def ranks(home):
    """Of the newest one rank's file is cut; a dead writer has left its temporaries."""
    for name in ("step-1-rank0.json", "step-1-rank1.json", "step-2-rank0.json"):
        put(f"{home}/ck/{name}", json.dumps(name).encode())
    for name in ("step-2-rank1.json", "step-3-rank0.json.tmp", "9.ckpt_temp/part-0"):
        put(f"{home}/ck/{name}", b'["cut')
    return f"{home}/ck", "step-1-rank0.json"


def through_a_link(home):
    """The path is a symbolic link to a folder elsewhere."""
    for name in ("step-1.json", "step-2.json"):
        put(f"{home}/elsewhere/files/{name}", b'{"a": 1}' if "1" in name else b'{"a": ')
    os.symlink("elsewhere/files", f"{home}/ck")
    return f"{home}/ck", "step-1.json"


def in_place(home):
    """The only checkpoint of a folder is cut, and a copy of it stands."""
    put(f"{home}/ck/state.json", b'{"a": ')
    put(f"{home}/ck.set-aside/last/state.json", b'{"a": 1}')
    return f"{home}/ck", "state.json"


def copied(home):
    """A file that is overwritten in place is whole; when the kill is over, its writer dies in the middle."""
    put(f"{home}/state.json", b'{"a": 2}')
    put(f"{home}/state.json.ckptrun-last", b'{"a": 1}')
    return f"{home}/state.json", "state.json"


def copied_in_a_folder(home):
    """The same in a folder, without an earlier copy."""
    put(f"{home}/ck/state.json", b'{"a": 2}')
    return f"{home}/ck", "state.json"


def start(root):
    """Do what a link does before its training; return what it resumes from."""
    kept = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        return find_resumption(Plan(("true",), (root,)), "c", 3, ChainSoFar(starts_in_all=2), lambda *_words, **_facts: None)
    finally:
        os.dup2(kept, 2)


def contents(home):
    """Return a digest of every file under a folder but state files, copies, and our own notes."""
    found = set()
    for folder, _, names in os.walk(home):
        for name in names:
            path = os.path.join(folder, name)
            if name not in ("checkpoint", "latest") and "/last/" not in path and ".ckptrun-last" not in path:
                with open(path, "rb") as file:
                    found.add(hashlib.sha256(file.read()).hexdigest())
    return found


def killed_before(number, root):
    """Let a start be killed before one call; return whether it has so many."""
    pid = os.fork()
    if pid == 0:
        killer = kills.Killer(1, number)
        kills.folder = os.path.dirname(work) + "/notes"
        killer.asked = True
        killer.begin()
        for name in ("sendfile", "utime"):
            killer.wrap(name)
        start(root)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def wrong(home, root, expected):
    """Return what is wrong after the next start, nothing if all is well."""
    before = contents(home)
    found = start(root).checkpoint
    if found is None or os.path.basename(found.path) != expected:
        return f"it resumes from {found}"
    if not before <= contents(home):
        return "a file is gone"
    folder = os.path.dirname(found.path)
    if why := state_file.misnamed(folder, found.form):
        return why
    if os.path.isdir(root):
        strange = [name for name in os.listdir(root) if name.endswith((".tmp", ".new", ".back")) or "_temp" in name]
        return f"left in the folder: {strange}" if strange else ""
    return ""


def main():
    """Kill before every call."""
    number, killed = 0, True
    os.makedirs(os.path.dirname(work) + "/notes", exist_ok=True)
    while killed and number < MOST:
        number += 1
        home = os.path.join(work, str(number))
        os.makedirs(home)
        root, expected = globals()[history](home)
        killed = killed_before(number, root)
        for note in os.scandir(os.path.dirname(work) + "/notes"):
            with open(note.path) as file:
                what = file.read()
            os.unlink(note.path)
        if history.startswith("copied"):
            start_at = root if os.path.isfile(root) else f"{root}/state.json"
            if os.path.exists(start_at):
                os.truncate(start_at, 5)
            if history == "copied_in_a_folder" and not os.path.exists(f"{root}.set-aside/last/state.json"):
                continue  # it came before the first copy
        if found := wrong(home, root, expected):
            print(f"WRONG after the kill before call {what if killed else 'none'}: {found}")
    print(f"calls: {number - 1}")


if __name__ == "__main__":
    main()
