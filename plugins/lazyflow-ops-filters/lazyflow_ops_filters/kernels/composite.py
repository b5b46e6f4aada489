"""Filters made of filters: several at once, and one after a smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import TYPE_CHECKING, TypeVar

from lazyflow_ops_filters.kernels.filters import Filter, GaussianSmoothing, TooThin

if TYPE_CHECKING:
    from lazyflow_ops_filters.kernels.backend import Backend, Job

__all__ = ["FilterSet", "Presmoothed"]

T = TypeVar("T")


@dataclass(frozen=True)
class FilterSet(Filter):
    """The results of several filters, one after the other.

    A backend may share what they have in common; by default each runs on its own. Filters of whose results
    none is asked for do not run.
    """

    filters: tuple[Filter, ...]
    #: A name for each, by which its results are called; their own names if left out.
    titles: tuple[str, ...] = ()

    @property
    def ndim(self) -> int:
        return self.filters[0].ndim

    @property
    def results(self) -> int:
        return sum(filter.results for filter in self.filters)

    def names(self, keys: Sequence[str]) -> tuple[str, ...]:
        if not self.titles:
            return tuple(name for filter in self.filters for name in filter.names(keys))
        names: list[str] = []
        for filter, title in zip(self.filters, self.titles, strict=True):
            count = filter.results
            names += [title] if count == 1 else [f"{title}[{i}]" for i in range(count)]
        return tuple(names)

    def halo(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(map(max, zip(*(filter.halo(shape) for filter in self.filters), strict=True)))

    def halos(self, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        return tuple(halo for filter in self.filters for halo in filter.halos(shape))

    def too_thin(self, shape: Sequence[int], border: str) -> TooThin | None:
        found = (filter.too_thin(shape, border) for filter in self.filters)
        return next((thin for thin in found if thin), None)

    def compute(self, backend: Backend, job: Job) -> None:
        for filter, outs in self.wanted(job.outs):
            backend.apply(filter, job.with_outs(outs))

    def wanted(self, outs: Sequence[T | None]) -> list[tuple[Filter, Sequence[T | None]]]:
        """Return the filters that are asked for, each with its part of the destinations of all.

        Those that follow the same smoothing are joined, so that it happens once.
        """
        parts: list[tuple[Filter, Sequence[T | None]]] = []
        smoothed: dict[GaussianSmoothing, list[tuple[Filter, Sequence[T | None]]]] = {}
        first = 0
        for filter in self.filters:
            own = outs[first : first + filter.results]
            first += filter.results
            if all(out is None for out in own):
                continue
            if isinstance(filter, Presmoothed):
                smoothed.setdefault(filter.smoothing, []).append((filter.filter, own))
            else:
                parts.append((filter, own))
        for smoothing, members in smoothed.items():
            joined = FilterSet(tuple(filter for filter, _ in members))
            parts.append((Presmoothed(smoothing, joined), [out for _, own in members for out in own]))
        return parts


@dataclass(frozen=True)
class Presmoothed(Filter):
    """A filter of the smoothed image, which is rounded to the precision of the backend in between."""

    smoothing: GaussianSmoothing
    filter: Filter

    @property
    def ndim(self) -> int:
        return self.filter.ndim

    @property
    def results(self) -> int:
        return self.filter.results

    def names(self, keys: Sequence[str]) -> tuple[str, ...]:
        return self.filter.names(keys)

    def halo(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(map(add, self.smoothing.halo(shape), self.filter.halo(shape)))

    def too_thin(self, shape: Sequence[int], border: str) -> TooThin | None:
        return self.smoothing.too_thin(shape, border) or self.filter.too_thin(shape, border)

    def compute(self, backend: Backend, job: Job) -> None:
        around = job.grown(self.filter.halo(job.image.shape))
        smooth = around.scratch(backend)
        backend.apply(self.smoothing, around.with_outs([smooth]))
        backend.apply(self.filter, job.inside(around, smooth, job.outs))
