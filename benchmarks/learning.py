"""How fast do forests train and predict, next to scikit-learn and, where it is installed, vigra?

    python benchmarks/learning.py                 # 2 000 and 20 000 samples of the example, a minute or two
    python benchmarks/learning.py --quick         # 2 000 samples
    python benchmarks/learning.py --seeds 10      # also: is the error the same within noise?

Samples are pixels of the ovule of the examples with ilastik's 37 features in 3-D; the classes are border and
inside by its ground truth. 100 trees, trained until their leaves are pure. One thread is measured in
processor time, so that other work on the machine disturbs less, in rounds that take turns; two threads by the
clock. Ratios are those of the medians of this run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from lazyflow_ops_learning import load_forest, save_forest, train_forest

from lazyflow_core import Graph, Request, get_operator
from lazyflow_core.request import InlineScheduler, ThreadedScheduler

try:
    from sklearn.ensemble import RandomForestClassifier
except ImportError:
    RandomForestClassifier = None
try:
    import vigra
except Exception:
    vigra = None

Array = np.ndarray
OVULE = Path(__file__).parents[1] / "examples" / "data" / "sample_ovule.h5"
CLASSES = ("border", "inside")
#: Ratios to reach, by what and how many samples: of scikit-learn, of vigra.
GOALS = {
    ("train", 2_000): (6, 7),
    ("train", 20_000): (10, 15),
    ("predict", 2_000): (4, 9),
    ("predict", 20_000): (3, 10),
}


def pixels() -> tuple[Array, Array]:
    """Return the features, channels first, and the classes of all pixels of the ovule."""
    with h5py.File(OVULE) as file:
        raw, cells = file["raw"][()], file["label"][()]
    border = np.zeros(cells.shape, bool)
    for axis in (1, 2):
        differs = np.diff(cells, axis=axis) != 0
        border |= np.pad(differs, [(0, int(a == axis)) for a in range(3)])
        border |= np.pad(differs, [(int(a == axis), 0) for a in range(3)])
    both = np.concatenate([raw, raw[::-1]])  # the largest kernels need more planes than there are
    with Graph() as graph:
        features = get_operator("filters.pixel_features")(graph=graph, image=both).output
        columns = features.read()[:, : len(raw)]
    return np.ascontiguousarray(columns.reshape(len(columns), -1)), (~border).reshape(-1).astype(np.uint8)


def alternating(rounds: int, works: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the median seconds of processor time of each work; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            begin = time.process_time()
            work()
            times[name].append(time.process_time() - begin)
    return {name: statistics.median(found) for name, found in times.items()}


def by_vigra(columns: Array, labels: Array) -> Any:
    forest = vigra.learning.RandomForest(100)
    forest.learnRF(np.ascontiguousarray(columns.T), labels.astype(np.uint32)[:, None])
    return forest


def report(what: str, samples: int, seconds: dict[str, float], unit: float, name: str) -> None:
    ours = seconds["ours"]
    print(f"\n{what}, {samples} samples: ours {ours * unit:.3g} {name}")
    for peer, goal in zip(("scikit-learn", "vigra"), GOALS[what, samples], strict=True):
        if peer in seconds:
            ratio = seconds[peer] / ours
            verdict = "" if ratio >= goal else ", MISSED"
            print(f"  {peer} {seconds[peer] * unit:.3g} {name}: {ratio:.1f} x (goal {goal}{verdict})")
        else:
            print(f"  {peer} is not installed")


def one_thread(work: Callable[[], Any]) -> Any:
    with InlineScheduler() as scheduler:
        return Request(work, scheduler=scheduler).wait()


def measure(columns: Array, labels: Array, samples: int, rounds: int) -> None:
    rng = np.random.default_rng(samples)
    chosen = rng.permutation(len(labels))[:samples]
    x, y = np.ascontiguousarray(columns[:, chosen]), labels[chosen]
    rows = np.ascontiguousarray(x.T)

    def ours() -> Any:
        return train_forest(x, y, class_names=CLASSES)

    works: dict[str, Callable[[], Any]] = {"ours": lambda: one_thread(ours)}
    if RandomForestClassifier is not None:
        works["scikit-learn"] = lambda: RandomForestClassifier(100, oob_score=True).fit(rows, y)
    if vigra is not None:
        works["vigra"] = lambda: by_vigra(x, y)
    report("train", samples, alternating(rounds, works), 1, "cpu-s")

    times = []
    for workers in (1, 2):
        with ThreadedScheduler(workers) as scheduler:
            found = []
            for _ in range(rounds + 2):
                begin = time.perf_counter()
                Request(ours, scheduler=scheduler).wait()
                found.append(time.perf_counter() - begin)
            times.append(min(found))
    print(f"  two threads: {times[0] / times[1]:.2f} x one (goal 1.8), {times[1]:.3f} s by the clock")

    place = np.ascontiguousarray(columns[:, :32_768])
    forest = ours()
    works = {"ours": lambda: one_thread(lambda: forest.predict(place))}
    if RandomForestClassifier is not None:
        peer, place_rows = RandomForestClassifier(100).fit(rows, y), np.ascontiguousarray(place.T)
        works["scikit-learn"] = lambda: peer.predict_proba(place_rows)
    if vigra is not None:
        other, place_of_vigra = by_vigra(x, y), np.ascontiguousarray(place.T)
        works["vigra"] = lambda: other.predictProbabilities(place_of_vigra)
    report("predict", samples, alternating(rounds, works), 1e9 / place.shape[1], "ns a pixel")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.forest.npz"
        save_forest(forest, path)
        seconds = alternating(5, {"load": lambda: load_forest(path)})["load"]
        print(
            f"\nforest file: {path.stat().st_size / 1024:.0f} KiB, "
            f"read in {seconds * 1e3:.1f} ms (goal 10 at 2 000)"
        )


def errors(columns: Array, labels: Array, seeds: int) -> None:
    """Compare the errors on pixels that nobody has seen."""
    ours, theirs = [], []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(labels))
        train, test = order[:2_000], order[2_000:22_000]
        forest = train_forest(columns[:, train], labels[train], class_names=CLASSES, seed=seed)
        ours.append((forest.predict(columns[:, test]).argmax(axis=0) != labels[test]).mean())
        if RandomForestClassifier is not None:
            peer = RandomForestClassifier(100, random_state=seed).fit(columns[:, train].T, labels[train])
            theirs.append((peer.predict(columns[:, test].T) != labels[test]).mean())
    print(f"\nerror of {seeds} seeds, 2 000 samples: ours {np.mean(ours):.4f}", end="")
    if theirs:
        difference = np.mean(ours) - np.mean(theirs)
        print(f", scikit-learn {np.mean(theirs):.4f}; difference {difference:+.4f} (goal 0.005)", end="")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2 000 samples only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=0, help="compare errors over so many seeds")
    options = parser.parse_args()
    columns, labels = pixels()
    for samples in (2_000,) if options.quick else (2_000, 20_000):
        measure(columns, labels, samples, options.rounds)
    if options.seeds:
        errors(columns, labels, options.seeds)


if __name__ == "__main__":
    main()
