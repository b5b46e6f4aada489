"""Exceptions of others: read, changed, told and logged without trusting them.

A workload, a plugin or a subscriber may raise anything: a frozen dataclass, which refuses to be assigned to;
one whose ``__str__`` raises, be it `SystemExit`; one whose attributes do. Whoever handles it in between must
neither lose it nor fail in its stead. So its fields are read and written as the interpreter does it, past its
class, and its own code runs here only, where whatever that raises becomes a word in the text.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from functools import wraps
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

__all__ = [
    "cause_of",
    "class_name",
    "contextmanager",
    "context_of",
    "is_a",
    "is_interrupt",
    "log_error",
    "logged",
    "note",
    "set_cause",
    "set_traceback",
    "shown",
    "sentence",
    "text_of",
    "traceback_of",
]

E = TypeVar("E", bound=BaseException)
P = ParamSpec("P")
T = TypeVar("T")

_fields: Any = BaseException.__dict__
_name_of: Any = type.__dict__["__name__"]


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception is a Ctrl-C, which is for the main thread and for nobody in between."""
    return is_a(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def is_a(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Return what an ``except`` clause would: `isinstance` asks the object, too."""
    return issubclass(type(error), kinds)


# ------------------------------------------------------------------------------------------------- its fields


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return ``error.__traceback__``."""
    return _fields["__traceback__"].__get__(error)  # type: ignore[no-any-return]


def cause_of(error: BaseException) -> BaseException | None:
    """Return ``error.__cause__``."""
    return _fields["__cause__"].__get__(error)  # type: ignore[no-any-return]


def context_of(error: BaseException) -> BaseException | None:
    """Return ``error.__context__``."""
    return _fields["__context__"].__get__(error)  # type: ignore[no-any-return]


def set_traceback(error: E, value: TracebackType | None) -> E:
    """Do what ``error.with_traceback(value)`` does, and return the exception."""
    _fields["__traceback__"].__set__(error, value)
    return error


def set_cause(error: E, cause: BaseException | None) -> E:
    """Do what ``raise error from cause`` does, without raising, and return the exception.

    Examples
    --------
    >>> set_cause(ValueError("bad block"), OSError("disk")).__cause__
    OSError('disk')
    """
    _fields["__cause__"].__set__(error, cause)
    return error


def note(error: BaseException, text: str) -> None:
    """Do what ``error.add_note(text)`` does; an exception that has something else for notes keeps that."""
    variables = _fields["__dict__"].__get__(error)
    notes = variables.get("__notes__")
    if notes is None or type(notes) is list:
        variables["__notes__"] = [*(notes or ()), text]


# ------------------------------------------------------------------------------------------------- its words


def class_name(error: object) -> str:
    """Return the name of its class."""
    return _name_of.__get__(type(error))  # type: ignore[no-any-return]


def text_of(error: object) -> str:
    """Return ``str(error)``, or why there is none.

    Examples
    --------
    >>> class Silent(Exception):
    ...     def __str__(self):
    ...         raise SystemExit("no comment")
    >>> text_of(Silent())
    '(its __str__ raised SystemExit)'
    """
    return _ask(str, error)


def shown(thing: object) -> str:
    """Return ``repr(thing)``, or why there is none.

    Examples
    --------
    >>> shown([1])
    '[1]'
    """
    return _ask(repr, thing)


def sentence(error: BaseException) -> str:
    """Return class and text of an exception, as the last line of a traceback has them.

    Examples
    --------
    >>> sentence(ValueError("bad block"))
    'ValueError: bad block'
    """
    text = text_of(error)
    return f"{class_name(error)}: {text}" if text else class_name(error)


def _ask(question: Callable[[object], str], thing: object) -> str:
    try:
        return str.__str__(question(thing))  # not a subclass of str, which could raise when it is formatted
    except BaseException as refused:
        if is_interrupt(refused):
            raise
        return f"(its __{question.__name__}__ raised {class_name(refused)})"


def log_error(
    logger: logging.Logger, message: str, *arguments: object, error: BaseException, level: int = logging.ERROR
) -> None:
    """Log an exception with its traceback; whatever it or a handler raises, the caller goes on.

    Parameters
    ----------
    message, arguments
        As for `logging.Logger.error`; arguments of others are given as `shown`.
    """
    try:
        where = traceback_of(error)
        try:
            traceback.TracebackException(type(error), error, where)  # as a handler will
        except BaseException as refused:
            if is_interrupt(refused):
                raise
            lines = "".join(traceback.format_tb(where))
            logger.log(level, "%s\n%s%s", message % arguments, lines, sentence(error))
        else:
            logger.log(level, message, *arguments, exc_info=(type(error), error, where))
    except BaseException as refused:
        if is_interrupt(refused):
            raise


class logged:
    """Let code of others run: what it raises is logged as an error and goes no further, except a Ctrl-C.

    Not only what is an `Exception`: a subscriber's ``SystemExit`` would end a worker, or keep the news from
    all subscribers after it.

    Parameters
    ----------
    logger, message, arguments
        As for `log_error`.

    Examples
    --------
    >>> with logged(logging.getLogger("quiet"), "%s failed", "it"):
    ...     raise SystemExit(1)
    """

    def __init__(self, logger: logging.Logger, message: str, *arguments: object) -> None:
        self._logger = logger
        self._message = message
        self._arguments = arguments

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> bool:
        if error is None or is_interrupt(error):
            return False
        log_error(self._logger, self._message, *self._arguments, error=error)
        return True


def contextmanager(function: Callable[P, Iterator[T]]) -> Callable[P, GeneratorContext[T]]:
    """Make a context manager of a generator, as `contextlib.contextmanager` does.

    That one assigns to the exception that passes through, which a frozen one refuses: it would be lost.

    Examples
    --------
    >>> @contextmanager
    ... def announced(what):
    ...     print("begin", what)
    ...     yield what
    ...     print("end")
    >>> with announced("work"):
    ...     pass
    begin work
    end
    """

    @wraps(function)
    def enter(*arguments: P.args, **keywords: P.kwargs) -> GeneratorContext[T]:
        generator: Any = function(*arguments, **keywords)
        return GeneratorContext(generator)

    return enter


class GeneratorContext(Generic[T]):
    """What a function under `contextmanager` returns, to be entered once."""

    def __init__(self, generator: Generator[T, None, None]) -> None:
        self._generator = generator

    def __enter__(self) -> T:
        return next(self._generator)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> bool | None:
        try:
            if error is None:
                next(self._generator)
            else:
                self._generator.throw(error)
        except StopIteration as end:
            return end is not error
        except BaseException as raised:
            # A StopIteration comes out of a generator as the cause of a RuntimeError.
            if error is None or (raised is not error and cause_of(raised) is not error):
                raise
            if raised is not error and not is_a(error, StopIteration):
                raise
            set_traceback(error, where)
            return False
        raise RuntimeError("a context manager goes on after its yield")
