"""The life of a request as one word: seven states and the moves between them.

Pure data. Every statement that writes a request's state takes the new one out of `MOVES_TO`.
"""

from __future__ import annotations

from enum import IntEnum

from lazyflow_core.errors import InternalError

__all__ = ["LEGAL_MOVES", "MAX_INLINE_DEPTH", "MOVES_TO", "NOTHING", "Nothing", "Priority", "RequestState"]


# IntEnum, not Enum: the hash of a plain Enum member runs Python code, and a move is looked up per request.
class RequestState(IntEnum):
    """Where a request is in its life.

    Examples
    --------
    >>> RequestState.SUSPENDED.is_terminal, RequestState.FAILED.is_terminal
    (False, True)
    """

    NEW = 0  #: nobody asked for it yet
    QUEUED = 1  #: submitted, no workload code has run
    RUNNING = 2  #: its workload runs, or waits for a child that runs in the same greenlet
    SUSPENDED = 3  #: left its worker until what it waits for is done
    FINISHED = 4  #: has a result
    FAILED = 5  #: its workload raised
    CANCELLED = 6  #: stopped before it had a result that anybody may see

    @property
    def is_terminal(self) -> bool:
        """Whether no move leads out of this state."""
        return self >= RequestState.FINISHED

    def __str__(self) -> str:
        return self.name


class Priority(IntEnum):
    """Three classes of urgency; within a class, work for an older root goes first."""

    INTERACTIVE = 0  #: somebody looks at the screen and waits
    NORMAL = 1
    BACKGROUND = 2  #: may wait until there is nothing else to do (but is never starved)


_S = RequestState

#: From each state the states that may follow. QUEUED has no way back: a request runs at most once.
LEGAL_MOVES: dict[RequestState, frozenset[RequestState]] = {
    # A claim makes RUNNING; a cancelled request that never ran goes straight to the end.
    _S.NEW: frozenset({_S.QUEUED, _S.RUNNING, _S.CANCELLED}),
    _S.QUEUED: frozenset({_S.RUNNING, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.SUSPENDED, _S.FINISHED, _S.FAILED, _S.CANCELLED}),
    # SUSPENDED to FAILED without RUNNING: only when its scheduler gave up on it while closing.
    _S.SUSPENDED: frozenset({_S.RUNNING, _S.FAILED}),
    _S.FINISHED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


class Moves(dict[RequestState, RequestState]):
    """The way into one state: each state it may follow, mapped to it. There is no way from any other."""

    def __init__(self, target: RequestState) -> None:
        super().__init__({before: target for before, after in LEGAL_MOVES.items() if target in after})
        self.target = target

    def __missing__(self, before: RequestState) -> RequestState:
        raise InternalError(
            f"a request that is {before.name} cannot become {self.target.name}. "
            "This is a bug in lazyflow_core, please report it."
        )


#: The same moves by their target: ``state = MOVES_TO[target][state]`` is a look at the table and the move in
#: one expression, without a call that a million requests would feel.
MOVES_TO: dict[RequestState, Moves] = {target: Moves(target) for target in RequestState}


class Nothing:
    """Stands for "no destination was given"; None is a legal destination."""

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING = Nothing()

#: Requests that run inside each other on one stack before the next one gets a fresh greenlet. A level is
#: three or four frames of ours; 24 leave 37 frames per level to workloads below Python's limit of 1000.
MAX_INLINE_DEPTH = 24
