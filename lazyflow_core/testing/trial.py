"""One try of one check on one case: graphs to order, comparisons that say where, and how it ends."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from lazyflow_core.foreign import contextmanager
from lazyflow_core.graph import Graph, Input, Operator, Output, Slot
from lazyflow_core.graph.multi import leaves
from lazyflow_core.request import InlineScheduler, Scheduler
from lazyflow_core.roi import Roi
from lazyflow_core.testing.case import Case, InputArray, rois_in
from lazyflow_core.testing.operators import OpArraySource

__all__ = ["Bench", "CheckFailed", "CheckSkipped", "Trial"]

Array = npt.NDArray[Any]

#: Why the checks say nothing about an operator that computes values only.
NO_ARRAYS: Final = "it has no array output"


class CheckFailed(AssertionError):
    """An operator breaks a law; the text says which region of which slot, and how."""


class CheckSkipped(Exception):
    """A check has nothing to say about a case; the text says why."""


def key(slot: Slot) -> str:
    """Return the name of a slot in its operator; with its place, if it is an element of a list."""
    return str(slot).removeprefix(f"{slot.operator.name}.")


class Bench:
    """An operator in a graph of its own, with a source at each input.

    Attributes
    ----------
    operator
        What is tried.
    sources
        The source of each input, by its name.
    between
        What stands between a source and the operator; empty unless that was asked for.
    """

    def __init__(
        self,
        case: Case,
        arrays: dict[str, InputArray],
        scheduler: Scheduler | None,
        between: Callable[..., Operator] | None,
        params: dict[str, Any],
    ) -> None:
        self.graph = Graph(scheduler)
        try:
            self.sources = {
                name: OpArraySource(graph=self.graph, name=f"source of {name}", content=content)
                for name, content in arrays.items()
            }
            self.between: dict[str, Any] = {}
            feeds: dict[str, Any] = {name: source.output for name, source in self.sources.items()}
            if between is not None:
                self.between = {name: between(graph=self.graph, image=slot) for name, slot in feeds.items()}
                feeds = {name: operator.output for name, operator in self.between.items()}
            for name, several in case.inputs.items():
                if isinstance(several, (list, tuple)):
                    elements = [feeds.pop(f"{name}[{i}]", None) for i in range(len(several))]
                    if None not in elements:
                        feeds[name] = elements
            self.operator: Operator = case.load()(graph=self.graph, **feeds, **params)
        except BaseException:
            self.graph.close()
            raise

    @property
    def outputs(self) -> list[Output]:
        """The array outputs that have something to give."""
        return [slot for slot in leaves(self.operator.outputs) if isinstance(slot, Output) and slot.ready]

    def output(self, name: str) -> Output:
        """Return an output by its key."""
        return next(slot for slot in self.outputs if key(slot) == name)

    def input(self, name: str) -> Input:
        """Return an input by its key."""
        return next(s for s in leaves(self.operator.inputs) if isinstance(s, Input) and key(s) == name)

    def asked(self) -> dict[str, list[Roi]]:
        """Return which regions the operator asked for since the last call, by input."""
        taken = {}
        for name, source in self.sources.items():
            taken[name], source.asked = source.asked, []
        return taken


class Trial:
    """One check on one case.

    Parameters
    ----------
    case
        What is tried.
    seed
        Decides all that is random.
    examples
        How many regions are tried where a check tries several.
    """

    def __init__(self, case: Case, seed: int = 0, examples: int = 25) -> None:
        self.case = case
        self.seed = seed
        self.examples = examples
        self.chance = np.random.default_rng([seed, zlib.crc32(case.name.encode())])
        #: What a check that passed tells besides.
        self.remark = ""

    # --------------------------------------------------------------------------------------------- graphs

    def arrays(self) -> dict[str, InputArray]:
        """Return copies of the case's inputs, to be changed at will."""
        return {
            name: InputArray(given.pixels.copy(), given.meta) for name, given in self.case.arrays().items()
        }

    @contextmanager
    def bench(
        self,
        scheduler: Scheduler | None = None,
        *,
        between: Callable[..., Operator] | None = None,
        arrays: dict[str, InputArray] | None = None,
        params: dict[str, Any] | None = None,
    ) -> Iterator[Bench]:
        """Make the operator in a graph; by default everything runs in the calling thread."""
        made = Bench(
            self.case,
            self.arrays() if arrays is None else arrays,
            InlineScheduler() if scheduler is None else scheduler,
            between,
            copy.deepcopy(dict(self.case.params)) if params is None else params,
        )
        try:
            yield made
        finally:
            made.graph.close()

    @cached_property
    def wholes(self) -> dict[str, Array]:
        """What each output gives when asked for everything, once, by an operator of its own."""
        with self.bench() as bench:
            return {key(slot): np.array(slot.read()) for slot in bench.outputs}

    def rois(self, shape: tuple[int, ...]) -> list[Roi]:
        """Return regions to ask for."""
        return rois_in(shape, self.chance, self.examples)

    # ---------------------------------------------------------------------------------------- comparisons

    def differing(self, found: Array, expected: Array) -> npt.NDArray[np.bool_]:
        """Return which pixels differ by more than the case tolerates."""
        if "stochastic" in self.case.tags:
            return np.zeros(expected.shape, bool)
        if self.case.tol and expected.dtype.kind in "fc":
            scale = np.nanmax(np.abs(np.where(np.isfinite(expected), expected, 0)), initial=0)
            return ~np.isclose(found, expected, rtol=0, atol=self.case.tol * float(scale), equal_nan=True)
        equal = found == expected
        if expected.dtype.kind in "fc":
            equal |= np.isnan(found) & np.isnan(expected)
        return np.asarray(~equal)

    def expect_equal(self, found: Array, expected: Array, where: str, than: str) -> None:
        """Fail unless two arrays are equal; ``than`` says what the second one is."""
        if found.shape != expected.shape or found.dtype != expected.dtype:
            self.fail(
                f"{where} has shape {found.shape} and dtype {found.dtype}, "
                f"{than} has shape {expected.shape} and dtype {expected.dtype}."
            )
        wrong = self.differing(found, expected)
        if wrong.any():
            first = tuple(int(i) for i in np.argwhere(wrong)[0])
            self.fail(
                f"{where} differs from {than} in {int(wrong.sum())} of {wrong.size} pixels, "
                f"first at {first}: {found[first]!r}, not {expected[first]!r}."
            )

    def expect_part(self, slot: Output, roi: Roi, found: Array, how: str = "") -> None:
        """Fail unless an array is that region of the whole result."""
        expected = self.wholes[key(slot)][roi.slicing]
        self.expect_equal(found, expected, f"{slot} {roi}{how}", "the same part of the whole")

    def fail(self, text: str) -> NoReturn:
        """End the check: the operator breaks the law."""
        raise CheckFailed(text)

    def skip(self, reason: str) -> NoReturn:
        """End the check: it has nothing to say here."""
        raise CheckSkipped(reason)

    def need_inputs(self) -> None:
        """Skip operators that read nothing."""
        if not self.case.inputs:
            self.skip("the operator has no input")

    def changed(self, pixels: Array, roi: Roi, low: Any, high: Any) -> Array:
        """Return other values for a region, within the range of the image: mirrored, far, or drawn anew."""
        old = pixels[roi.slicing]
        way = self.chance.integers(3)
        if pixels.dtype.kind == "b":
            return ~old
        if way == 0:
            return np.asarray(high - old + low, pixels.dtype)
        if way == 1:
            return np.asarray(np.where(old == high, low, high), pixels.dtype)
        return np.asarray(self.chance.permutation(pixels.reshape(-1))[: old.size].reshape(old.shape))
