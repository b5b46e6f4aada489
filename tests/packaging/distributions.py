"""The distributions of this repository, as their folders and ``pyproject.toml`` describe them."""

import subprocess
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Distribution:
    """One folder with a ``pyproject.toml``."""

    folder: Path

    @cached_property
    def project(self):
        text = (self.folder / "pyproject.toml").read_text(encoding="utf-8")
        return tomllib.loads(text)["project"]

    @property
    def name(self):
        return self.project["name"]

    @property
    def package(self):
        return self.name.replace("-", "_")

    @property
    def namespace(self):
        """What its operators' ids begin with."""
        return self.name.removeprefix("lazyflow-").removeprefix("ops-")

    @property
    def entry_points(self):
        return self.project.get("entry-points", {})

    def sources(self):
        """Return the files of its package, relative to its folder."""
        return {path for path in tracked(self.folder) if path.parts[0] == self.package}

    def __str__(self):
        return self.name


def tracked(folder):
    """Return the files in a folder that git knows or does not ignore, relative to it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "."]
    listed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return {Path(name) for name in listed.stdout.split("\0") if name and (folder / name).exists()}


CORE = Distribution(ROOT)
PLUGINS = [Distribution(path.parent) for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))]
ALL = [CORE, *PLUGINS]
