"""How fast are our filters, next to scipy by hand, vigra, fastfilters and bioimage-cpp, where installed?

    python benchmarks/filters.py                  # 128 x 128 x 128 and 1024 x 1024, a few minutes
    python benchmarks/filters.py --quick          # the same at two scales, and only our own pixel features
    python benchmarks/filters.py --features       # pixel features in the way of ilastik, against the goals
    python benchmarks/filters.py --direct         # pixel features at their true sigmas, against the goals
    python benchmarks/filters.py --large          # pixel features of 256 x 256 x 256, 4 GiB
    python benchmarks/filters.py --ranks          # medians, extremes and morphology, against the goals
    python benchmarks/filters.py --operators      # the cost of operators and of blocks
    python benchmarks/filters.py --memory         # memory at the peak

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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.features import SCALES, OpPixelFeatures, feature_grid
from lazyflow_ops_filters.kernels import filters as f
from lazyflow_ops_filters.kernels import neighborhood as n
from lazyflow_ops_filters.kernels.footprint import Footprint
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
try:
    import bioimage_cpp.filters as bioimage
except Exception:
    bioimage = None

Array = np.ndarray


def best(
    work: Callable[[], Any],
    rounds: int = 3,
    clock: Callable[[], float] = time.process_time,
    enough: float = float("inf"),
) -> float:
    """Return the seconds of the fastest of some rounds, of fewer if these took ``enough`` already."""
    times: list[float] = []
    while len(times) < rounds and sum(times) < enough:
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


def by_library(
    v: Any, name: str, s: float, window: float = 0.0, swapped: bool = False
) -> Callable[[Array], Any]:
    """Return what a user of vigra or fastfilters writes."""
    inner, outer = (0.5 * s, s) if swapped else (s, 0.5 * s)
    w = {"window_size": window}
    return {
        "gaussian_smoothing": lambda a: v.gaussianSmoothing(a, s, **w),
        "difference_of_gaussians": lambda a: (
            v.gaussianSmoothing(a, s, **w) - v.gaussianSmoothing(a, 0.66 * s, **w)
        ),
        "laplacian_of_gaussian": lambda a: v.laplacianOfGaussian(a, s, **w),
        "gaussian_gradient_magnitude": lambda a: v.gaussianGradientMagnitude(a, s, **w),
        "hessian_of_gaussian_eigenvalues": lambda a: v.hessianOfGaussianEigenvalues(a, s, **w),
        "structure_tensor_eigenvalues": lambda a: v.structureTensorEigenvalues(a, inner, outer, **w),
    }[name]


def by_vigra(name: str, s: float, window: float = 0.0) -> Callable[[Array], Any]:
    # In ilastik's recipe the scales of the structure tensor are swapped, as fastfilters does.
    return by_library(vigra.filters, name, s, window, swapped=bool(window))


def by_fastfilters(name: str, s: float, window: float = 0.0) -> Callable[[Array], Any]:
    # Its arguments are swapped: what it calls the inner scale is the outer one.
    return by_library(fastfilters, name, s, window, swapped=not window)


def by_bioimage(name: str, s: float, window: float = 0.0) -> Callable[[Array], Any]:
    v, w = bioimage, {"window_size": window}
    if name == "difference_of_gaussians":
        return lambda a: v.gaussian_smoothing(a, s, **w) - v.gaussian_smoothing(a, 0.66 * s, **w)
    if name == "structure_tensor_eigenvalues":
        inner, outer = (0.5 * s, s) if window else (s, 0.5 * s)
        return lambda a: v.structure_tensor_eigenvalues(a, inner, outer, **w)
    return lambda a: getattr(v, name)(a, s, **w)


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

#: How far another library's result may be from ours, relative to the largest value; fastfilters' but for
#: one pixel in ten thousand, since its eigenvalues are wrong where the middle one lies just halfway.
#: scipy's kernels of derivatives are not corrected for what is cut off and keep their DC; vigra's
#: eigenvalues are off where two are equal.
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
    share = 0.9999 if what.endswith("fastfilters") else 1.0
    error = float(np.quantile(np.abs(result - ours), share) / np.abs(ours).max())
    if not error <= allowed:
        sys.exit(f"{what} is not the same filter as ours: it differs by {error:.2g} of the largest value.")


# --------------------------------------------------------------------------------------- ranks, morphology


def compare_ranks(shape: tuple[int, ...]) -> None:
    """Medians and extremes, by scipy's own function for each; its way for any footprint is no faster."""
    print(f"\n## Ranks, {' x '.join(map(str, shape))}, ns per pixel: ours / scipy = how many times faster")
    dtypes = ("uint8", "uint16", "float32")
    print("| filter | radius | " + " | ".join(dtypes) + " |")
    print("|---|---:|" + "---:|" * len(dtypes))

    def by_size(function: Callable[..., Array]) -> Callable[..., Array]:
        return lambda a, footprint: function(a, 2 * footprint.radius[0] + 1, mode="mirror")

    def by_mask(function: Callable[..., Array]) -> Callable[..., Array]:
        return lambda a, footprint: function(a, footprint=footprint.mask, mode="mirror")

    def quarter(a: Array, footprint: Any) -> Array:
        return ndimage.percentile_filter(a, 25, 2 * footprint.radius[0] + 1, mode="mirror")

    rows: list[tuple[str, str, Callable[[Any], f.Filter], Callable[..., Array]]] = [
        ("median, box", "box", lambda p: n.Rank(p, 50), by_size(ndimage.median_filter)),
        ("median, ball", "ball", lambda p: n.Rank(p, 50), by_mask(ndimage.median_filter)),
        ("percentile 25, box", "box", lambda p: n.Rank(p, 25), quarter),
        ("maximum, box", "box", lambda p: n.Rank(p, 100), by_size(ndimage.maximum_filter)),
        ("maximum, ball", "ball", lambda p: n.Rank(p, 100), by_mask(ndimage.maximum_filter)),
        ("opening, box", "box", lambda p: n.Morphology(p, "opening"), by_size(ndimage.grey_opening)),
        ("white top hat, ball", "ball", lambda p: n.Morphology(p, "white_top_hat"), by_mask(white_top_hat)),
    ]
    for name, form, make, scipy in rows:
        for radius in (1, 2, 3):
            footprint, cells = Footprint((radius,) * len(shape), form), []
            for dtype in dtypes:
                image = noise(shape) if dtype == "float32" else (noise(shape) * 60000).astype(dtype)
                filter, out = make(footprint), np.ones(shape, dtype)
                works = (partial(k.run, filter, image, outs=[out]), partial(scipy, image, footprint))
                times = [float("inf")] * 2
                for _ in range(3):  # in turns, so that what else runs here disturbs both
                    times = [min(t, best(work, 1)) for t, work in zip(times, works, strict=True)]
                if not np.array_equal(out, scipy(image, footprint)):
                    sys.exit(f"{name} by scipy is not the same filter as ours.")
                ours, theirs = (1e9 * t / image.size for t in times)
                cells.append(f"{ours:.1f} / {theirs:.0f} = {theirs / ours:.0f}")
            print(f"| {name} | {radius} | " + " | ".join(cells) + " |", flush=True)


def white_top_hat(a: Array, footprint: Array, mode: str) -> Array:
    return ndimage.white_tophat(a, footprint=footprint, mode=mode)


# --------------------------------------------------------------------------------------------- pixel features

#: How many times faster than vigra fastfilters was with 1 and 2 threads, on another machine in one run: what
#: turns a measured ratio to vigra into one to fastfilters, which is not to be had beside a current numpy.
FASTFILTERS_BY_VIGRA = {
    (3, "none"): (4.3, 5.2),
    (3, "ilastik"): (8.3, 9.2),
    (2, "none"): (4.8, 5.0),
    (2, "ilastik"): (8.3, 7.6),
}


def feature_set(shape: Sequence[int], compat: str, precision: str = "double") -> f.Filter:
    with Graph() as graph:
        operator = OpPixelFeatures(
            graph=graph, selection=feature_grid(scales=SCALES), compat=compat, precision=precision
        )
        operator.image.assign(np.zeros(shape, np.float32))
        return operator._plan().filter


def recipe(of: Callable[..., Callable[[Array], Any]], given: Array, compat: str) -> list[Callable[[], Any]]:
    """Return one job per scale, each giving the jobs of its features, as users of a library write them."""
    jobs = []
    for scale in SCALES:
        names = [name for name, s in feature_grid() if s == scale]

        def per_scale(scale: float = scale, names: list[str] = names) -> list[Callable[[], Any]]:
            if compat == "none":
                return [lambda name=name: of(name, scale)(given) for name in names]
            before = (scale**2 - 1) ** 0.5 if scale > 1 else scale
            smooth = of("gaussian_smoothing", before, 3.5)(given)
            return [lambda name=name: of(name, min(scale, 1.0), 2.0)(smooth) for name in names]

        jobs.append(per_scale)
    return jobs


def compare_features(shape: tuple[int, ...], slow: bool, modes: Sequence[str] = ("none", "ilastik")) -> None:
    image = noise(shape)
    print(f"\n## All 37 pixel features, {' x '.join(map(str, shape))}: seconds; Mpixel/s on 2 threads")
    print(
        "x: how many times longer than ours in double precision, in two threads depends on who else is here"
    )
    print("| engine | mode | 1 thread | 2 threads | Mpixel/s | x, 1 thread | x, 2 threads |")
    print("|---|---|---:|---:|---:|---:|---:|")
    halves = [(0, shape[0] // 2), (shape[0] // 2, shape[0])]
    for compat in modes:
        mode = "direct" if compat == "none" else compat
        ours: dict[str, tuple[float, float]] = {}
        filter = feature_set(shape, compat)
        outs = list(np.ones((filter.results, *shape), np.float32))
        for precision in ("double", "single"):
            filter = feature_set(shape, compat, precision)

            def part(edges: tuple[int, int], filter: f.Filter = filter, outs: list[Array] = outs) -> None:
                rows = slice(*edges)
                region = (rows, *(slice(0, n) for n in shape[1:]))
                k.run(filter, image, region=region, outs=[o[rows] for o in outs])

            with ThreadPoolExecutor(2) as pool:
                one, two = float("inf"), float("inf")
                for _ in range(3):
                    one = min(one, best(lambda part=part: part((0, shape[0])), 1))
                    both = lambda part=part, pool=pool: list(pool.map(part, halves))  # noqa: E731
                    two = min(two, best(both, 2, time.perf_counter))
            ours[precision] = (one, two)
            row(f"ours ({k.get_backend().name}, {precision})", mode, one, two, image.size, ours["double"])
        del outs
        for other, of, module in (
            ("vigra", by_vigra, vigra),
            ("fastfilters", by_fastfilters, fastfilters),
            ("bioimage-cpp", by_bioimage, bioimage),
        ):
            if not (module and slow):
                continue
            given = vigra.taggedView(image, "zyx"[-image.ndim :]) if other == "vigra" else image

            def everything(pool: ThreadPoolExecutor, jobs: Any) -> Any:
                scales = list(pool.map(lambda job: job(), jobs))
                return list(pool.map(lambda job: job(), [job for scale in scales for job in scale]))

            jobs, times = recipe(of, given, compat), []
            for threads, clock in ((1, time.process_time), (2, time.perf_counter)):
                with ThreadPoolExecutor(threads) as pool:
                    work = lambda pool=pool, jobs=jobs: everything(pool, jobs)  # noqa: E731
                    times.append(best(work, 6 if threads == 2 else 3, clock, enough=12.0))
            row(other, mode, *times, image.size, ours["double"])
            if other == "vigra" and not fastfilters:
                for precision, mine in ours.items():
                    known = FASTFILTERS_BY_VIGRA[image.ndim, compat]
                    one, two = (t / m / r for t, m, r in zip(times, mine, known, strict=True))
                    print(f"| fastfilters / {precision}, *derived* | {mode} | | | | {one:.1f} | {two:.1f} |")


def row(engine: str, mode: str, one: float, two: float, pixels: int, ours: tuple[float, float]) -> None:
    rate = pixels / two / 1e6
    ratios = f"{one / ours[0]:.1f} | {two / ours[1]:.1f}"
    print(f"| {engine} | {mode} | {one:.3f} | {two:.3f} | {rate:.2f} | {ratios} |", flush=True)


# ------------------------------------------------------------------------------------------ operators, memory


def operators(shape: tuple[int, ...]) -> None:
    """What does going through an operator cost, and blocks with their halo?

    The floor is what blocks cost without any operator: the kernel called for one after the other, which
    computes what lies in their halos again. What is above it is the operator's.
    """
    print("\n## Through the operator, one thread; blocks of 64, ratio to the kernel on the whole volume")
    print("| filter | operator / kernel, whole volume | pixels with halo | floor | through the operator |")
    print("|---|---:|---:|---:|---:|")
    image = noise(shape)
    with Graph() as graph:
        smooth = OpGaussianSmoothing(graph=graph, image=image, sigma=1.0)
        features = OpPixelFeatures(
            graph=graph, image=image, selection=feature_grid(scales=(0.3, 0.7, 1.0, 1.6))
        )
        for name, operator in (("smoothing, sigma 1", smooth), ("pixel features up to sigma 1.6", features)):
            meta = operator.output.meta
            out = np.ones(meta.shape, np.float32)
            filter, ndim = operator._plan().filter, image.ndim
            halo = filter.halo(image.shape)
            planar = [out] if meta.ndim == ndim else list(out)
            grid = list(BlockGrid(meta.shape, meta.shape[:-ndim] + (64,) * ndim))
            parts = []
            for roi in grid:
                region = roi.slicing[-ndim:]
                wide = tuple(
                    slice(max(0, s.start - h), min(n, s.stop + h))
                    for s, h, n in zip(region, halo, shape, strict=True)
                )
                inner = tuple(
                    slice(s.start - w.start, s.stop - w.start) for s, w in zip(region, wide, strict=True)
                )
                parts.append((image[wide], inner, [o[region] for o in planar]))

            def whole_kernel(filter: Any = filter, planar: Any = planar) -> None:
                k.run(filter, image, outs=planar)

            def whole(operator: Any = operator, out: Array = out) -> None:
                operator.output.read(out=out)

            def block_kernels(filter: Any = filter, parts: Any = parts) -> None:
                for part, region, outs in parts:
                    k.get_backend().run(filter, k.Job(part, "mirror", region, outs))

            def blocks(operator: Any = operator, grid: Any = grid, out: Array = out) -> None:
                for roi in grid:
                    operator.output.read(roi, out=out[roi.slicing])

            works = (whole_kernel, whole, block_kernels, blocks)
            times = [float("inf")] * len(works)
            # In turn, so that whatever else runs here disturbs all alike; short works more often.
            enough = time.process_time() + 4
            while time.process_time() < enough:
                times = [min(t, best(work, 1)) for t, work in zip(times, works, strict=True)]
            kernel, through, floor, blockwise = times
            pixels = sum(part.size for part, _, _ in parts) / image.size
            print(
                f"| {name} | {through / kernel:.3f} | {pixels:.2f} | {floor / kernel:.2f} | "
                f"{blockwise / kernel:.2f} |",
                flush=True,
            )


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


def memory_of_a_block(shape: tuple[int, ...]) -> None:
    """Does a block take more than its operator states?"""
    image = noise(shape)
    with Graph() as graph:
        features = OpPixelFeatures(graph=graph, image=image)
        meta = features.output.meta
        block = next(iter(BlockGrid(meta.shape, meta.shape[: -image.ndim] + (64,) * image.ndim)))
        stated = meta.ram_per_pixel * block.size / 2**20
        features.output.read(block.with_axis(0, 0, 1))  # whatever is loaded once
        current = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        features.output.read(block)
        taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - current) / 2**20
    print(f"## A block of 64 pixels of them, output included: {taken:.1f} MiB taken, {stated:.1f} MiB stated")
    if taken > stated:
        sys.exit("The operator states too little.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=128, help="pixels along each axis of the volume")
    parser.add_argument("--plane", type=int, default=1024, help="pixels along each axis of the plane")
    parser.add_argument("--quick", action="store_true", help="two scales, and nothing that takes minutes")
    for name in ("features", "direct", "large", "ranks", "operators", "memory"):
        parser.add_argument(f"--{name}", action="store_true", help="only that, see above")
    options = parser.parse_args()
    volume, plane = (options.side,) * 3, (options.plane,) * 2
    if options.memory:
        memory_of_a_block(volume)
        memory(volume)
        return
    for name, problem, detail in k.describe_backends():
        print(f"{name}: {problem or detail}")
    if not fastfilters:
        print(f"fastfilters: {why_no_fastfilters}")
    if options.features:
        compare_features(volume, slow=True, modes=("ilastik",))
        compare_features((2 * options.plane,) * 2, slow=True, modes=("ilastik",))
    if options.direct:
        compare_features(volume, slow=True, modes=("none",))
    if options.large:
        compare_features((2 * options.side,) * 3, slow=False, modes=("ilastik",))
    ranked = (options.side // 2,) * 3
    if options.ranks:
        compare_ranks(ranked)
    if options.operators:
        operators(volume)
    if options.features or options.direct or options.large or options.ranks or options.operators:
        return
    scales = (1.0, 5.0) if options.quick else (0.7, 1.0, 1.6, 3.5, 5.0, 10.0)
    compare_filters(volume, scales, slow=not options.quick)
    compare_filters(plane, (1.0, 5.0), slow=not options.quick)
    compare_ranks(ranked)
    compare_features(volume, slow=not options.quick)
    compare_features(plane, slow=not options.quick)
    operators(volume)


if __name__ == "__main__":
    main()
