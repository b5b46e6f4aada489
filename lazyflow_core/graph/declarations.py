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
from lazyflow_core.graph.multi import MultiInput, MultiOutput
from lazyflow_core.graph.slots import Slot
from lazyflow_core.graph.values import Parameter, ValueOutput
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.words import near_miss

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
        0 for one slot, 1 for a list of slots (`MultiOutput`), 2 for a list of lists, …
    doc
        One sentence for listings.
    """

    @overload
    def __init__(self: OutputSlot[Output], *, doc: str = "") -> None: ...
    @overload
    def __init__(self: OutputSlot[MultiOutput], *, level: int, doc: str = "") -> None: ...
    @overload
    def __init__(self: OutputSlot[ValueOutput[T]], *, value: type[T], doc: str = "") -> None: ...
    def __init__(self, *, value: type[Any] | None = None, level: int = 0, doc: str = "") -> None:
        super().__init__(doc, level)
        if value is not None and level:
            raise GraphError("an output of values has no level; give it a list as value.")
        self.value_type = value

    def bind(self, operator: Operator) -> S:
        """Make the output of one operator."""
        slot: Slot
        if self.value_type is not None:
            slot = ValueOutput(operator, self)
        elif self.level:
            slot = MultiOutput(operator, self, self.level)
        else:
            slot = Output(operator, self)
        return cast(S, slot)

    def describe(self, level: int | None = None) -> str:
        """Return e.g. ``"array"``, ``"list of arrays"`` or ``"one dict"``."""
        if self.value_type is not None:
            return f"one {type_text(self.value_type)}"
        return _lists(self.level if level is None else level)


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
    check
        Called with a value of the right type; returns a sentence that says why it is refused, or None.
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
    """

    def __init__(
        self,
        type: type[T] | Any,
        *,
        default: T | _Required = _REQUIRED,
        choices: Collection[T] | None = None,
        check: Callable[[T], str | None] | None = None,
        doc: str = "",
    ) -> None:
        super().__init__(doc)
        self.type = type
        self.choices = None if choices is None else tuple(choices)
        self.check = check
        self.has_default = not isinstance(default, _Required)
        self.default = self.accept(default, "the default of a parameter") if self.has_default else None

    def bind(self, operator: Operator) -> Parameter[T]:
        """Make the parameter of one operator."""
        return Parameter(operator, self)

    def accept(self, value: Any, where: str) -> T:
        """Return a value in the declared type.

        Raises
        ------
        ParameterError
            If it is of another type or not allowed; begins with ``where``.
        """
        converted = _convert(value, _alternatives(self.type))
        if converted is _REFUSED:
            raise ParameterError(f"{where}: {value!r} is {_article(value)}, not {type_text(self.type)}.")
        if self.choices is not None and converted not in self.choices:
            hint = near_miss(str(converted), map(str, self.choices))
            raise ParameterError(
                f"{where}: {value!r} is not one of {', '.join(map(repr, self.choices))}{hint}"
            )
        if self.check is not None:
            complaint = self.check(converted)
            if complaint:
                raise ParameterError(f"{where}: {value!r} {complaint.rstrip('.')}.")
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
        """Return e.g. ``"float, default 1.0"``."""
        parts = [type_text(self.type)]
        if self.choices is not None:
            parts.append("one of " + ", ".join(map(repr, self.choices)))
        parts.append(f"default {self.default!r}" if self.has_default else "required")
        return ", ".join(parts)


def _lists(level: int) -> str:
    return "array" if level == 0 else "list of " + "lists of " * (level - 1) + "arrays"


def type_text(type_: Any) -> str:
    """Return how a declared type is written."""
    return type_.__name__ if isinstance(type_, type) else str(type_).replace("typing.", "")


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
        return float(value)
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
