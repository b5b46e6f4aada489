"""Words of sentences about mistakes stand once."""

import re
from pathlib import Path

import lazyflow_core
from lazyflow_core.words import near_miss

ROOT = Path(lazyflow_core.__file__).parent


def test_several_near_misses_are_joined_and_shown_as_they_are_written():
    shown = {"acme-ops": "Acme_Ops", "acme-opt": "acme.opt"}
    assert near_miss("acme-op", shown, most=2, shown=shown) == "; did you mean 'acme.opt' or 'Acme_Ops'?"


def test_nothing_near_is_said_as_the_caller_wants_it():
    assert near_miss("x", ["sigma"], otherwise="; there is sigma.") == "; there is sigma."


def test_did_you_mean_stands_in_one_file_of_the_core():
    asks = [
        path.relative_to(ROOT).as_posix()
        for path in sorted(ROOT.rglob("*.py"))
        if re.search(r"get_close_matches|[Dd]id you mean", path.read_text("utf-8"))
    ]
    assert asks == ["words.py"]
