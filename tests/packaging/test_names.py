"""One name, one meaning: no two classes of the core and the plugins are called alike."""

import ast
import re
from collections import defaultdict

from .distributions import ALL, ROOT

#: Names that several modules may have, and why.
SHARED = {
    "Plan": "what setup prepares has one name in all operators; each module's own is private to it",
}


def sources():
    """Yield the modules of the core and of the plugins."""
    for distribution in ALL:
        for path in sorted(distribution.sources()):
            if path.suffix == ".py":
                yield distribution.folder / path


def test_no_two_classes_have_one_name():
    """A private one counts, too: whoever reads both modules has one word for two things."""
    places = defaultdict(set)
    for path in sources():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].add(str(path.relative_to(ROOT)))
    twice = {name: sorted(found) for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name not in SHARED} == {}
    assert SHARED.keys() <= twice.keys(), "a name on the list is no longer shared"


def test_modules_and_messages_have_one_did_you_mean():
    """Near misses are found, and said, by `lazyflow_core.words` only."""
    found = [
        str(path.relative_to(ROOT))
        for path in sources()
        if "get_close_matches" in path.read_text(encoding="utf-8")
    ]
    assert found == ["lazyflow_core/words.py"]


def test_what_a_verdict_means_to_who_waited_is_said_in_one_place():
    """Else each kind of wait has its own idea of a cancelled or closed one."""
    asks = re.compile(r"is (?:not )?Verdict\.(?:CANCELLED|TIMED_OUT)")
    room = ROOT / "lazyflow_core" / "request"
    found = {path.name for path in room.glob("*.py") if asks.search(path.read_text(encoding="utf-8"))}
    # The worker asks whether a deadline is still to be kept, of a wait that goes on.
    assert found == {"_wait.py", "_worker.py"}
