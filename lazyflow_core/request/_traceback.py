"""Tracebacks without frames: they read the same and hold nothing.

The frames of a failed workload hold its arrays, and through ``f_back`` the frames of everybody who waited for
it on the same stack - with the very request among their variables. An exception that is kept with its request
would so be a reference cycle around big data, freed only by the cyclic collector. So a kept traceback is
rebuilt from frames that were made for the purpose: same code names, files, lines and columns, no variables,
nobody above them.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any

from ._party import run_on_empty_stack

__all__ = ["lighten", "was_raised_by_the_call"]

#: A stand-in frame per code object. Emptied when full: code made at run time must not be kept for ever.
_stand_ins: dict[CodeType, FrameType] = {}
MAX_STAND_INS = 1000

_STUB = compile("raise", "stub", "exec").co_code


_OUR_MODULES = tuple(__name__.rpartition(".")[0] + name for name in ("._core", "._request"))


def lighten(error: BaseException) -> None:
    """Replace the tracebacks of an exception and all it is chained to by ones that hold no data."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        todo += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            todo += each.exceptions
        traceback = each.__traceback__
        # Our own frames around the workload say nothing to anybody.
        while traceback is not None and traceback.tb_next is not None and _is_ours(traceback.tb_frame):
            traceback = traceback.tb_next
        each.__traceback__ = _light_copy(traceback)


def was_raised_by_the_call(error: BaseException) -> bool:
    """Return whether a workload raised before any Python code of its own ran: perhaps it cannot be called."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and _is_ours(traceback.tb_frame)


def _is_ours(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") in _OUR_MODULES and frame.f_code.co_name in ("_execute", "_run")


def _light_copy(traceback: TracebackType | None) -> TracebackType | None:
    entries = []
    while traceback is not None:
        entries.append(
            (traceback.tb_frame.f_code, traceback.tb_frame.f_globals, traceback.tb_lasti, traceback.tb_lineno)
        )
        traceback = traceback.tb_next
    copy = None
    for code, variables, last, line in reversed(entries):
        frame = _stand_ins.get(code)
        if frame is None:
            frame = run_on_empty_stack(_make_stand_in, code, variables)
            if len(_stand_ins) >= MAX_STAND_INS:
                _stand_ins.clear()
            _stand_ins[code] = _stand_ins[frame.f_code] = frame
        copy = TracebackType(copy, frame, last, line)
    return copy


def _make_stand_in(code: CodeType, variables: dict[str, Any]) -> FrameType:
    # Enough of the module for linecache to find the source.
    some: dict[str, Any] = {
        name: variables[name]
        for name in ("__name__", "__loader__", "__spec__", "__file__")
        if name in variables
    }
    size = len(code.co_code)
    stub = code.replace(
        co_code=_STUB + bytes(max(0, size - len(_STUB))),
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
        FunctionType(stub, some)()
    except BaseException as raised:
        frame = raised.__traceback__.tb_next.tb_frame  # type: ignore[union-attr]
        raised.__traceback__ = None
        return frame
    raise AssertionError(f"the stand-in of {code!r} did not raise on {sys.version}")
