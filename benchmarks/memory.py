"""How much memory does streaming take? A volume larger than the goal, through the pipeline of the example.

    python benchmarks/memory.py                  # 1024 x 1024 x 1024 uint8, 1 GiB
    python benchmarks/memory.py --side 256       # a quick look

Makes the volume if it is not there (`make_volume.py`), runs `lazyflow run` on it in a process of its own, as
a user would, and prints the peak of that process's resident memory against the goal, and the speed. In memory
the volume would take 1 GiB, and each result in float32 4 GiB.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL_MIB = 600

PIPELINE = """
[volume]
operator = "io.read"
path = "{volume}"

[smooth]
operator = "filters.gaussian_smoothing"
image = "volume.output"
sigma = 1.0

[edges]
operator = "filters.gaussian_gradient_magnitude"
image = "smooth.output"
sigma = 1.0

[mask]
operator = "array.threshold"
image = "edges.output"
level = 18.0

[[export]]
slot = "{slot}"
path = "{target}"
"""


def run(volume: Path, slot: str, target: Path, arguments: list[str]) -> tuple[float, float, str]:
    """Run the pipeline in a new process; return its peak in MiB, its seconds, and what it said last."""
    pipeline = target.with_suffix(".toml")
    pipeline.write_text(PIPELINE.format(volume=volume, slot=slot, target=target), encoding="utf-8")
    command = [sys.executable, "-m", "lazyflow_cli", "run", str(pipeline), "--overwrite", *arguments]
    # A process in between: RUSAGE_CHILDREN is the largest of all children one ever had.
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True, check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "print(done.stdout.splitlines()[-1])"
    )
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.perf_counter() - begin
    peak, said = done.stdout.splitlines()
    return int(peak) / (2**20 if platform.system() == "Darwin" else 2**10), seconds, said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1024, help="pixels along each axis (default 1024)")
    parser.add_argument("--folder", type=Path, help="where the volume is kept; default a temporary folder")
    parser.add_argument("--format", default="h5", help="ending of the volume's name (default h5)")
    parser.add_argument("rest", nargs="*", help="arguments for `lazyflow run`, after --: -- --memory 256MiB")
    given = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        volume = (given.folder or Path(scratch)) / f"volume_{given.side}.{given.format}"
        if not volume.exists():
            script = Path(__file__).with_name("make_volume.py")
            subprocess.run([sys.executable, script, volume, "--side", str(given.side)], check=True)
        print(f"{platform.system()} {platform.machine()}, CPython {platform.python_version()}", flush=True)
        within = True
        for slot, target in (("mask.output", "mask.zarr"), ("edges.output", "edges.h5")):
            peak, seconds, said = run(volume, slot, Path(scratch) / target, given.rest)
            print(f"  {said.replace(scratch, '...')}")
            speed = given.side**3 / seconds / 1e6
            print(
                f"{slot}: peak {peak:.0f} MiB (goal {GOAL_MIB}), {seconds:.1f} s with start-up, "
                f"{speed:.1f} MB/s of uint8 in"
            )
            within &= peak <= GOAL_MIB
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
