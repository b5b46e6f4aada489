"""How long does it take until something stops after it was told to?

    python benchmarks/stopping.py                  # operators and the command, ten minutes
    python benchmarks/stopping.py --operators      # cancel requests of operators that compute for seconds
    python benchmarks/stopping.py --command 200    # Ctrl-C of `lazyflow run filters.median`, so many times

Operators are cancelled at moments spread over their work, in one region of the whole volume, which is the
worst case. The time is that of the clock, from `cancel` to the end of the request, or from the signal to the
end of the process; whatever else runs on the machine counts.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from lazyflow_core import Graph, get_operator

OPERATORS: list[tuple[str, dict[str, Any]]] = [
    ("filters.gaussian_smoothing", {"sigma": 8.0}),
    ("filters.hessian_of_gaussian_eigenvalues", {"sigma": 3.0}),
    ("filters.structure_tensor_eigenvalues", {"inner_sigma": 2.0, "outer_sigma": 4.0}),
    ("filters.pixel_features", {"selection": (("gaussian_smoothing", 3.5), ("laplacian_of_gaussian", 3.5))}),
    ("filters.median", {"radius": 3}),
    ("filters.median", {"radius": 2, "backend": "scipy"}),
    ("filters.gaussian_smoothing", {"sigma": 8.0, "backend": "scipy"}),
    ("filters.morphology", {"radius": 6, "shape": "ball", "operation": "opening"}),
    ("array.pixel_function", {"function": "tanh"}),
    ("array.rescale_range", {"from_range": (0.0, 1.0)}),
]


def told(what: str, times: list[float]) -> None:
    times.sort()
    last = times[max(0, -(-99 * len(times) // 100) - 1)]
    print(
        f"| {what} | {len(times)} | {1e3 * times[len(times) // 2]:.1f} | {1e3 * last:.1f} | "
        f"{1e3 * times[-1]:.1f} |",
        flush=True,
    )


def operators(repeats: int) -> None:
    print("| cancelled | times | median, ms | 99 %, ms | longest, ms |")
    print("|---|---:|---:|---:|---:|")
    image = np.random.default_rng(0).random((160, 320, 320), dtype=np.float32)
    for name, parameters in OPERATORS:
        times: list[float] = []
        begin = time.perf_counter()
        with Graph() as graph:
            operator = get_operator(name)(graph=graph, image=image, **parameters)
            for i in range(repeats):
                over = threading.Event()
                request = operator.slots["output"].request().submit()
                request.on_done(lambda _, over=over: over.set())
                over.wait(0.01 + 0.03 * (i % 20))
                if over.is_set():
                    continue  # through before it was told
                start = time.perf_counter()
                request.cancel()
                over.wait()
                times.append(time.perf_counter() - start)
                if time.perf_counter() - begin > 60:
                    break
        words = ", ".join(f"{key}={value}" for key, value in parameters.items() if key != "selection")
        told(f"`{name}` {words}", times or [0.0])


def command(repeats: int) -> None:
    """Ctrl-C in blocks of 128³, each of which takes seconds."""
    print("\n| Ctrl-C of | times | median, ms | 99 %, ms | longest, ms |")
    print("|---|---:|---:|---:|---:|")
    times, wrong = [], 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.save(place / "volume.npy", np.random.default_rng(0).random((256,) * 3, dtype=np.float32))
        call = "run filters.median --in image=volume.npy --set radius=3 --out smooth.npy"
        for i in range(repeats):
            process = subprocess.Popen(
                [sys.executable, "-m", "lazyflow_cli", *call.split()],
                cwd=place,
                stderr=subprocess.PIPE,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
            while not list(place.glob("*.partial")) and process.poll() is None:
                time.sleep(0.01)
            time.sleep(0.05 * (i % 16))  # computing, or about to
            begin = time.perf_counter()
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            said = process.stderr.read()
            process.wait()
            times.append(time.perf_counter() - begin)
            left = sorted(os.listdir(place))
            wrong += process.returncode != 130 or left != ["volume.npy"] or b"again to leave" not in said
    told("`lazyflow run filters.median`, radius 3", times)
    if wrong:
        sys.exit(f"{wrong} of {repeats} did not end as they should.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--operators", type=int, nargs="?", const=60, help="how often each; 60 if left out")
    parser.add_argument("--command", type=int, nargs="?", const=200, help="how often; 200 if left out")
    options = parser.parse_args()
    neither = options.operators is None and options.command is None
    if options.operators or neither:
        operators(options.operators or 60)
    if options.command or neither:
        command(options.command or 200)


if __name__ == "__main__":
    main()
