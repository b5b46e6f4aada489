"""Install distributions of this project from wheels, each built once for what its folder holds.

Compiling takes longer than most of the tests, and the wheels of native code fit every interpreter.

    python tests/install_wheels.py lazyflow-ops-array lazyflow-ops-io[codecs]
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What tools leave in a folder, and what stands beside the package.
BESIDE = ("__pycache__", "build", "dist", "tests")


def content(folder: Path) -> str:
    """Return the digest of what a wheel is made from."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not set(name.parts) & set(BESIDE) and not any(p[0] == "." for p in name.parts):
            digest.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def wheel(name: str) -> Path:
    """Return the wheel of a distribution, which is built if nobody has."""
    source = ROOT / "plugins" / name
    folder = ROOT / ".tox" / "wheels" / f"{name}-{content(source)}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            pip("wheel", "--no-deps", "--wheel-dir", made, str(source))
            try:
                os.rename(made, folder)
                os.mkdir(made)
            except OSError:  # another environment was faster
                assert folder.is_dir()
    (found,) = folder.glob("*.whl")
    return found


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", arguments[0], "-q", *arguments[1:]], check=True)


if __name__ == "__main__":
    requirements = []
    for wanted in sys.argv[1:]:
        name, bracket, extra = wanted.partition("[")
        requirements.append(str(wheel(name)) + bracket + extra)
    pip("install", *requirements)
    # pip leaves what it finds installed in the same version, which is that of the last run.
    pip("install", "--force-reinstall", "--no-deps", *requirements)
