"""Filters made of filters: several at once, and one after a smoothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lazyflow_ops_filters.kernels.filters import Filter, GaussianSmoothing, TooThin

if TYPE_CHECKING:
    from lazyflow_ops_filters.kernels.backend import Backend, Job

__all__ = ["FilterSet", "Presmoothed"]


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
        return self.halo_of(range(self.results), shape)

    def halo_of(self, results: Collection[int], shape: Sequence[int]) -> tuple[int, ...]:
        halos, first = [(0,) * self.ndim], 0
        for filter in self.filters:
            if any(first <= i < first + filter.results for i in results):
                halos.append(filter.halo(shape))
            first += filter.results
        return tuple(max(h) for h in zip(*halos, strict=True))

    def too_thin(self, shape: Sequence[int], border: str) -> TooThin | None:
        found = (filter.too_thin(shape, border) for filter in self.filters)
        return next((thin for thin in found if thin), None)

    def compute(self, backend: Backend, job: Job) -> None:
        for filter, part in self.wanted(job):
            backend.apply(filter, part)

    def wanted(self, job: Job) -> list[tuple[Filter, Job]]:
        """Return the filters that are asked for, each with its part of a job.

        Those that follow the same smoothing are joined, so that it happens once.
        """
        parts: list[tuple[Filter, Job]] = []
        smoothed: dict[GaussianSmoothing, list[tuple[Filter, Job]]] = {}
        first = 0
        for filter in self.filters:
            outs = job.outs[first : first + filter.results]
            first += filter.results
            if all(out is None for out in outs):
                continue
            if isinstance(filter, Presmoothed):
                smoothed.setdefault(filter.smoothing, []).append((filter.filter, job.with_outs(outs)))
            else:
                parts.append((filter, job.with_outs(outs)))
        for smoothing, members in smoothed.items():
            joined = FilterSet(tuple(filter for filter, _ in members))
            outs = [out for _, part in members for out in part.outs]
            parts.append((Presmoothed(smoothing, joined), job.with_outs(outs)))
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
        return tuple(np.add(self.smoothing.halo(shape), self.filter.halo(shape)).tolist())

    def too_thin(self, shape: Sequence[int], border: str) -> TooThin | None:
        return self.smoothing.too_thin(shape, border) or self.filter.too_thin(shape, border)

    def compute(self, backend: Backend, job: Job) -> None:
        around = job.grown(self.filter.halo(job.image.shape))
        smooth = around.scratch(backend)
        backend.apply(self.smoothing, around.with_outs([smooth]))
        backend.apply(self.filter, job.inside(around, smooth, job.outs))
