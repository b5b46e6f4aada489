"""What do plugins cost before one of them is used? A start of the process among 300 distributions.

    python benchmarks/plugins.py
    python benchmarks/plugins.py --count 1000

Makes a folder with the metadata of that many distributions, a quarter of them with entry points and twenty
with five operators each, puts it last on the path and measures fresh processes: milliseconds of the
processor over those of a bare interpreter, the least of several. The budgets are those of the plan: import of
the core within that of numpy and 60 ms, discovery within 150 ms, `lazyflow --help` within 150 ms.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

OPERATORS = 20

STEPS = {
    "import numpy": ("import numpy", None),
    "import lazyflow_core": ("import lazyflow_core", 60),
    "a bare scan of entry points": (
        "import importlib_metadata; list(importlib_metadata.entry_points())",
        None,
    ),
    "discovery: list all operators": ("from lazyflow_core import list_operators; list_operators()", 150),
    "discovery and the hooks of all plugins": (
        "from lazyflow_core import plugins; plugins.default().readers()",
        None,
    ),
    "lazyflow --help": (
        "import sys; sys.stdout = open('/dev/null', 'w')\n"
        "from lazyflow_cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass",
        150,
    ),
}


def make_crowd(folder: Path, count: int) -> None:
    """Write what an installer would leave behind."""
    for n in range(count):
        info = folder / f"dist_{n}-1.0.dist-info"
        info.mkdir()
        text = (
            f"Metadata-Version: 2.1\nName: dist-{n}\nVersion: 1.0\n" + "Classifier: Nothing :: At All\n" * 30
        )
        (info / "METADATA").write_text(text)
        if n < OPERATORS:
            ids = "".join(f"dist_{n}.op_{k} = module_{n}:OpX\n" for k in range(5))
            entries = f"[lazyflow.operators]\n{ids}[lazyflow.plugins]\ndist_{n} = module_{n}\n"
            (info / "entry_points.txt").write_text(entries)
            (folder / f"module_{n}.py").write_text("LAZYFLOW_API = (1, 0)\n")
        elif n < count // 4:
            (info / "entry_points.txt").write_text("[console_scripts]\nx = nowhere:main\n")


def milliseconds(code: str, folder: Path, repeat: int) -> float:
    """Return the least time of the processor that fresh processes take."""
    path = os.pathsep.join([*(p for p in sys.path[1:] if p), str(folder)])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LAZYFLOW_")} | {
        "PYTHONPATH": path
    }

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    return min(once() for _ in range(repeat))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=300, help="distributions; default 300")
    parser.add_argument("--repeat", type=int, default=7, help="processes per figure; default 7")
    arguments = parser.parse_args()
    print(f"{platform.python_implementation()} {platform.python_version()}, {arguments.count} distributions")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_crowd(folder, arguments.count)
        bare = milliseconds("pass", folder, arguments.repeat)
        for what, (code, budget) in STEPS.items():
            cost = milliseconds(code, folder, arguments.repeat) - bare
            print(f"{what:40} {cost:6.0f} ms" + (f"   budget {budget} ms" if budget else ""))


if __name__ == "__main__":
    main()
