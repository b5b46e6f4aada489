"""Everything is built once per session: source archives, wheels from these, an environment with them."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .distributions import ALL


@dataclass(frozen=True)
class Built:
    """Archives in a folder."""

    folder: Path

    def sdist(self, distribution):
        return self._only(f"{distribution.package}-*.tar.gz")

    def wheel(self, distribution):
        return self._only(f"{distribution.package}-*.whl")

    def _only(self, pattern):
        (found,) = self.folder.glob(pattern)
        return found


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A source archive of every distribution, and a wheel built from that archive."""
    folder = tmp_path_factory.mktemp("dist")
    for distribution in ALL:
        done = subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, distribution.folder],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return Built(folder)


@dataclass(frozen=True)
class Installed:
    """An environment in which the wheels are installed, and a folder outside the repository."""

    folder: Path
    home: Path

    def run(self, *command, returncode=0):
        """Run a command of the environment and return what it printed."""
        program = self.folder / ("Scripts" if sys.platform == "win32" else "bin") / command[0]
        done = subprocess.run(
            [program, *command[1:]],
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == returncode, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def installed(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    made = Installed(folder, tmp_path_factory.mktemp("elsewhere"))
    made.run("python", "-m", "pip", "install", "-q", *(built.wheel(one) for one in ALL))
    return made
