"""The plan: its form in chain.json, the resume flag, and shells that swallow words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptrun.plan import Plan, changes, from_json, overridden, resume_words, swallowed_by_shell, to_json


@given(st.lists(st.text(st.characters(exclude_categories=())), min_size=1), st.booleans())
def test_round_trip_through_json(command: list[str], fresh: bool) -> None:
    """Any command, undecodable bytes included, comes back from chain.json as it was."""
    plan = Plan(tuple(command), checkpoints=("/a b",), margin_s=1.5, fresh=fresh)
    assert from_json(json.loads(json.dumps(to_json(plan)))) == plan


def test_a_newer_versions_keys_are_left_out() -> None:
    """An unknown key does not break an older ckptrun."""
    assert from_json({"command": ["x"], "invented": 1}) == Plan(("x",))


def test_resume_words_keep_a_path_with_blanks_in_one_word() -> None:
    """Filled in after the split; braces of the user's own stay."""
    words = resume_words("--from {checkpoint} --n={link} '{x} {chain}'", checkpoint="/a b/{link}.pt", link=3, chain="c")
    assert words == ("--from", "/a b/{link}.pt", "--n=3", "{x} c")


@pytest.mark.parametrize(
    ("command", "corrected"),
    [
        (("bash", "-c", "python t.py"), """bash -c 'python t.py "$@"' bash"""),
        (
            ("singularity", "exec", "i.sif", "/bin/sh", "-lc", "a; b"),
            """singularity exec i.sif /bin/sh -lc 'a; b "$@"' sh""",
        ),
        (("bash", "-c", 'python t.py "$@"', "bash"), None),
        (("bash", "-c", "exec $0", "x"), None),
        (("bash", "t.sh"), None),
        (("python", "-c", "1"), None),
        (("bash", "--norc", "-c", "python t.py"), """bash --norc -c 'python t.py "$@"' bash"""),
    ],
)
def test_a_shell_that_swallows_appended_words(command: tuple[str, ...], corrected: str | None) -> None:
    """`bash -c TEXT` without `$@` never sees appended words; the corrected line is offered."""
    assert swallowed_by_shell(command) == corrected


def test_what_persons_gave_when_they_went_on_holds() -> None:
    """Options of later resumes win over earlier ones, and both over the chain's; what is no options counts nothing."""
    own = {"command": ["x"], "max_links": 3, "margin_s": 5.0}
    facts = [{"kind": "start"}, {"options": {"max_links": 9, "retries": 1}}, {"options": "torn"}, {"options": {"max_links": 12}}]
    assert overridden(own, facts) == {"command": ["x"], "max_links": 12, "margin_s": 5.0, "retries": 1}
    assert own["max_links"] == 3


def test_what_changes_is_said_as_it_is_typed() -> None:
    """The names and the forms of the command line: no field's name, no seconds, no None."""
    before = to_json(Plan(("x",), checkpoints=("/a",), limit_s=60.0))
    after = {
        "limit_s": 7200.0,
        "max_links": 40,
        "margin_s": 600.0,
        "checkpoints": ["/a", "/b c"],
        "signal": "auto",
        "again_exit": 85,
    }
    assert changes(before, after) == [
        "--time-limit: 2 h instead of 60 s",
        "--max-links: 40 instead of the default",
        "--margin: 10 min instead of the default",
        "--checkpoint: /a, /b c instead of /a",
        "--again-exit: 85 instead of the default",
    ]
    assert changes({"max_links": 40}, {"max_links": None}) == ["--max-links: the default instead of 40"]
