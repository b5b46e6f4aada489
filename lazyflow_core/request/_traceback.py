"""Tracebacks without frames: they read the same and hold nothing.

The frames of a failed workload hold its arrays, and through ``f_back`` the frames of everybody who waited for
it on the same stack - with the very request among their variables. An exception that is kept with its request
would so be a reference cycle around big data, freed only by the cyclic collector. So a kept traceback is
rebuilt from frames that were made for the purpose: same code names, files, lines and columns, no variables,
nobody above them. Those of our own code ask by ``__tracebackhide__`` to be left out, which pytest and IPython
heed.
"""

from __future__ import annotations

import dis
import sys
from types import CodeType, FrameType, TracebackType
from typing import Any

from lazyflow_core.foreign import cause_of, context_of, is_a, set_traceback, traceback_of

from ._party import run_on_empty_stack

__all__ = ["lighten", "was_raised_by_the_call"]

#: Stand-in frames by the identity of a code object, which is kept for that, and the instruction that raised:
#: equal code may stand in two files, and a frame tells its line by its instruction. Emptied when full, for
#: code made at run time must not be kept for ever.
_stand_ins: dict[tuple[int, int], tuple[CodeType, FrameType]] = {}
MAX_STAND_INS = 4000

_FOR_LINECACHE = ("__name__", "__loader__", "__spec__", "__file__")

#: In the globals of every stand-in, and of no module.
_MARK = "__lazyflow_stand_in__"

#: What a stand-in executes: how code begins, nothing up to the instruction in question, there a bare raise.
_RAISE = bytes((dis.opmap["RAISE_VARARGS"], 0))
_NOTHING = bytes((dis.opmap["NOP"], 0))
_BEGIN = compile("raise", "stub", "exec").co_code.partition(_RAISE)[0]

_members_of: Any = BaseExceptionGroup.__dict__["exceptions"].__get__

_OUR_MODULES = tuple(__name__.rpartition(".")[0] + name for name in ("._core", "._request"))
_OUR_PACKAGES = tuple(__name__.partition(".")[0] + name for name in (".request.", ".graph."))


def lighten(error: BaseException, *, keep_variables: bool = False) -> None:
    """Replace the tracebacks of an exception and all it is chained to by ones that hold no data.

    With ``keep_variables``, for a debugger, they hold those of all code but ours, and still nobody above it.
    """
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        todo += (cause_of(each), context_of(each))
        if is_a(each, BaseExceptionGroup):
            todo += _members_of(each)
        traceback = traceback_of(each)
        # Our own frames around the workload say nothing to anybody.
        while traceback is not None and traceback.tb_next is not None and _is_ours(traceback.tb_frame):
            traceback = traceback.tb_next
        set_traceback(each, _light_copy(traceback, keep_variables))


def was_raised_by_the_call(error: BaseException) -> bool:
    """Return whether a workload raised before any Python code of its own ran: perhaps it cannot be called."""
    traceback = traceback_of(error)
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and _is_ours(traceback.tb_frame)


def _is_ours(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") in _OUR_MODULES and frame.f_code.co_name in ("_execute", "_run")


def _light_copy(traceback: TracebackType | None, keep_variables: bool) -> TracebackType | None:
    entries: list[TracebackType] = []
    # The newest entries come first; what was light before is so to its end.
    while traceback is not None and _MARK not in traceback.tb_frame.f_globals:
        entries.append(traceback)
        traceback = traceback.tb_next
    if traceback is not None and _begins_with(traceback, entries):
        return traceback  # raised again at the same place; or it would grow each time
    copy = traceback
    for entry in reversed(entries):
        frame = _heavy_stand_in(entry) if keep_variables else _stand_in(entry)
        copy = TracebackType(copy, frame, entry.tb_lasti, entry.tb_lineno)
    return copy


def _begins_with(traceback: TracebackType | None, entries: list[TracebackType]) -> bool:
    for entry in entries:
        known = _stand_ins.get((id(entry.tb_frame.f_code), entry.tb_lasti))
        if known is None or traceback is None or traceback.tb_frame is not known[1]:
            return False
        traceback = traceback.tb_next
    return True


def _stand_in(entry: TracebackType) -> FrameType:
    """Return a frame that shows the same place and holds nothing; the same one each time."""
    code, variables = entry.tb_frame.f_code, entry.tb_frame.f_globals
    known = _stand_ins.get((id(code), entry.tb_lasti))
    if known is None:
        # Enough of the module for linecache to find the source.
        some = {key: variables[key] for key in _FOR_LINECACHE if key in variables} | {_MARK: True}
        if _hides(variables):
            some["__tracebackhide__"] = True
        if len(_stand_ins) >= MAX_STAND_INS:
            _stand_ins.clear()
        known = code, run_on_empty_stack(_make_stand_in, code, entry.tb_lasti, some, some)
        _stand_ins[id(code), entry.tb_lasti] = known
    return known[1]


def _heavy_stand_in(entry: TracebackType) -> FrameType:
    """Return a frame that shows the same place and has a copy of its variables, unless they are ours."""
    frame = entry.tb_frame
    inner = {"__tracebackhide__": True} if _hides(frame.f_globals) else dict(frame.f_locals)
    outer = {**frame.f_globals, _MARK: True}
    return run_on_empty_stack(_make_stand_in, frame.f_code, entry.tb_lasti, outer, inner)


def _hides(variables: dict[str, Any]) -> bool:
    return str(variables.get("__name__")).startswith(_OUR_PACKAGES)


def _make_stand_in(code: CodeType, last: int, outer: dict[str, Any], inner: dict[str, Any]) -> FrameType:
    size = len(code.co_code)
    before = _BEGIN + _NOTHING * max(0, (last - len(_BEGIN)) // len(_NOTHING))
    stub = code.replace(
        co_code=(before + _RAISE).ljust(size, b"\0"),
        co_exceptiontable=b"",
        co_freevars=(),
        co_cellvars=(),
        co_varnames=(),
        co_nlocals=0,
        co_argcount=0,
        co_posonlyargcount=0,
        co_kwonlyargcount=0,
        co_stacksize=4,
        co_flags=0,
    )
    try:
        exec(stub, outer, inner)
    except BaseException as raised:
        return _take_frame(raised)  # not in a variable: what is above a stand-in must not hold it
    raise AssertionError(f"the stand-in of {code!r} did not raise on {sys.version}")


def _take_frame(raised: BaseException) -> FrameType:
    traceback: Any = raised.__traceback__
    raised.__traceback__ = None
    return traceback.tb_next.tb_frame  # type: ignore[no-any-return]
