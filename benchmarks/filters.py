"""How fast are our filters, next to scipy by hand, and to vigra and fastfilters where they are installed?

    python benchmarks/filters.py                  # 128 x 128 x 128 and 1024 x 1024, a few minutes
    python benchmarks/filters.py --quick          # two scales, no pixel features of vigra and scipy

All rows are measured in this run, best of several rounds, into arrays whose memory was touched before. One
thread is measured in processor time, so that other work on the machine disturbs less; two by the clock.
Ratios below 1.3 mean nothing, and absolute figures of another machine little. A row of a library is the call
its own users would write. Its results are compared to ours first: a ratio between different filters would be
worth nothing.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.features import SCALES, OpPixelFeatures, feature_grid
from lazyflow_ops_filters.kernels import filters as f
from lazyflow_ops_filters.smoothing import OpGaussianSmoothing
from scipy import ndimage

from lazyflow_core import BlockGrid, Graph

try:
    import vigra
except Exception as error:
    vigra, why_no_vigra = None, f"{type(error).__name__}: {error}"
try:
    import fastfilters
except Exception as error:
    fastfilters, why_no_fastfilters = None, f"{type(error).__name__}: {error}"

Array = np.ndarray


def best(work: Callable[[], Any], rounds: int = 3, clock: Callable[[], float] = time.process_time) -> float:
    """Return the seconds of the fastest of some rounds."""
    times = []
    for _ in range(rounds):
        begin = clock()
        work()
        times.append(clock() - begin)
    return min(times)


def noise(shape: Sequence[int]) -> Array:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


# --------------------------------------------------------------------------------- the same filters by others


def by_scipy(name: str, s: float) -> Callable[[Array], Any]:
    """Return what a user of scipy.ndimage writes; truncated as our kernels are."""

    def gaussian(a: Array, order: Any = 0) -> Array:
        reach = 3 + 0.5 * np.max(order)
        return ndimage.gaussian_filter(a, s, order=order, mode="mirror", truncate=reach, output=np.float32)

    def unit(n: int, *axes: int) -> tuple[int, ...]:
        return tuple(axes.count(i) for i in range(n))

    def hessian(a: Array) -> Array:
        n = a.ndim
        h = np.empty((*a.shape, n, n), np.float32)
        for i in range(n):
            for j in range(i, n):
                h[..., i, j] = h[..., j, i] = gaussian(a, unit(n, i, j))
        return np.linalg.eigvalsh(h)[..., ::-1]

    def structure(a: Array) -> Array:
        n = a.ndim
        d = [gaussian(a, unit(n, i)) for i in range(n)]
        t = np.empty((*a.shape, n, n), np.float32)
        for i in range(n):
            for j in range(i, n):
                t[..., i, j] = t[..., j, i] = ndimage.gaussian_filter(
                    d[i] * d[j], 0.5 * s, mode="mirror", truncate=3.0
                )
        return np.linalg.eigvalsh(t)[..., ::-1]

    def narrow(a: Array) -> Array:
        return ndimage.gaussian_filter(a, 0.66 * s, mode="mirror", truncate=3.0)

    return {
        "gaussian_smoothing": lambda a: gaussian(a),
        "difference_of_gaussians": lambda a: gaussian(a) - narrow(a),
        "laplacian_of_gaussian": lambda a: sum(gaussian(a, unit(a.ndim, i, i)) for i in range(a.ndim)),
        "gaussian_gradient_magnitude": lambda a: np.sqrt(
            sum(gaussian(a, unit(a.ndim, i)) ** 2 for i in range(a.ndim))
        ),
        "hessian_of_gaussian_eigenvalues": hessian,
        "structure_tensor_eigenvalues": structure,
    }[name]


def by_vigra(name: str, s: float) -> Callable[[Array], Any]:
    v = vigra.filters
    return {
        "gaussian_smoothing": lambda a: v.gaussianSmoothing(a, s),
        "difference_of_gaussians": lambda a: v.gaussianSmoothing(a, s) - v.gaussianSmoothing(a, 0.66 * s),
        "laplacian_of_gaussian": lambda a: v.laplacianOfGaussian(a, s),
        "gaussian_gradient_magnitude": lambda a: v.gaussianGradientMagnitude(a, s),
        "hessian_of_gaussian_eigenvalues": lambda a: v.hessianOfGaussianEigenvalues(a, s),
        "structure_tensor_eigenvalues": lambda a: v.structureTensorEigenvalues(a, s, 0.5 * s),
    }[name]


def by_fastfilters(name: str, s: float) -> Callable[[Array], Any]:
    v = fastfilters
    return {
        "gaussian_smoothing": lambda a: v.gaussianSmoothing(a, s),
        "difference_of_gaussians": lambda a: v.gaussianSmoothing(a, s) - v.gaussianSmoothing(a, 0.66 * s),
        "laplacian_of_gaussian": lambda a: v.laplacianOfGaussian(a, s),
        "gaussian_gradient_magnitude": lambda a: v.gaussianGradientMagnitude(a, s),
        "hessian_of_gaussian_eigenvalues": lambda a: v.hessianOfGaussianEigenvalues(a, s),
        # Its arguments are swapped: what it calls the inner scale is the outer one.
        "structure_tensor_eigenvalues": lambda a: v.structureTensorEigenvalues(a, 0.5 * s, s),
    }[name]


FILTERS: dict[str, Callable[[tuple[float, ...]], f.Filter]] = {
    "gaussian_smoothing": f.GaussianSmoothing,
    "laplacian_of_gaussian": f.LaplacianOfGaussian,
    "gaussian_gradient_magnitude": f.GaussianGradientMagnitude,
    "difference_of_gaussians": lambda s: f.DifferenceOfGaussians(s, minus=tuple(0.66 * x for x in s)),
    "structure_tensor_eigenvalues": lambda s: f.StructureTensorEigenvalues(
        s, outer=tuple(0.5 * x for x in s)
    ),
    "hessian_of_gaussian_eigenvalues": f.HessianOfGaussianEigenvalues,
}

#: How far another library's result may be from ours, relative to the largest value. scipy's derivative
#: kernels are not corrected for what is cut off and keep their DC; vigra's eigenvalues are off where two are
#: equal.
ALLOWED = {"scipy": 0.3, "vigra": 5e-3, "fastfilters": 0.05}


def compare_filters(shape: tuple[int, ...], scales: Sequence[float], slow: bool) -> None:
    others: dict[str, Callable[[str, float], Callable[[Array], Any]]] = {"scipy": by_scipy}
    if vigra:
        others["vigra"] = by_vigra
    if fastfilters:
        others["fastfilters"] = by_fastfilters
    image = noise(shape)
    tagged = vigra.taggedView(image, "zyx"[-image.ndim :]) if vigra else None
    backends = [name for name, problem, _ in k.describe_backends() if not problem and name != "vigra"]
    print(f"\n## One filter, {' x '.join(map(str, shape))}, milliseconds; ratio = other / native")
    head = [f"{name} backend" for name in backends] + [f"{name} by hand" for name in others]
    print("| filter | sigma | " + " | ".join(head) + " | " + " | ".join(f"x {o}" for o in others) + " |")
    print("|---|---:|" + "---:|" * (len(head) + len(others)))
    for name, make in FILTERS.items():
        for s in scales:
            filter = make((s,) * image.ndim)
            outs = list(np.ones((filter.results, *shape), np.float32))

            def ours(backend: str, filter: f.Filter = filter, outs: list[Array] = outs) -> float:
                return best(lambda: k.run(filter, image, outs=outs, backend=backend))

            times = [ours(backend) for backend in backends]
            theirs = []
            for other, of in others.items():
                if other == "scipy" and name.endswith("eigenvalues") and not slow:
                    theirs.append(float("nan"))
                    continue
                work = of(name, s)
                given = tagged if other == "vigra" else image
                result = np.asarray(work(given))
                check(f"{name} by {other}", result, outs, ALLOWED[other])
                theirs.append(best(lambda work=work, given=given: work(given), 2))
            numbers = [f"{1e3 * t:.1f}" for t in (*times, *theirs)] + [f"{t / times[0]:.1f}" for t in theirs]
            print(f"| {name} | {s:g} | " + " | ".join(numbers) + " |", flush=True)


def check(what: str, result: Array, outs: list[Array], allowed: float) -> None:
    ours = np.stack(outs, axis=-1) if result.ndim > outs[0].ndim else outs[0]
    error = float(np.abs(result - ours).max() / np.abs(ours).max())
    if not error <= allowed:
        sys.exit(f"{what} is not the same filter as ours: it differs by {error:.2g} of the largest value.")


# --------------------------------------------------------------------------------------------- pixel features


def feature_set(shape: Sequence[int], compat: str) -> f.Filter:
    with Graph() as graph:
        operator = OpPixelFeatures(graph=graph, selection=feature_grid(scales=SCALES), compat=compat)
        operator.image.assign(np.zeros(shape, np.float32))
        return operator._plan().filter


def compare_features(shape: tuple[int, ...], slow: bool) -> None:
    image = noise(shape)
    print(f"\n## All 37 pixel features, {' x '.join(map(str, shape))}: seconds; Mpixel/s on 2 threads")
    print("| engine | mode | 1 thread | 2 threads | Mpixel/s | x ours, 1 | x ours, 2 |")
    print("|---|---|---:|---:|---:|---:|---:|")
    ours = {}
    halves = [(0, shape[0] // 2), (shape[0] // 2, shape[0])]
    for compat in ("none", "ilastik"):
        filter = feature_set(shape, compat)
        outs = list(np.ones((filter.results, *shape), np.float32))

        def part(edges: tuple[int, int], filter: f.Filter = filter, outs: list[Array] = outs) -> None:
            rows = slice(*edges)
            region = (rows, *(slice(0, n) for n in shape[1:]))
            k.run(filter, image, region=region, outs=[o[rows] for o in outs])

        one = best(lambda part=part: part((0, shape[0])))
        with ThreadPoolExecutor(2) as pool:
            two = best(lambda part=part, pool=pool: list(pool.map(part, halves)), clock=time.perf_counter)
        ours[compat] = (one, two)
        row(
            f"ours ({k.get_backend().name})",
            "direct" if compat == "none" else compat,
            one,
            two,
            image.size,
            (one, two),
        )
    for other, of, module in (("vigra", by_vigra, vigra), ("fastfilters", by_fastfilters, fastfilters)):
        if not (module and slow):
            continue
        given = vigra.taggedView(image, "zyx"[-image.ndim :]) if other == "vigra" else image
        jobs = [of(name, s) for name, s in feature_grid()]
        one = best(lambda jobs=jobs, given=given: [job(given) for job in jobs], 1)
        with ThreadPoolExecutor(2) as pool:
            two = best(
                lambda jobs=jobs, given=given, pool=pool: list(pool.map(lambda job: job(given), jobs)), 1
            )
        row(other, "direct", one, two, image.size, ours["none"])


def row(engine: str, mode: str, one: float, two: float, pixels: int, ours: tuple[float, float]) -> None:
    rate = pixels / two / 1e6
    ratios = f"{one / ours[0]:.1f} | {two / ours[1]:.1f}"
    print(f"| {engine} | {mode} | {one:.2f} | {two:.2f} | {rate:.2f} | {ratios} |", flush=True)


# ------------------------------------------------------------------------------------------ operators, memory


def operators(shape: tuple[int, ...]) -> None:
    """What does going through an operator cost, and blocks with their halo?"""
    print("\n## Through the operator, one thread, ratio to the kernel called on the whole volume")
    print("| filter | whole as one region | blocks of 64 |\n|---|---:|---:|")
    image = noise(shape)
    with Graph() as graph:
        smooth = OpGaussianSmoothing(graph=graph, image=image, sigma=1.0)
        features = OpPixelFeatures(
            graph=graph, image=image, selection=feature_grid(scales=(0.3, 0.7, 1.0, 1.6))
        )
        for name, operator in (("smoothing, sigma 1", smooth), ("pixel features up to sigma 1.6", features)):
            meta = operator.output.meta
            out = np.ones(meta.shape, np.float32)
            outs = [out] if meta.ndim == image.ndim else list(np.moveaxis(out, -1, 0))
            filter = operator._plan().filter
            kernel = best(lambda filter=filter, outs=outs: k.run(filter, image, outs=outs), 5)
            whole = best(lambda operator=operator, out=out: operator.output.read(out=out), 5)
            grid = BlockGrid(meta.shape, (64,) * image.ndim + meta.shape[image.ndim :])

            def blocks(operator: Any = operator, grid: BlockGrid = grid, out: Array = out) -> None:
                for roi in grid:
                    operator.output.read(roi, out=out[roi.slicing])

            print(f"| {name} | {whole / kernel:.2f} | {best(blocks, 3) / kernel:.2f} |", flush=True)


def memory(shape: tuple[int, ...]) -> None:
    """What does a run need besides its input and output? Peak of the process, so measured last."""
    image = noise(shape)
    filter = feature_set(shape, "none")
    outs = list(np.ones((filter.results, *shape), np.float32))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    current = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024
    k.run(filter, image, outs=outs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    extra = (peak - current) / 1024 if peak > before else float("nan")
    print(f"\n## Memory of all pixel features besides image and output, {shape}: {extra:.1f} MiB at the peak")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=128, help="pixels along each axis of the volume")
    parser.add_argument("--plane", type=int, default=1024, help="pixels along each axis of the plane")
    parser.add_argument("--quick", action="store_true", help="two scales, and nothing that takes minutes")
    parser.add_argument("--memory", action="store_true", help="only the peak memory, in a process of its own")
    options = parser.parse_args()
    volume, plane = (options.side,) * 3, (options.plane,) * 2
    if options.memory:
        memory(volume)
        return
    for name, problem, detail in k.describe_backends():
        print(f"{name}: {problem or detail}")
    if not fastfilters:
        print(f"fastfilters: {why_no_fastfilters}")
    scales = (1.0, 5.0) if options.quick else (0.7, 1.0, 1.6, 3.5, 5.0, 10.0)
    compare_filters(volume, scales, slow=not options.quick)
    compare_filters(plane, (1.0, 5.0), slow=not options.quick)
    compare_features(volume, slow=not options.quick)
    compare_features(plane, slow=not options.quick)
    operators(volume)


if __name__ == "__main__":
    main()
