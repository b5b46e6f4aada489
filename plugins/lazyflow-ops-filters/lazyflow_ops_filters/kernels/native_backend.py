"""Filters by our own C++ library, called through ctypes, which releases the GIL.

The library knows only terms (one separable convolution each) and results (what is made of terms, pixel by
pixel); here each filter is written down in these.
"""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Callable, Sequence
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_int32, c_int64
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyflow_ops_filters.kernels import filters as f
from lazyflow_ops_filters.kernels.backend import Backend, Job, Region
from lazyflow_ops_filters.kernels.composite import FilterSet

__all__ = ["NativeBackend"]

Array = npt.NDArray[Any]

_ABI = 2
_BORDERS = {"mirror": 0, "reflect": 1, "nearest": 2, "zero": 3}
_COPY, _DIFFERENCE, _SUM, _NORM, _EIGENVALUES, _EIGENVALUES_SINGLE = range(6)
_ZERO = -1  # a term that is zero everywhere
_NO_KERNEL = -1
_MOST_TERMS = 32
_NO_DERIVATIVE = -2


class _Image(ctypes.Structure):
    _fields_ = [
        ("data", POINTER(c_float)),
        ("shape", c_int64 * 3),
        ("stride", c_int64 * 2),
        ("start", c_int64 * 3),
        ("stop", c_int64 * 3),
        ("border", c_int32),
        ("kernels", c_int32),
        ("weights", POINTER(POINTER(c_float))),
        ("radius", POINTER(c_int32)),
    ]


class _Term(ctypes.Structure):
    _fields_ = [("kernel", c_int32 * 3)]


class _Result(ctypes.Structure):
    _fields_ = [
        ("kind", c_int32),
        ("inputs", c_int32),
        ("terms", c_int32 * 6),
        ("out", POINTER(c_float) * 3),
        ("stride", (c_int64 * 3) * 3),
    ]


class _Tensor(ctypes.Structure):
    _fields_ = [("derivative", _Term * 3), ("outer", _Term)]


class _Program:
    """Kernels, terms and results of one call; terms that occur twice are computed once."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.ndim = job.image.ndim
        self.kernels: list[Array] = []
        self.terms: list[tuple[int, ...]] = []
        self.results: list[tuple[int, tuple[int, ...], Sequence[Array | None]]] = []
        self._index: dict[bytes, int] = {}

    def kernel(self, weights: Array) -> int:
        """Return the number of a kernel."""
        single = np.ascontiguousarray(weights, dtype=np.float32)
        key = single.tobytes()
        if key not in self._index:
            self._index[key] = len(self.kernels)
            self.kernels.append(single)
        return self._index[key]

    def radius(self, number: int) -> int:
        """Return how far the kernel of a number reaches; 0 for none."""
        return 0 if number < 0 else len(self.kernels[number]) // 2

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
        kernels = f.kernels_of(sigma, window, orders, self.job.image.shape)
        return _ZERO if kernels is None else self.convolution(kernels)

    def result(self, kind: int, terms: Sequence[int], outs: Sequence[Array | None]) -> None:
        """Add something to be made of terms."""
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
        path = next(iter(sorted(Path(__file__).parent.glob("lazyflow_filters.*"))), None)
        if path is None:
            raise OSError(
                "it was not built: no working C++ compiler was found when this package was installed"
            )
        library = ctypes.CDLL(str(path))
        if library.lf_abi() != _ABI:
            raise OSError(f"{path.name} is of another version than this Python code; install both again")
        library.lf_best_isa.restype = c_char_p
        self.isa = isa or library.lf_best_isa().decode()
        self._convolve = getattr(library, f"lf_convolve_{self.isa}")
        self._convolve.argtypes = [POINTER(_Image), c_int32, POINTER(_Term), c_int32, POINTER(_Result)]
        self._tensor = getattr(library, f"lf_structure_tensor_{self.isa}")
        self._tensor.argtypes = [POINTER(_Image), POINTER(_Tensor), c_int32, POINTER(_Result)]
        self._convolve.restype = self._tensor.restype = c_int

    def describe(self) -> str:
        """Return which build runs."""
        return f"C++ for {self.isa}"

    def refuses(self, filter: f.Filter, border: str) -> str:
        return "" if filter.ndim <= 3 else f"filters up to 3 axes, not {filter.ndim}"

    def convolve(
        self, image: Array, kernels: Sequence[Array | None], border: str, region: Region, out: Array
    ) -> None:
        program = _Program(Job(image, border, region, [out]))
        program.result(_COPY, [program.convolution(kernels)], [out])
        self._run(program)

    def apply(self, filter: f.Filter, job: Job) -> None:
        if isinstance(filter, FilterSet):
            self._apply_set(filter, job)
            return
        program = _Program(job)
        if isinstance(filter, f.StructureTensor) and not isinstance(filter, f.StructureTensorOrientation):
            self._run_tensor(filter, program)
        elif (write := _PROGRAMS.get(type(filter))) is not None:
            write(program, filter, job.outs)
            self._run(program)
        else:
            filter.compute(self, job)

    def _apply_set(self, filters: FilterSet, job: Job) -> None:
        """Run filters of one scale together: they share most of their convolutions."""
        programs: dict[f.Sigmas, _Program] = {}
        for filter, part in filters.wanted(job):
            write = _PROGRAMS.get(type(filter))
            if write is None:
                self.apply(filter, part)
                continue
            assert isinstance(filter, f.GaussianFilter)
            program = programs.setdefault(filter.sigma, _Program(job))
            if len(program.terms) > _MOST_TERMS - 10:
                self._run(program)
                program = programs[filter.sigma] = _Program(job)
            write(program, filter, part.outs)
        for program in programs.values():
            self._run(program)

    def _run_tensor(self, filter: f.StructureTensor, program: _Program) -> None:
        first = 3 - program.ndim
        tensor = _Tensor()
        for axis in range(3):
            filtered = axis - first in filter.axes
            number = program.derivative(filter.sigma, filter.window, axis - first) if filtered else _ZERO
            tensor.derivative[axis].kernel[:] = (
                (_NO_DERIVATIVE,) * 3 if number == _ZERO else program.terms[number]
            )
        smooth = program.derivative(filter.outer, filter.window)
        tensor.outer.kernel[:] = program.terms[smooth]
        # Products are numbered as elements of a 3×3 triangle.
        numbers = f.pairs(range(3))
        elements = [numbers.index((i + first, j + first)) for i, j in f.pairs(filter.axes)]
        outs = program.job.outs
        if isinstance(filter, f.StructureTensorEigenvalues) and len(elements) > 1:
            program.result(_eigenvalues_in(filter.precision), elements, outs)
        else:
            for element, out in zip(elements, outs, strict=True):
                program.result(_COPY, [element], [out])
        self._run(program, tensor)

    def _run(self, program: _Program, tensor: _Tensor | None = None) -> None:
        job = program.job
        # Cut off what no kernel reaches before converting; an edge of the image stays one.
        reach = [0, 0, 0]
        for term in program.terms:
            reach = list(map(max, reach, map(program.radius, term)))
        if tensor is not None:
            reach = list(map(operator.add, reach, map(program.radius, tensor.outer.kernel)))
        part = job.grown(reach[3 - program.ndim :]).region
        data = job.image[part]
        if data.dtype != np.float32 or data.strides[-1] != 4 or any(s % 4 for s in data.strides):
            data = np.ascontiguousarray(data, dtype=np.float32)
        region = [(r.start - p.start, r.stop - p.start) for r, p in zip(job.region, part, strict=True)]
        lead = 3 - program.ndim

        image = _Image()
        image.data = data.ctypes.data_as(POINTER(c_float))
        image.shape[:] = (1,) * lead + data.shape
        image.stride[:] = ((0,) * lead + tuple(s // 4 for s in data.strides))[:2]
        image.start[:] = (0,) * lead + tuple(a for a, _ in region)
        image.stop[:] = (1,) * lead + tuple(b for _, b in region)
        image.border = _BORDERS[job.border]
        image.kernels = len(program.kernels)
        weights = (POINTER(c_float) * len(program.kernels))(
            *(k.ctypes.data_as(POINTER(c_float)) for k in program.kernels)
        )
        radius = (c_int32 * len(program.kernels))(*(len(k) // 2 for k in program.kernels))
        image.weights, image.radius = weights, radius

        results = (_Result * len(program.results))()
        copies: list[tuple[Array, Array]] = []
        for result, (kind, terms, outs) in zip(results, program.results, strict=True):
            result.kind, result.inputs = kind, len(terms)
            result.terms[: len(terms)] = terms
            for i, out in enumerate(outs):
                if out is None:
                    continue
                target = out
                if out.dtype != np.float32 or any(s % 4 for s in out.strides):
                    target = np.empty(out.shape, np.float32)
                    copies.append((out, target))
                result.out[i] = ctypes.cast(target.ctypes.data, POINTER(c_float))
                result.stride[i][:] = (0,) * lead + tuple(s // 4 for s in target.strides)
        if tensor is not None:
            failed = self._tensor(byref(image), byref(tensor), len(results), results)
        else:
            terms_array = (_Term * len(program.terms))()
            for entry, term in zip(terms_array, program.terms, strict=True):
                entry.kernel[:] = term
            failed = self._convolve(byref(image), len(terms_array), terms_array, len(results), results)
        if failed:
            raise MemoryError("the native filter kernels found no memory for their intermediates")
        for out, target in copies:
            out[...] = target


_Outs = Sequence[Array | None]


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


#: How each filter is written in terms and results.
_PROGRAMS: dict[type[f.Filter], Callable[[_Program, Any, _Outs], None]] = {
    f.GaussianSmoothing: _smoothing,
    f.GaussianDerivative: _derivative,
    f.DifferenceOfGaussians: _difference,
    f.GaussianGradientMagnitude: _gradient,
    f.LaplacianOfGaussian: _laplacian,
    f.HessianOfGaussian: _hessian,
    f.HessianOfGaussianEigenvalues: _hessian_eigenvalues,
}
