"""Every public exception of the framework, one family.

Each class stands for one cause and builds nothing itself: the sentence is written where the facts are,
in the order *where - what was given - what holds - what to do*. Errors that the standard library has a
name for derive from that builtin too, so ``except ValueError`` keeps working.

`CancelledError` is the one that is not a `LazyflowError`: it derives from `BaseException`, so that an
``except Exception`` in an operator cannot revive a cancelled request.
"""

from __future__ import annotations

#: Operators that an error names on its way; chains of operators are seldom longer.
_MOST_STEPS = 60

__all__ = [
    "AxesError",
    "CancelledError",
    "CircularWaitError",
    "ConnectError",
    "ExecuteError",
    "FormatError",
    "GraphError",
    "InternalError",
    "LazyflowError",
    "MemoryBudgetError",
    "MetaError",
    "NestingError",
    "NoReaderError",
    "NotReadyError",
    "OperatorConflictError",
    "OperatorLoadError",
    "ParameterError",
    "PipelineError",
    "PluginError",
    "RequestCancelledError",
    "RequestError",
    "RequestStateError",
    "RequestTimeoutError",
    "ResultError",
    "RoiBoundsError",
    "RoiError",
    "SchedulerClosedError",
    "SetupError",
    "StorageError",
    "TargetExistsError",
    "UnknownOperatorError",
]


class LazyflowError(Exception):
    """Base of all errors that a caller, a plugin or a file can cause."""


class InternalError(LazyflowError):
    """A bug in the framework itself; please report it."""


# ---------------------------------------------------------------------------------------------------- values


class RoiError(LazyflowError, ValueError):
    """A region that is not one: start after stop, other lengths, numbers that are no integers."""


class RoiBoundsError(RoiError, IndexError):
    """A region that reaches outside the array it is asked of."""


class AxesError(LazyflowError, ValueError):
    """Axes that are unknown, double, or do not fit the shape or the operator."""


class MetaError(LazyflowError, ValueError):
    """Metadata that contradicts itself."""


# -------------------------------------------------------------------------------------------------- requests


class CancelledError(BaseException):
    """Raised inside a cancelled request at its next wait, lock or checkpoint. Clean up and re-raise it."""


class RequestError(LazyflowError):
    """A request failed; ``__cause__`` is the exception its workload raised.

    Every waiter gets an exception of its own, all with the same cause.
    """


class RequestCancelledError(RequestError):
    """Somebody waits for a request that was cancelled."""


class RequestTimeoutError(RequestError, TimeoutError):
    """A wait took longer than its timeout. The request itself goes on."""


class CircularWaitError(RequestError):
    """Requests or locks wait for each other in a circle, or regions need themselves; the text names them."""


class NestingError(RequestError, RecursionError):
    """Requests wait for requests deeper than any program needs: a recursion without an end."""


class RequestStateError(RequestError):
    """A call that the state of the request forbids, such as asking for the result before the end."""


class SchedulerClosedError(RequestError):
    """The scheduler was closed, or belongs to the process this one was forked from."""


# ----------------------------------------------------------------------------------------------------- graph


class GraphError(LazyflowError):
    """A call that the state of the graph forbids."""


class ConnectError(GraphError):
    """Two slots that cannot be connected; the text names both ends."""


class ParameterError(GraphError, ValueError):
    """A parameter value of the wrong type, or one that its declaration forbids."""


class SetupError(GraphError):
    """``setup_outputs`` failed or refused its inputs. The graph answers as before the change."""


class NotReadyError(GraphError):
    """A slot was asked that has nothing to answer with; the text leads to the first culprit."""


class ExecuteError(RequestError):
    """An operator failed to compute a region; names operator, slot and ROI; ``__cause__`` is why.

    Attributes
    ----------
    path
        One line per operator passed through, from the operator that failed to the slot that was asked. Of a
        very long way the middle is left out.
    """

    def __init__(self, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path

    def add_step(self, step: str) -> None:
        """Note that it passed through one more operator; a way that goes in a circle is told once."""
        path = self.path
        if step in path:
            return
        if len(path) > _MOST_STEPS:
            path = (*path[:-2], "...") if path[-2] != "..." else path[:-1]
        self.path = (*path, step)

    def __str__(self) -> str:
        return "\n".join([str(self.args[0]), *(f"  asked by {step}" for step in self.path)])


class ResultError(GraphError, ValueError):
    """An operator returned an array of another shape or dtype than it was asked for."""


class MemoryBudgetError(LazyflowError):
    """What is asked for needs more memory than it may take; nothing was begun."""


# --------------------------------------------------------------------------------------- plugins, pipelines


class PluginError(LazyflowError):
    """A plugin could not be loaded, or broke the contract of a hook. Others are unaffected."""


class UnknownOperatorError(PluginError, LookupError):
    """No installed distribution offers an operator of that id."""


class OperatorLoadError(PluginError):
    """An operator is installed, but importing it failed; ``__cause__`` is why."""


class OperatorConflictError(PluginError):
    """Two distributions offer the same operator id."""


class PipelineError(LazyflowError, ValueError):
    """A pipeline description that cannot be built; names the table, what was given, what is possible."""


# --------------------------------------------------------------------------------------------------- storage


class FormatError(LazyflowError, ValueError):
    """A file that is truncated, of another kind, or holds what no reader here understands."""


class NoReaderError(FormatError):
    """Nothing that is installed opens a file; the text says how each reader was asked."""


class StorageError(LazyflowError, OSError):
    """Reading or writing failed for a reason outside the file's contents: full disk, no permission."""

    def __str__(self) -> str:
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class TargetExistsError(StorageError, FileExistsError):
    """A target exists already and overwriting was not asked for."""
