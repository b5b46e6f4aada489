"""Expressions over pixels as text: parsed into a tree of known functions, never evaluated as code.

The text is cut into words that are all known, then parsed by `ast`, and each node of the result is looked up
in the tables below. What is not in them has no meaning here: no attributes, no indices, no calls of anything
else, no names but those of the images and three numbers.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isinf
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["FUNCTIONS", "MOST_LETTERS", "Expression", "ExpressionError", "parse"]

Array = npt.NDArray[Any]

#: A longer text is a mistake.
MOST_LETTERS: Final = 10_000

#: How deep an expression may be nested. Far from the recursion limit, also where a caller is deep already.
_MOST_NESTED: Final = 60

_WORDS: Final = re.compile(
    r"\s+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])|[A-Za-z_]\w*|\*\*|//|<<|>>|[<>=!]=|[-+*/%<>&|^~(),]",
    re.ASCII,
)

#: What stands for an image, in their order.
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"

_NUMBERS: Final = {"pi": np.pi, "inf": np.inf, "nan": np.nan}


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of pixels: what computes it, of how many arguments, and whether it takes or gives truths."""

    ufunc: Callable[..., Array]
    least: int = 1
    most: int = 1
    #: ``"numbers"``, ``"truths"``, or ``"conditions"``: truths that are no numbers.
    takes: str = "numbers"
    gives: str = "numbers"


def _several(ufunc: np.ufunc) -> _Function:
    return _Function(ufunc, 2, 20)


def _clip(x: Array, low: Array, high: Array, out: Array) -> Array:
    # Not np.clip: of three arrays it is slower, and out may be ``high``.
    return np.minimum(np.maximum(x, low), high, out=out)


#: The functions an expression may call.
FUNCTIONS: Final = {
    **{
        name: _Function(getattr(np, name))
        for name in (
            *("abs", "arccos", "arcsin", "arctan", "cbrt", "ceil", "cos", "cosh", "exp", "exp2", "expm1"),
            *("floor", "log", "log10", "log1p", "log2", "sign", "sin", "sinh", "sqrt", "square", "tan"),
            *("tanh", "trunc"),
        )
    },
    **{
        name: _Function(getattr(np, name), gives="truths")
        for name in ("isfinite", "isinf", "isnan", "signbit")
    },
    **{name: _Function(getattr(np, name), 2, 2) for name in ("arctan2", "copysign", "hypot")},
    "clip": _Function(_clip, 3, 3),
    "max": _several(np.maximum),
    "maximum": _several(np.maximum),
    "min": _several(np.minimum),
    "minimum": _several(np.minimum),
    "round": _Function(np.rint),
    "where": _Function(np.where, 3, 3),
}

_NEGATED: Final = _Function(np.negative)
_NOT: Final = _Function(np.logical_not, takes="truths", gives="truths")
_AND: Final = _Function(np.logical_and, 2, 2, "truths", "truths")
_OR: Final = _Function(np.logical_or, 2, 2, "truths", "truths")
_INVERTED: Final = _Function(np.logical_not, takes="conditions", gives="truths")

_BINARY: Final[dict[type[ast.AST], _Function]] = {
    ast.Add: _Function(np.add, 2, 2),
    ast.Sub: _Function(np.subtract, 2, 2),
    ast.Mult: _Function(np.multiply, 2, 2),
    ast.Div: _Function(np.true_divide, 2, 2),
    ast.FloorDiv: _Function(np.floor_divide, 2, 2),
    ast.Mod: _Function(np.remainder, 2, 2),
    ast.Pow: _Function(np.power, 2, 2),
    ast.BitAnd: _Function(np.logical_and, 2, 2, "conditions", "truths"),
    ast.BitOr: _Function(np.logical_or, 2, 2, "conditions", "truths"),
    ast.BitXor: _Function(np.logical_xor, 2, 2, "conditions", "truths"),
    ast.And: _AND,
    ast.Or: _OR,
}

_COMPARED: Final[dict[type[ast.AST], _Function]] = {
    kind: _Function(ufunc, 2, 2, gives="truths")
    for kind, ufunc in {
        ast.Lt: np.less,
        ast.LtE: np.less_equal,
        ast.Gt: np.greater,
        ast.GtE: np.greater_equal,
        ast.Eq: np.equal,
        ast.NotEq: np.not_equal,
    }.items()
}


class ExpressionError(ValueError):
    """A text that is no expression; says where and why."""


@dataclass(frozen=True, slots=True)
class _Term:
    """One step: an image (``index``), a number (``number``), or a function of other steps."""

    gives: str
    index: int | None = None
    number: float = 0.0
    function: _Function | None = None
    arguments: tuple[_Term, ...] = ()

    def in_order(self) -> list[_Term]:
        """Return all steps, each after its arguments; without recursion, since sums may be long."""
        found, pending = [], [self]
        while pending:
            node = pending.pop()
            found.append(node)
            pending += node.arguments
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression.

    Parameters
    ----------
    text
        What it was parsed from.
    steps
        What to do in order: each takes its arguments from the end of what the steps before have left.
    indices
        Which images it uses, in order.
    gives_truths
        Whether its result is one of yes or no, rather than a number.
    """

    text: str
    steps: tuple[_Term, ...]
    indices: tuple[int, ...]
    gives_truths: bool

    def evaluate(self, images: dict[int, Array], dtype: np.dtype[Any], out: Array | None = None) -> Array:
        """Return the result for some pixels.

        Parameters
        ----------
        images
            The pixels of each image by its index, all of the same shape; not changed.
        dtype
            Floating point in which it is computed.
        out
            Where the result may be written, if it fits; it is returned then.
        """
        known = {index: np.asarray(pixels, dtype) for index, pixels in images.items()}
        #: Results that wait for their use; and whether nobody else has each, so that it may be overwritten.
        results: list[tuple[Array, bool]] = []
        with np.errstate(all="ignore"):
            for step in self.steps:
                is_last = step is self.steps[-1]
                if step.index is not None:
                    results.append((known[step.index], False))
                    continue
                if step.function is None:
                    results.append((dtype.type(step.number), False))
                    continue
                count = len(step.arguments)
                given = results[-count:]
                del results[-count:]
                results.append((_apply(step.function, given, dtype, out if is_last else None), True))
        return results[0][0]


def _apply(
    function: _Function, given: Sequence[tuple[Array, bool]], dtype: np.dtype[Any], into: Array | None
) -> Array:
    arguments = [argument for argument, _ in given]
    if function.ufunc is np.where:
        return np.where(*arguments)
    target = np.dtype(bool) if function.gives == "truths" else dtype
    shape = max((argument.shape for argument in arguments), key=len)
    # Of several, those behind the second are still needed when it is written.
    free = [a for a, owned in given[:2] if owned and a.dtype == target and a.shape == shape and shape]
    if into is not None and into.dtype == target and into.shape == shape:
        out = into
    else:
        out = free[0] if free else np.empty(shape, target)
    if function.most > 3:  # of two or more
        function.ufunc(arguments[0], arguments[1], out=out)
        for argument in arguments[2:]:
            function.ufunc(out, argument, out=out)
    else:
        function.ufunc(*arguments, out=out)
    return out


def parse(text: str) -> Expression:
    """Return the expression that a text means.

    Raises
    ------
    ExpressionError
        If it means none; the sentence continues ``the expression …``.

    Examples
    --------
    >>> parse("(a - b) / (a + b)").indices
    (0, 1)
    >>> parse("where(a > 0.5, b, 0)").evaluate(
    ...     {0: np.array([0.2, 0.7]), 1: np.array([3, 4])}, np.dtype("f4")
    ... )
    array([0., 4.], dtype=float32)
    >>> parse("a.__class__")
    Traceback (most recent call last):
    ...
    lazyflow_ops_array.expression_text.ExpressionError: has '.' at letter 2, which means nothing here
    """
    if len(text) > MOST_LETTERS:
        raise ExpressionError(f"has {len(text)} letters, more than {MOST_LETTERS}")
    position = 0
    while position < len(text):
        word = _WORDS.match(text, position)
        if word is None:
            raise ExpressionError(
                f"has {text[position]!r} at letter {position + 1}, which means nothing here"
            )
        position = word.end()
    try:
        # In parentheses, where a line may end anywhere.
        tree = ast.parse(f"({text}\n)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = getattr(error, "offset", None)
        place = f" at letter {max(1, where - 1)}" if where and getattr(error, "lineno", 0) == 1 else ""
        raise ExpressionError(f"is not complete, or nested too deeply{place}") from None
    root = _translate(tree, 0)
    steps = tuple(root.in_order())
    indices = sorted({step.index for step in steps if step.index is not None})
    if not indices:
        raise ExpressionError("uses no image; those are a, b, c, …")
    return Expression(text, steps, tuple(indices), root.gives == "truths")


def _translate(tree: ast.AST, depth: int) -> _Term:
    if depth > _MOST_NESTED:
        raise ExpressionError(f"is nested deeper than {_MOST_NESTED} steps")
    kind = type(tree)
    if isinstance(tree, ast.Constant):
        return _number(tree.value)
    if isinstance(tree, ast.Name):
        return _named(tree.id)
    if isinstance(tree, ast.UnaryOp):
        if isinstance(tree.op, ast.UAdd):
            return _as(_translate(tree.operand, depth + 1), "numbers")
        function = {ast.USub: _NEGATED, ast.Not: _NOT, ast.Invert: _INVERTED}[type(tree.op)]
        return _call(function, [_translate(tree.operand, depth + 1)])
    if isinstance(tree, ast.BinOp) and type(tree.op) in _BINARY:
        # A long sum leans to the left: it is walked down, not nested.
        chain = [tree]
        while isinstance(chain[-1].left, ast.BinOp) and type(chain[-1].left.op) in _BINARY:
            chain.append(chain[-1].left)
        if len(chain) > 1000:
            raise ExpressionError("has more than 1000 terms in a row")
        result = _translate(chain[-1].left, depth + 1)
        for each in reversed(chain):
            result = _call(_BINARY[type(each.op)], [result, _translate(each.right, depth + 1)])
        return result
    if isinstance(tree, ast.BoolOp):
        result, *rest = [_translate(value, depth + 1) for value in tree.values]
        for value in rest:
            result = _call(_BINARY[type(tree.op)], [result, value])
        return result
    if isinstance(tree, ast.Compare):
        values = [_translate(value, depth + 1) for value in (tree.left, *tree.comparators)]
        pairs = [
            _call(_COMPARED[type(operator)], [left, right])
            for operator, left, right in zip(tree.ops, values[:-1], values[1:], strict=True)
            if type(operator) in _COMPARED
        ]
        if len(pairs) == len(tree.ops):
            result = pairs[0]
            for pair in pairs[1:]:
                result = _call(_AND, [result, pair])
            return result
    if isinstance(tree, ast.IfExp):
        parts = [_translate(part, depth + 1) for part in (tree.test, tree.body, tree.orelse)]
        return _call(FUNCTIONS["where"], parts)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        if tree.func.id not in FUNCTIONS:
            raise ExpressionError(f"calls {tree.func.id!r}, which is none of {', '.join(sorted(FUNCTIONS))}")
        function = FUNCTIONS[tree.func.id]
        given = len(tree.args)
        if tree.keywords or not function.least <= given <= function.most:
            wanted = str(function.least) if function.least == function.most else f"{function.least} or more"
            raise ExpressionError(f"gives {tree.func.id} {given} arguments, not {wanted}")
        return _call(function, [_translate(argument, depth + 1) for argument in tree.args])
    raise ExpressionError(f"has a part that means nothing here ({kind.__name__})")


def _number(value: Any) -> _Term:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ExpressionError(f"has {value!r} in it, which is no number")
    try:
        number = float(value)
    except OverflowError:
        number = np.inf
    if isinf(number):
        raise ExpressionError("has a number that is too large; write inf where that is meant")
    return _Term("numbers", number=number)


def _named(name: str) -> _Term:
    if name in _NUMBERS:
        return _Term("numbers", number=_NUMBERS[name])
    if len(name) == 1 and name in LETTERS:
        return _Term("numbers", index=LETTERS.index(name))
    raise ExpressionError(
        f"has the name {name!r}; images are a, b, c, …, numbers with a name pi, inf and nan"
    )


def _call(function: _Function, arguments: list[_Term]) -> _Term:
    if function.ufunc is np.where:
        condition, chosen, otherwise = arguments
        kinds = {chosen.gives, otherwise.gives}
        gives = kinds.pop() if len(kinds) == 1 else "numbers"
        arguments = [_as(condition, "truths"), _as(chosen, gives), _as(otherwise, gives)]
        return _Term(gives, function=function, arguments=tuple(arguments))
    given = tuple(_as(argument, function.takes) for argument in arguments)
    return _Term(function.gives, function=function, arguments=given)


def _as(node: _Term, kind: str) -> _Term:
    """Return a step that gives truths or numbers: what is not 0 is true, and true is 1."""
    if kind == "conditions":
        if node.gives != "truths":
            # They bind stronger than comparisons: a > 1 & b > 2 is a > (1 & b) > 2.
            raise ExpressionError("combines numbers by & | ^ ~, which is for conditions: (a > 1) & (b > 2)")
        return node
    if node.gives == kind:
        return node
    if kind == "numbers":
        return _Term("numbers", function=_TO_NUMBER, arguments=(node,))
    return _Term("truths", function=_COMPARED[ast.NotEq], arguments=(node, _Term("numbers", number=0.0)))


def _to_number(x: Array, out: Array) -> Array:
    np.copyto(out, x)
    return out


_TO_NUMBER: Final = _Function(_to_number, takes="truths")
