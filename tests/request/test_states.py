"""The transition table: which moves there are, and that no other is possible."""

import re
from itertools import product

import pytest

from lazyflow_core.errors import InternalError
from lazyflow_core.request import Request, RequestState
from lazyflow_core.request._state import LEGAL_MOVES

ILLEGAL = [(a, b) for a, b in product(RequestState, repeat=2) if b not in LEGAL_MOVES[a]]


def test_every_state_can_be_reached_and_every_living_one_can_end():
    reachable = set().union(*LEGAL_MOVES.values())
    assert reachable == set(RequestState) - {RequestState.NEW}
    for state in RequestState:
        seen, todo = {state}, [state]
        while todo:
            for following in LEGAL_MOVES[todo.pop()] - seen:
                seen.add(following)
                todo.append(following)
        assert any(each.is_terminal for each in seen)


@pytest.mark.parametrize(("before", "after"), ILLEGAL, ids=lambda state: state.name)
def test_an_illegal_move_is_refused(before, after):
    request = Request(lambda: 1)
    request._state = before
    with pytest.raises(InternalError, match=f"cannot become {after.name}"):
        request._move(after)
    assert request.state is before


@pytest.mark.parametrize("state", [RequestState.FINISHED, RequestState.FAILED, RequestState.CANCELLED])
def test_no_move_leads_out_of_the_end(state):
    assert state.is_terminal
    assert not LEGAL_MOVES[state]


def test_whatever_writes_a_state_takes_it_out_of_the_table_of_moves():
    from pathlib import Path

    import lazyflow_core.request

    writers = [
        (path.name, line.strip())
        for path in Path(lazyflow_core.request.__file__).parent.glob("*.py")
        for line in path.read_text().splitlines()
        if "._state = " in line
    ]
    assert writers.count(("_core.py", "self._state = NEW")) == 1
    writers.remove(("_core.py", "self._state = NEW"))
    assert len(writers) >= 4
    for file, line in writers:
        assert file in ("_core.py", "_request.py"), "a request changes its own state, nobody else"
        assert re.fullmatch(r"self\._state = (MOVES_TO\[\w+\]|TO_[A-Z]+)\[(self\._state|state)\]", line)


def test_greenlet_is_imported_in_one_file_only():
    from pathlib import Path

    import lazyflow_core.request

    folder = Path(lazyflow_core.request.__file__).parent
    assert [p.name for p in folder.glob("*.py") if "from greenlet" in p.read_text()] == ["_party.py"]
