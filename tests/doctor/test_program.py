"""The checks of training programs: the guide's own, what people write, and programs that are right."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptrun.doctor.program import ABOUT, judge

ROOT = Path(__file__).parents[2]
GUIDE = {
    "guide_pickle.py": [(7, "save-in-place")],
    "guide_pytorch.py": [(49, "newest-by-number")],
    "guide_tensorflow.py": [(42, "keras-weights"), (46, "keras-period")],
}
WRONG = {
    "the only copy": ("import torch\nfor e in range(9):\n    torch.save({'e': e}, 'ck/last.pt')\n", (3, "save-in-place")),
    "the only copy, joined": ("import os, torch\ntorch.save(1, os.path.join(OUT, 'last.pt'))\n", (2, "save-in-place")),
    "the only copy, opened": (
        "import json\ndef save(s):\n    with open('state.json', mode='w') as f:\n        json.dump(s, f)\n",
        (4, "save-in-place"),
    ),
    "only on Ctrl-C": (
        "import torch\ntry:\n    train()\nexcept KeyboardInterrupt:\n    torch.save(m, f'ck/{step}.pt')\n",
        (5, "save-on-interrupt"),
    ),
    "only on Ctrl-C, by a function": (
        (
            "import pickle\ndef save(n):\n    with open(f'{n}.pkl', 'wb') as f:\n        pickle.dump(n, f)\ntry:\n    go()\n"
            "except (KeyboardInterrupt, SystemExit):\n    save(3)\n"
        ),
        (8, "save-on-interrupt"),
    ),
    "the newest by number": (
        "import os\nn = max(int(f.split('.')[0]) for f in os.listdir('ck'))\n",
        (2, "newest-by-number"),
    ),
    "period": ("cb = ModelCheckpoint('a.keras', period=1)\n", (1, "keras-period")),
    "weights": ("import keras\ncb = keras.callbacks.ModelCheckpoint(filepath='ck/{epoch}.ckpt')\n", (2, "keras-weights")),
    "no Python": ("#!/usr/bin/env python\nprint 'a'\n", (2, "syntax")),
}
RIGHT = {
    "a name for each save": "import torch\ntorch.save(m, f'ck/{step}.pt')\ntorch.save(m, 'ck/%d.pt' % step)\n",
    "a rename": "import os, pickle\nwith open('a.tmp', 'wb') as f:\n    pickle.dump(1, f)\nos.replace('a.tmp', 'a')\n",
    "a rename of a path": "from pathlib import Path\nimport torch\ntorch.save(1, 'a.tmp')\nPath('a.tmp').replace('a')\n",
    "atomic_path": "import ckptrun, torch\nwith ckptrun.atomic_path('a.pt') as path:\n    torch.save(1, path)\n",
    "both": (
        "import torch\ntry:\n    for s in range(9):\n        torch.save(s, f'{s}.pt')\n"
        "except KeyboardInterrupt:\n    torch.save(s, f'{s}.pt')\n"
    ),
    "only those that are numbers": "import os\nn = max(int(f[:-3]) for f in os.listdir('ck') if f.endswith('.pt'))\n",
    "something else": "n = max(int(x) for x in '1 2 3'.split())\nprint('a'.replace('a', 'b'))\n",
    "keras": "ModelCheckpoint('ck/{epoch}.keras', save_freq='epoch')\n",
    "nothing": "",
}


@pytest.mark.parametrize("name", GUIDE)
def test_the_programs_of_the_guide(name: str) -> None:
    """What does not stand a kill in each, at its line."""
    found = judge((ROOT / "tests" / "programs" / name).read_text())
    assert [(one.line, one.rule) for one in found] == GUIDE[name]
    assert all(one.advice for one in found)


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_found_at_its_line(name: str) -> None:
    """One each, and every rule of the reference has one."""
    text, expected = WRONG[name]
    assert [(one.line, one.rule) for one in judge(text)] == [expected]
    assert {rule for _, (_, rule) in WRONG.values()} == {*ABOUT, "syntax"}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_has_none(name: str) -> None:
    """No false alarm."""
    assert judge(RIGHT[name]) == ()


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "slurm-templates").rglob("*.py")), ROOT / "ckptrun/demo/training.py"],
    ids=lambda path: path.parent.name,
)
def test_what_this_project_recommends_is_right(path: Path) -> None:
    """The programs of the templates, and the demo's."""
    assert judge(path.read_text()) == ()


@given(st.text(max_size=200))
def test_any_text_is_judged(text: str) -> None:
    """Whatever a file holds, nothing is raised."""
    judge(text)
