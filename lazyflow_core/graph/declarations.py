"""What an operator's class body declares: its slots, and what each of them accepts.

A declaration is shared by all operators of a class and never changes. It makes the bound slot of each
operator, which lives in the operator's ``__dict__`` under the same name.
"""

from __future__ import annotations

import numbers
import os
import types
import typing
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from lazyflow_core.errors import GraphError, ParameterError
from lazyflow_core.graph.arrays import Input, Output
from lazyflow_core.graph.multi import MultiInput, MultiOutput, MultiParameter, MultiValueOutput
from lazyflow_core.graph.slots import Slot
from lazyflow_core.graph.values import Parameter, ValueOutput
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.words import near_miss, short

if TYPE_CHECKING:
    from lazyflow_core.graph.operator import Operator

__all__ = ["Declaration", "InputSlot", "OutputSlot", "ParameterSlot"]

T = TypeVar("T")
S = TypeVar("S", bound=Slot)


class _Required:
    """The default of a parameter that has none."""


_REQUIRED = _Required()


class Declaration(Generic[S]):
    """A slot in a class body.

    Reading it from an operator gives the bound slot. It has no ``__set__``: the bound slot in the
    operator's ``__dict__`` is found first, so that access costs no call; `Operator.__setattr__` refuses
    what would overwrite it.
    """

    name: str
    doc: str
    #: 0 for one slot, 1 for a list of slots, 2 for a list of lists, …
    level: int

    def __init__(self, doc: str, level: int = 0) -> None:
        if level < 0:
            raise GraphError(f"level={level}: 0 is one slot, 1 a list of slots.")
        self.name = ""
        self.doc = doc
        self.level = level

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> typing.Self: ...
    @overload
    def __get__(self, instance: Operator, owner: type) -> S: ...
    @overload  # never happens; for type checkers, which take `Slot.declaration` for a class attribute
    def __get__(self, instance: Slot, owner: type) -> typing.Self: ...
    def __get__(self, instance: Operator | Slot | None, owner: type) -> typing.Self | S:
        if instance is None:
            return self
        raise AttributeError(
            f"{owner.__name__}.{self.name} is used before the operator has its slots; "
            "call super().__init__(**slots) first."
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.describe()}>"

    def bind(self, operator: Operator) -> S:
        """Make the slot of one operator."""
        raise NotImplementedError

    def describe(self, level: int | None = None) -> str:
        """Return what this slot, or an element of it of that level, is in a few words."""
        raise NotImplementedError


class InputSlot(Declaration[S]):
    """Declare an array that an operator reads by region.

    Parameters
    ----------
    optional
        Whether the operator works without it; it then asks ``self.image.ready`` first.
    dtype
        The only dtype accepted, or several of them; default any.
    axes
        The axis keys accepted, in this order (``"zyx"``); default any.
    ndim
        The number of axes accepted; default any.
    level
        0 for one slot, 1 for a list of slots (`MultiInput`), 2 for a list of lists, …
    doc
        One sentence for listings.
    """

    @overload
    def __init__(
        self: InputSlot[Input],
        *,
        optional: bool = False,
        dtype: npt.DTypeLike | Collection[npt.DTypeLike] | None = None,
        axes: str | None = None,
        ndim: int | None = None,
        doc: str = "",
    ) -> None: ...
    @overload
    def __init__(
        self: InputSlot[MultiInput],
        *,
        level: int,
        optional: bool = False,
        dtype: npt.DTypeLike | Collection[npt.DTypeLike] | None = None,
        axes: str | None = None,
        ndim: int | None = None,
        doc: str = "",
    ) -> None: ...
    def __init__(
        self,
        *,
        level: int = 0,
        optional: bool = False,
        dtype: npt.DTypeLike | Collection[npt.DTypeLike] | None = None,
        axes: str | None = None,
        ndim: int | None = None,
        doc: str = "",
    ) -> None:
        super().__init__(doc, level)
        self.optional = optional
        if dtype is None:
            self.dtypes: tuple[np.dtype[Any], ...] = ()
        else:
            several = dtype if isinstance(dtype, (list, tuple, set, frozenset)) else (dtype,)
            self.dtypes = tuple(np.dtype(cast("npt.DTypeLike", d)) for d in several)
        self.axes = axes
        self.ndim = ndim

    def bind(self, operator: Operator) -> S:
        """Make the input of one operator."""
        slot = MultiInput(operator, self, self.level) if self.level else Input(operator, self)
        return cast(S, slot)

    def refusal(self, meta: ArrayMeta) -> str | None:
        """Return why an array of that meta is not accepted; None if it is."""
        if self.dtypes and meta.dtype not in self.dtypes:
            return f"dtype {meta.dtype} is not {' or '.join(map(str, self.dtypes))}"
        if self.ndim is not None and meta.ndim != self.ndim:
            return f"{meta.ndim} axes are not {self.ndim}"
        if self.axes is not None and meta.axes.keys != self.axes:
            return f"axes {meta.axes.keys!r} are not {self.axes!r}"
        return None

    def describe(self, level: int | None = None) -> str:
        """Return e.g. ``"array, float32, axes 'zyx', optional"``."""
        parts = [_lists(self.level if level is None else level), *map(str, self.dtypes)]
        if self.axes is not None:
            parts.append(f"axes {self.axes!r}")
        if self.ndim is not None:
            parts.append(f"{self.ndim}-D")
        if self.optional:
            parts.append("optional")
        return ", ".join(parts)


class OutputSlot(Declaration[S]):
    """Declare an array that an operator computes by region, or one Python value.

    Parameters
    ----------
    value
        The type of the value, for an output that computes one (`ValueOutput`) in ``compute_value``; default
        an array.
    level
        0 for one slot, 1 for a list of slots (`MultiOutput`, of values `MultiValueOutput`), 2 for a list of
        lists, …
    doc
        One sentence for listings.
    """

    @overload
    def __init__(self: OutputSlot[Output], *, doc: str = "") -> None: ...
    @overload
    def __init__(self: OutputSlot[MultiOutput], *, level: int, doc: str = "") -> None: ...
    @overload
    def __init__(self: OutputSlot[ValueOutput[T]], *, value: type[T], doc: str = "") -> None: ...
    @overload
    def __init__(
        self: OutputSlot[MultiValueOutput], *, value: type[T], level: int, doc: str = ""
    ) -> None: ...
    def __init__(self, *, value: type[Any] | None = None, level: int = 0, doc: str = "") -> None:
        super().__init__(doc, level)
        self.value_type = value

    def bind(self, operator: Operator) -> S:
        """Make the output of one operator."""
        slot: Slot
        if self.level:
            several = MultiOutput if self.value_type is None else MultiValueOutput
            slot = several(operator, self, self.level)
        else:
            slot = Output(operator, self) if self.value_type is None else ValueOutput(operator, self)
        return cast(S, slot)

    def describe(self, level: int | None = None) -> str:
        """Return e.g. ``"array"``, ``"list of arrays"``, ``"one dict"`` or ``"list of dict values"``."""
        level = self.level if level is None else level
        if self.value_type is None:
            return _lists(level)
        text = type_text(self.value_type)
        return _lists(level, f"{text} values") if level else f"one {text}"


class ParameterSlot(Declaration["Parameter[T]"], Generic[T]):
    """Declare one typed Python value that an operator depends on.

    Parameters
    ----------
    type
        What a value must be: a class, a union of classes, or ``None`` in a union. Integers are accepted
        for ``float``, lists for ``tuple`` and paths for ``str``; booleans are no numbers.
    default
        Its value until one is given. Without a default the operator is not ready before it has one.
    choices
        The only values accepted.
    range
        The smallest and the largest number accepted, both included, None where there is no limit; of a tuple,
        for each number in it.
    usual
        From where to where a slider of a user interface goes, inside of the range; other numbers are
        accepted, too. Default the range, where that has both ends.
    step
        How far apart neighbouring numbers are on that slider; numbers in between are accepted, too. Default
        1 for integers, and as the user interface likes otherwise.
    check
        Called with a value of the right type; returns a sentence that says why it is refused, or None.
    level
        0 for one value, 1 for a list of slots with a value each (`MultiParameter`), 2 for a list of lists, …
    state
        Whether it is what the operator's own methods write, such as what a user painted: a value of the graph
        like any other, with versions and transactions, that is saved elsewhere and no part of a pipeline.
    doc
        One sentence for listings.

    Examples
    --------
    >>> sigma = ParameterSlot(float, default=1.0, check=lambda s: None if s > 0 else "must be positive")
    >>> sigma.accept(2, "sigma")
    2.0
    >>> sigma.accept(-1.0, "OpBlur.sigma")
    Traceback (most recent call last):
    ...
    lazyflow_core.errors.ParameterError: OpBlur.sigma: -1.0 must be positive.
    >>> ParameterSlot(int, default=50, range=(0, 100)).accept(101, "OpRank.percent")
    Traceback (most recent call last):
    ...
    lazyflow_core.errors.ParameterError: OpRank.percent: 101 is outside 0 to 100.
    """

    def __init__(
        self,
        type: type[T] | Any,
        *,
        default: T | _Required = _REQUIRED,
        choices: Collection[T] | None = None,
        range: tuple[float | None, float | None] | None = None,
        usual: tuple[float, float] | None = None,
        step: float | None = None,
        check: Callable[[T], str | None] | None = None,
        level: int = 0,
        state: bool = False,
        doc: str = "",
    ) -> None:
        super().__init__(doc, level)
        self.type = type
        self.state = state
        self.choices = None if choices is None else tuple(choices)
        self.range = None if range is None else _limits(range, type)
        self.usual = self.range if usual is None else _limits(usual, type)
        if self.usual is not None and None in self.usual:
            self.usual = None
        if usual is not None and not (self.usual and all(_within(n, self.range) for n in usual)):
            raise GraphError(f"usual={usual!r}: it is two numbers inside of range={range!r}.")
        integers = self.usual is not None and int in _alternatives(type) and float not in _alternatives(type)
        self.step = 1 if step is None and integers else step
        if step is not None and not step > 0:
            raise GraphError(f"step={step!r}: the distance of neighbouring numbers is positive.")
        self.check = check
        self.has_default = not isinstance(default, _Required)
        self.default = self.accept(default, "the default of a parameter") if self.has_default else None

    def bind(self, operator: Operator) -> Parameter[T]:
        """Make the parameter of one operator; a `MultiParameter` where the level says so."""
        return (
            cast("Parameter[T]", MultiParameter(operator, self, self.level))
            if self.level
            else Parameter(operator, self)
        )

    def accept(self, value: Any, where: str) -> T:
        """Return a value in the declared type.

        Raises
        ------
        ParameterError
            If it is of another type or not allowed; begins with ``where``.
        """
        __tracebackhide__ = True
        converted = _convert(value, _alternatives(self.type))
        if converted is _REFUSED:
            raise ParameterError(f"{where}: {short(value)} is {_article(value)}, not {type_text(self.type)}.")
        if type(converted) is float and isinstance(value, numbers.Integral) and converted != int(value):
            # A level that moved by one would mark other pixels of a 64-bit image.
            raise ParameterError(f"{where}: no float holds {value!r}; the nearest one is {int(converted)}.")
        if self.choices is not None and converted not in self.choices:
            hint = near_miss(str(converted), map(str, self.choices))
            raise ParameterError(
                f"{where}: {short(value)} is not one of {', '.join(map(repr, self.choices))}{hint}"
            )
        if self.range is not None:
            for number in _numbers(converted):
                if not _within(number, self.range):
                    held = f"holds {number!r}, which " if type(converted) is tuple else ""
                    raise ParameterError(f"{where}: {short(value)} {held}is {_refusal(number, self.range)}.")
        if self.check is not None:
            complaint = self.check(converted)
            if complaint:
                raise ParameterError(f"{where}: {short(value)} {complaint.rstrip('.')}.")
        return cast(T, converted)

    def admits(self, type_: Any) -> bool:
        """Whether some value of that type, a class or a union, may be accepted.

        Examples
        --------
        >>> sigma = ParameterSlot(float | tuple)
        >>> sigma.admits(int), sigma.admits(list | str), sigma.admits(str), sigma.admits(object)
        (True, True, False, True)
        """
        return any(
            issubclass(given, accepted)
            or issubclass(accepted, given)
            or (accepted is float and issubclass(given, numbers.Real))
            or (accepted is tuple and issubclass(given, list))
            or (accepted is str and issubclass(given, os.PathLike))
            for given in _alternatives(type_)
            for accepted in _alternatives(self.type)
            if bool not in (given, accepted) or given is accepted or object in (given, accepted)
        )

    def describe(self, level: int | None = None) -> str:
        """Return e.g. ``"float, default 1.0"``, ``"list of float values"``."""
        level = self.level if level is None else level
        parts = [_lists(level, f"{type_text(self.type)} values") if level else type_text(self.type)]
        if self.choices is not None:
            parts.append("one of " + ", ".join(map(repr, self.choices)))
        if self.range is not None:
            parts.append(_range_text(self.range))
        if self.has_default or not level:
            parts.append(f"default {short(self.default)}" if self.has_default else "required")
        return ", ".join(parts)


def _lists(level: int, things: str = "arrays") -> str:
    return "array" if level == 0 else "list of " + "lists of " * (level - 1) + things


def type_text(type_: Any) -> str:
    """Return how a declared type is written."""
    return type_.__name__ if isinstance(type_, type) else str(type_).replace("typing.", "")


def _limits(limits: Any, type_: Any) -> tuple[float | None, float | None]:
    """Return a range, if it is one that a parameter of that type can have."""
    if not isinstance(limits, tuple) or len(limits) != 2:
        raise GraphError(f"range={limits!r}: it is two numbers, the smallest and the largest.")
    low, high = limits
    if any(limit is not None and not isinstance(limit, numbers.Real) for limit in limits) or (
        low is not None and high is not None and not low <= high
    ):
        raise GraphError(f"range={limits!r}: it is two numbers, the smaller one first, None for no limit.")
    if not {int, float, tuple} & set(_alternatives(type_)):
        raise GraphError(f"range={limits!r}: a parameter of type {type_text(type_)} has no numbers.")
    return low, high


def _refusal(number: float, limits: tuple[float | None, float | None]) -> str:
    """Return what a number is that is not in a range."""
    low, high = limits
    if number != number:
        return "no number"
    if low is not None and high is not None:
        return f"outside {_range_text(limits)}"
    return f"less than {low}" if low is not None else f"more than {high}"


def _within(number: float, limits: tuple[float | None, float | None] | None) -> bool:
    """Whether a number is in a range; NaN is in none."""
    low, high = limits or (None, None)
    return (low is None or number >= low) and (high is None or number <= high) and number == number


def _numbers(value: Any) -> typing.Iterator[float]:
    """Give the number that a value is, or those in a tuple."""
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        yield cast(float, value)


def _range_text(limits: tuple[float | None, float | None]) -> str:
    low, high = limits
    if low is None:
        return "any number" if high is None else f"numbers up to {high}"
    return f"numbers from {low} on" if high is None else f"{low} to {high}"


_REFUSED = object()


def _alternatives(type_: Any) -> tuple[type, ...]:
    """Return the classes that a declared type admits."""
    if typing.get_origin(type_) in (typing.Union, types.UnionType):
        return tuple(c for part in typing.get_args(type_) for c in _alternatives(part))
    if type_ is None:
        return (type(None),)
    return (typing.get_origin(type_) or type_,)


def _convert(value: Any, accepted: tuple[type, ...]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return value if bool in accepted or object in accepted else _REFUSED
    if isinstance(value, accepted):
        return value
    if float in accepted and isinstance(value, numbers.Real):
        try:
            return float(value)
        except OverflowError:
            return _REFUSED
    if tuple in accepted and isinstance(value, list):
        return _frozen(value)
    if str in accepted and isinstance(value, os.PathLike):
        value = os.fspath(value)
        return value if isinstance(value, str) else _REFUSED
    return _REFUSED


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _article(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
