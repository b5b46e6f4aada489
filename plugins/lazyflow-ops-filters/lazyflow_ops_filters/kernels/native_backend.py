"""Filters by our own C++ library, called through ctypes, which releases the GIL.

The library knows only terms (one separable convolution each) and results (what is made of terms, pixel by
pixel); here each filter is written down in these.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Hashable, Sequence
from ctypes import c_char_p, c_int, c_int32
from functools import lru_cache
from math import prod
from operator import add
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt
from lazyflow_core.blocks import pieces
from lazyflow_core.request import run_stoppable

from lazyflow_ops_filters.kernels import filters as f
from lazyflow_ops_filters.kernels.backend import (
    Backend,
    Job,
    Region,
    fitting_precision,
)
from lazyflow_ops_filters.kernels.composite import FilterSet
from lazyflow_ops_filters.kernels.footprint import Footprint

__all__ = ["NativeBackend"]

Array = npt.NDArray[Any]

_ABI = 4
_BORDERS = {"mirror": 0, "reflect": 1, "nearest": 2, "zero": 3}
_COPY, _DIFFERENCE, _SUM, _NORM, _EIGENVALUES, _EIGENVALUES_SINGLE, _COPY_WIDE = range(7)
_NO_MEMORY, _NOT_FINITE = 1, 3
_ZERO = -1  # a term that is zero everywhere
_NO_KERNEL = -1
_MOST_TERMS = 32
_NO_DERIVATIVE = -2
_TYPES = {np.dtype(name): i for i, name in enumerate(("u1", "i1", "u2", "i2", "u4", "i4", "f4"))}
#: What takes a native call well under 20 ms: convolutions of pixels, rows of neighbourhoods moved by a pixel.
_BRIEF = 1 << 20

#: The structures of ``native/filters.h``.
_IMAGE = Struct("P 3q2q3q3q ii PPP")
_NEIGHBORHOOD = Struct("P 3q2q3q3q P2q PP 3i iii")
_TERM = Struct("3i")
_RESULT = Struct("ii6i 3P9q")


class _Call:
    """One call of the library, except for the pixels; the same for every region, and never changed."""

    def __init__(self, program: _Program) -> None:
        self.kernels = len(program.kernels)
        #: What pixels, weights and all in between are.
        self.dtype = program.dtype
        # The library is given addresses; all that they lead to stays here.
        self.weights = np.concatenate([np.empty(0, self.dtype), *program.kernels])
        sizes = [len(k) for k in program.kernels]
        first, size = self.weights.ctypes.data, self.dtype.itemsize
        self.pointers = np.array([first + size * sum(sizes[:i]) for i in range(self.kernels)], np.uintp)
        self.radius = np.array([n // 2 for n in sizes], np.int32)
        self.addresses = (self.pointers.ctypes.data, self.radius.ctypes.data)
        self.is_tensor = program.tensor is not None
        self.terms = b"".join(_TERM.pack(*term) for term in program.tensor or program.terms)
        self.count = len(program.terms)
        #: How far the kernels reach along each axis of the image.
        self.reach = program.reach()
        #: Per result its kind, its number of terms, six terms, and the numbers of its destinations.
        self.results = [
            ((kind, len(terms), *terms, *(0,) * (6 - len(terms))), outs)
            for kind, terms, outs in program.results
        ]


class _Program:
    """Kernels, terms and results to be made into a call; terms that occur twice are computed once.

    It is written for images of a shape in which only axes of one pixel count, and for a precision.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self.ndim = len(shape)
        self.kernels: list[Array] = []
        self.terms: list[tuple[int, ...]] = []
        self.results: list[tuple[int, tuple[int, ...], Sequence[int | None]]] = []
        #: For a structure tensor the terms of the derivatives, and that of the smoothing of their products.
        self.tensor: list[tuple[int, ...]] | None = None
        self._index: dict[bytes, int] = {}

    def kernel(self, weights: Array) -> int:
        """Return the number of a kernel."""
        rounded = np.ascontiguousarray(weights, dtype=self.dtype)
        key = rounded.tobytes()
        if key not in self._index:
            self._index[key] = len(self.kernels)
            self.kernels.append(rounded)
        return self._index[key]

    def reach(self) -> tuple[int, ...]:
        """Return how far the kernels reach along each axis of the image."""

        def radii(term: tuple[int, ...]) -> list[int]:
            return [0 if number < 0 else len(self.kernels[number]) // 2 for number in term]

        reach = list(map(max, zip(*map(radii, self.terms), strict=True))) if self.terms else [0, 0, 0]
        if self.tensor is not None:
            reach = list(map(add, reach, radii(self.tensor[-1])))
        return tuple(reach[3 - self.ndim :])

    def convolution(self, kernels: Sequence[Array | None]) -> int:
        """Return the number of the term with these weights per axis."""
        numbers = [_NO_KERNEL if k is None else self.kernel(k) for k in kernels]
        term = (_NO_KERNEL,) * (3 - self.ndim) + tuple(numbers)
        if term not in self.terms:
            self.terms.append(term)
        return self.terms.index(term)

    def derivative(self, sigma: f.Sigmas, window: float, *axes: int) -> int:
        """Return the number of the term that derives once along each of the axes given."""
        return self.gaussian(sigma, window, f.orders_of(self.ndim, *axes))

    def gaussian(self, sigma: f.Sigmas, window: float, orders: Sequence[int]) -> int:
        """Return the number of a term that is a Gaussian derivative."""
        kernels = f.kernels_of(sigma, window, orders, self.shape)
        return _ZERO if kernels is None else self.convolution(kernels)

    def result(self, kind: int, terms: Sequence[int], outs: Sequence[int | None]) -> None:
        """Add something to be made of terms, and to be written to the destinations of these numbers."""
        self.results.append((kind, tuple(terms), outs))


class NativeBackend(Backend):
    """Our own kernels: SIMD, pass by pass over shrinking halos, straight into the destination.

    Parameters
    ----------
    isa
        Which build of the kernels to run, ``"generic"`` or ``"x86_64_v3"``; the best for this processor if
        left out.

    Raises
    ------
    OSError
        If the library was not built, or does not fit this Python code.
    """

    name = "native"

    def __init__(self, isa: str = "") -> None:
        # Not only beside this file: an editable install has the package in two folders.
        from lazyflow_ops_filters.kernels import __path__ as folders

        path = next((p for f in folders for p in sorted(Path(f).glob("lazyflow_filters.*"))), None)
        if path is None:
            raise OSError(
                "it was not built: no working C++ compiler was found when this package was installed"
            )
        library = ctypes.CDLL(str(path))
        if library.lf_abi() != _ABI:
            raise OSError(f"{path.name} is of another version than this Python code; install both again")
        library.lf_best_isa.restype = c_char_p
        self.isa = isa or library.lf_best_isa().decode()
        #: By precision the functions for convolutions and for the structure tensor.
        self._functions: dict[Any, tuple[Any, Any]] = {}
        for dtype, suffix in ((np.float32, ""), (np.float64, "_double")):
            convolve = getattr(library, f"lf_convolve_{self.isa}{suffix}")
            convolve.argtypes = [c_char_p, c_int32, c_char_p, c_int32, c_char_p]
            tensor = getattr(library, f"lf_structure_tensor_{self.isa}{suffix}")
            tensor.argtypes = [c_char_p, c_char_p, c_int32, c_char_p]
            convolve.restype = tensor.restype = c_int
            self._functions[np.dtype(dtype)] = convolve, tensor
        self._rank = getattr(library, f"lf_rank_{self.isa}")
        self._rank.argtypes = [c_char_p]
        self._rank.restype = c_int

    def describe(self) -> str:
        """Return which build runs."""
        return f"C++ for {self.isa}"

    def precision(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return float64 for what float32 does not hold."""
        return fitting_precision(dtype)

    def refuses(self, filter: f.Filter, border: str) -> str:
        return "" if filter.ndim <= 3 else f"filters up to 3 axes, not {filter.ndim}"

    def convolve(
        self, image: Array, kernels: Sequence[Array | None], border: str, region: Region, out: Array
    ) -> None:
        program = _Program(image.shape, self.precision(image.dtype))
        program.result(_COPY, [program.convolution(kernels)], [0])
        self._run(_Call(program), Job(image, border, region, [out]))

    def apply(self, filter: f.Filter, job: Job) -> bool | None:
        if not isinstance(filter, FilterSet) and type(filter) not in _PROGRAMS:
            with np.errstate(over="ignore", invalid="ignore"):
                filter.compute(self, job)
            return None
        finite: bool | None = True
        shape, precision = tuple([min(n, 2) for n in job.image.shape]), self.precision(job.image.dtype)
        for step in _steps(filter, shape, tuple([out is not None for out in job.outs]), precision):
            if isinstance(step, _Call):
                found: bool | None = self._run(step, job)
            else:
                part, outs = step
                found = self.apply(part, job.with_outs([None if i is None else job.outs[i] for i in outs]))
            finite = finite and found
        return finite

    def rank(self, footprint: Footprint, rank: int, job: Job) -> None:
        if job.image.dtype not in _TYPES or job.image.ndim > 3:
            super().rank(footprint, rank, job)
            return
        part = job.grown(footprint.radius)
        data, out, item = job.image[part.region], job.out, job.image.itemsize
        if not _is_of_rows(data):
            data = _copied(data, data.dtype)
        if not _is_of_rows(out):
            out = np.empty(out.shape, out.dtype)
        lead = 3 - data.ndim
        ones, zeros = (1,) * lead, (0,) * lead
        region = job.inside(part, data, ()).region
        call = (
            data.ctypes.data,
            *ones,
            *data.shape,
            *(*zeros, *(s // item for s in data.strides))[:2],
            *zeros,
            *(s.start for s in region),
            *ones,
            *(s.stop for s in region),
            out.ctypes.data,
            *(*zeros, *(s // item for s in out.strides))[:2],
            footprint.reach.ctypes.data,
        )
        rest = (*zeros, *footprint.radius, _BORDERS[job.border], _TYPES[data.dtype], rank)
        is_brief = prod(job.shape) * footprint.reach.size < _BRIEF
        _call(lambda stop: self._rank(_NEIGHBORHOOD.pack(*call, stop, *rest)), is_brief)
        if out is not job.out:
            job.out[...] = out

    def _run(self, call: _Call, job: Job) -> bool:
        """Do what a call says; return whether no result is known to be no finite number."""
        # Cut off what no kernel reaches before converting; an edge of the image stays one.
        cut, start, stop = [], [], []
        for s, reach, n in zip(job.region, call.reach, job.image.shape, strict=True):
            first = max(0, s.start - reach)
            cut.append(slice(first, min(n, s.stop + reach)))
            start.append(s.start - first)
            stop.append(s.stop - first)
        data, size = job.image[tuple(cut)], call.dtype.itemsize
        if not _is_of(call.dtype, data) or data.strides[-1] != size:
            data = _copied(data, call.dtype)
        lead = 3 - data.ndim
        ones, zeros = (1,) * lead, (0,) * lead
        image = (
            data.ctypes.data,
            *ones,
            *data.shape,
            *(*zeros, *(s // size for s in data.strides))[:2],
            *zeros,
            *start,
            *ones,
            *stop,
            _BORDERS[job.border],
            call.kernels,
            *call.addresses,
        )

        results = []
        copies: list[tuple[Array, Array]] = []
        for what, numbers in call.results:
            addresses, strides = [0] * 3, [0] * 9
            written = np.dtype(np.float32)
            if call.dtype == np.float64 and what[0] == _COPY and numbers[0] is not None:
                out = job.outs[numbers[0]]
                if out is not None and out.dtype == np.float64:
                    written, what = out.dtype, (_COPY_WIDE, *what[1:])
            for i, number in enumerate(numbers):
                out = None if number is None else job.outs[number]
                if out is None:
                    continue
                target = out
                if not _is_of(written, out):
                    target = np.empty(out.shape, written)
                    copies.append((out, target))
                addresses[i] = target.ctypes.data
                strides[3 * i + lead : 3 * i + 3] = [s // written.itemsize for s in target.strides]
            results.append(_RESULT.pack(*what, *addresses, *strides))
        packed = b"".join(results)
        convolve, tensor = self._functions[call.dtype]
        function = tensor if call.is_tensor else convolve
        terms = (call.terms,) if call.is_tensor else (call.count, call.terms)
        code = _call(
            lambda stop: function(_IMAGE.pack(*image, stop), *terms, len(results), packed),
            prod(job.shape) * call.count < _BRIEF,
        )
        for out, target in copies:
            for key in pieces(out.shape):
                out[key] = target[key]
        return code != _NOT_FINITE


def _call(work: Callable[[int], int], is_brief: bool) -> int:
    """Call the library, which looks at the stop flag whose address it gets; return how it ended."""
    code = run_stoppable(work, is_brief=is_brief)
    if code == _NO_MEMORY:
        raise MemoryError("the native filter kernels found no memory for their intermediates")
    return code


def _copied(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return a copy that lies in one piece of memory."""
    copy = np.empty(array.shape, dtype)
    for key in pieces(array.shape):
        copy[key] = array[key]
    return copy


def _is_of(dtype: np.dtype[Any], array: Array) -> bool:
    """Return whether the library can go through it: of that dtype, and each stride a number of them."""
    return array.dtype == dtype and array.flags.aligned


def _is_of_rows(array: Array) -> bool:
    """Return whether the pixels of each row are adjacent, and each stride is a number of them."""
    item = array.itemsize
    return array.flags.aligned and array.strides[-1] == item and not any(s % item for s in array.strides)


_Outs = Sequence[int | None]
#: A call, or a filter that is run as it is defined, with the numbers of its destinations.
_Step = _Call | tuple[f.Filter, _Outs]


@lru_cache(maxsize=256)
def _steps(
    filter: f.Filter, shape: tuple[int, ...], wanted: tuple[bool, ...], precision: np.dtype[Any]
) -> tuple[_Step, ...]:
    """Return what is to be done for a filter, or a set of filters, in any region of any image.

    Parameters
    ----------
    filter
        Filters of one scale in a set run together: they share most of their convolutions.
    shape
        Of the image; 2 stands for any larger number.
    wanted
        Which results are asked for.
    precision
        Of all in between.
    """
    outs = [i if is_wanted else None for i, is_wanted in enumerate(wanted)]
    steps: list[_Step] = []
    programs: dict[Hashable, _Program] = {}
    for part, own in filter.wanted(outs) if isinstance(filter, FilterSet) else [(filter, outs)]:
        write = _PROGRAMS.get(type(part))
        if write is None:
            steps.append((part, own))
            continue
        assert isinstance(part, f.GaussianFilter)
        # A structure tensor shares nothing.
        scale: Hashable = part if isinstance(part, f.StructureTensor) else part.sigma
        program = programs.setdefault(scale, _Program(shape, precision))
        if len(program.terms) > _MOST_TERMS - 10:
            steps.append(_Call(program))
            program = programs[scale] = _Program(shape, precision)
        write(program, part, own)
    return (*steps, *map(_Call, programs.values()))


def _eigenvalues_in(precision: str) -> int:
    return _EIGENVALUES_SINGLE if precision == "single" else _EIGENVALUES


def _smoothing(p: _Program, filter: Any, outs: _Outs) -> None:
    p.result(_COPY, [p.derivative(filter.sigma, filter.window)], outs)


def _derivative(p: _Program, filter: Any, outs: _Outs) -> None:
    p.result(_COPY, [p.gaussian(filter.sigma, filter.window, filter.order)], outs)


def _difference(p: _Program, filter: Any, outs: _Outs) -> None:
    terms = [p.derivative(filter.sigma, filter.window), p.derivative(filter.minus, filter.window)]
    p.result(_DIFFERENCE, terms, outs)


def _gradient(p: _Program, filter: Any, outs: _Outs) -> None:
    p.result(_NORM, [p.derivative(filter.sigma, filter.window, i) for i in filter.axes], outs)


def _laplacian(p: _Program, filter: Any, outs: _Outs) -> None:
    p.result(_SUM, [p.derivative(filter.sigma, filter.window, i, i) for i in filter.axes], outs)


def _hessian(p: _Program, filter: Any, outs: _Outs) -> None:
    for out, (i, j) in zip(outs, f.pairs(filter.axes), strict=True):
        if out is not None:
            p.result(_COPY, [p.derivative(filter.sigma, filter.window, i, j)], [out])


def _hessian_eigenvalues(p: _Program, filter: Any, outs: _Outs) -> None:
    kind = _eigenvalues_in(filter.precision) if len(filter.axes) > 1 else _COPY
    terms = [p.derivative(filter.sigma, filter.window, i, j) for i, j in f.pairs(filter.axes)]
    p.result(kind, terms, outs)


def _structure_tensor(p: _Program, filter: Any, outs: _Outs) -> None:
    first = 3 - p.ndim
    p.tensor = []
    for axis in range(3):
        filtered = axis - first in filter.axes
        number = p.derivative(filter.sigma, filter.window, axis - first) if filtered else _ZERO
        p.tensor.append((_NO_DERIVATIVE,) * 3 if number == _ZERO else p.terms[number])
    p.tensor.append(p.terms[p.derivative(filter.outer, filter.window)])
    # Products are numbered as elements of a 3×3 triangle.
    numbers = f.pairs(range(3))
    elements = [numbers.index((i + first, j + first)) for i, j in f.pairs(filter.axes)]
    if isinstance(filter, f.StructureTensorEigenvalues) and len(elements) > 1:
        p.result(_eigenvalues_in(filter.precision), elements, outs)
    else:
        for element, out in zip(elements, outs, strict=True):
            p.result(_COPY, [element], [out])


#: How each filter is written in terms and results.
_PROGRAMS: dict[type[f.Filter], Callable[[_Program, Any, _Outs], None]] = {
    f.GaussianSmoothing: _smoothing,
    f.GaussianDerivative: _derivative,
    f.DifferenceOfGaussians: _difference,
    f.GaussianGradientMagnitude: _gradient,
    f.LaplacianOfGaussian: _laplacian,
    f.HessianOfGaussian: _hessian,
    f.HessianOfGaussianEigenvalues: _hessian_eigenvalues,
    f.StructureTensor: _structure_tensor,
    f.StructureTensorEigenvalues: _structure_tensor,
}
