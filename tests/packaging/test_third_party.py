"""A distribution of somebody else: built, installed outside of this repository, used, and removed."""

import json
import os
import runpy
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from .distributions import ROOT, tracked

EXAMPLE = ROOT / "examples" / "lazyflow-ops-example"
#: From its source: here the command is not installed.
render = runpy.run_path(str(ROOT / "plugins/lazyflow-cli/lazyflow_cli/scaffold.py"))["render"]


def files_of(folder):
    """The text of each file of a distribution's source, by its path."""
    return {path.as_posix(): (folder / path).read_text(encoding="utf-8") for path in tracked(folder)}


def test_the_example_is_what_plugins_new_writes_and_one_operator():
    fresh, example = render("example"), files_of(EXAMPLE)
    assert example.keys() - fresh.keys() == {"lazyflow_ops_example/local_contrast.py"}
    assert fresh.keys() - example.keys() == set()
    added_to = {"README.md", "pyproject.toml", "lazyflow_ops_example/conformance.py"}
    assert {path for path in fresh if fresh[path] != example[path]} == added_to
    for path in added_to:  # nothing but added: every line of the template stands there, in its order
        lines = iter(example[path].splitlines())
        assert [line for line in fresh[path].splitlines() if line not in lines] == []


# ---------------------------------------------------------------------------------------------- installing


def build(source, folder, *what):
    command = [sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", folder, source]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Wheels of the core and the command, and of the example by way of its source archive."""
    folder = tmp_path_factory.mktemp("archives")
    build(EXAMPLE, folder)  # a source archive, and a wheel from that
    build(ROOT, folder, "--wheel")
    build(ROOT / "plugins" / "lazyflow-cli", folder, "--wheel")
    return folder


class Environment:
    """A virtual environment, used from a folder outside the repository."""

    def __init__(self, folder, archives):
        self.folder, self.home, self.archives = folder / "env", folder / "home", archives
        self.home.mkdir()
        subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)

    def run(self, *command, returncode=0):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LAZYFLOW_"))}
        program = self.folder / ("Scripts" if sys.platform == "win32" else "bin") / command[0]
        done = subprocess.run(
            [program, *command[1:]], cwd=self.home, env=kept, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == returncode, done.stdout + done.stderr
        return done

    def pip(self, *arguments):
        self.run("python", "-m", "pip", "-q", "--disable-pip-version-check", *arguments)

    def install(self, *names):
        self.pip("install", "--find-links", self.archives, *names)

    def operators(self):
        listed = json.loads(self.run("lazyflow", "operators", "list", "--json").stdout)
        return {entry["id"] for entry in listed["operators"]}


@pytest.fixture(scope="module")
def environment(tmp_path_factory, archives):
    made = Environment(tmp_path_factory.mktemp("third-party"), archives)
    made.install("lazyflow-cli", "lazyflow-ops-example")
    return made


USE = """
import numpy as np
from lazyflow_core import Graph, get_operator
image = np.array([[0., 0., 3.], [0., 0., 3.]])
print(get_operator("example.local_mean")(graph=Graph(), image=image).output.read().tolist())
"""


def test_the_archives_hold_the_package_its_types_and_its_entry_points(archives):
    (wheel,) = archives.glob("lazyflow_ops_example-*.whl")
    (source,) = archives.glob("lazyflow_ops_example-*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "example.local_contrast = lazyflow_ops_example.local_contrast:OpLocalContrast" in (
            file.read(entry_points).decode()
        )
    package = {path for path in files_of(EXAMPLE) if path.startswith("lazyflow_ops_example/")}
    assert {name for name in names if name.startswith("lazyflow_ops_example/")} == package
    with tarfile.open(source) as file:
        assert {name.partition("/")[2] for name in file.getnames()} >= package | {"tests/test_conformance.py"}


def test_it_is_listed_run_and_obeys_the_laws_where_it_is_installed(environment):
    assert environment.operators() == {"example.local_contrast", "example.local_mean"}
    assert environment.run("python", "-c", USE).stdout == "[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]\n"
    said = environment.run("lazyflow", "operators", "check", "example.*").stdout
    assert said.splitlines()[-1] == "All laws hold in 4 cases."


def test_a_broken_neighbour_harms_nothing_and_what_is_uninstalled_is_gone(environment, tmp_path):
    files = render("broken")
    for path in files:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        text = files[path]
        if path.endswith(("plugin.py", "local_mean.py")):
            text = text.replace("from __future__ import annotations", "import a_library_that_is_missing")
        (tmp_path / path).write_text(text, encoding="utf-8")
    build(tmp_path, environment.archives, "--wheel")
    environment.install("lazyflow-ops-broken")

    assert "broken.local_mean" in environment.operators()
    assert environment.run("python", "-c", USE).stderr == ""
    shown = environment.run("lazyflow", "plugins", "show", "broken")
    assert "ModuleNotFoundError: No module named 'a_library_that_is_missing'" in shown.stdout
    healthy = environment.run("lazyflow", "operators", "check", "example.local_mean", "--check", "loads")
    assert healthy.stderr.splitlines() == [
        "lazyflow: plugin 'broken' (lazyflow-ops-broken 0.1.0) is disabled: "
        "ModuleNotFoundError: No module named 'a_library_that_is_missing'",
        "          run 'lazyflow plugins show broken' for the traceback, "
        "or LAZYFLOW_DISABLE_PLUGINS=broken to silence this.",
    ]
    refused = environment.run("lazyflow", "operators", "show", "broken.local_mean", returncode=3)
    assert refused.stderr == (
        "lazyflow: operator 'broken.local_mean' "
        "(lazyflow-ops-broken 0.1.0, lazyflow_ops_broken.local_mean:OpLocalMean) could not be imported: "
        "ModuleNotFoundError: No module named 'a_library_that_is_missing'\n"
    )
    environment.run("lazyflow", "doctor", returncode=1)

    environment.pip("uninstall", "-y", "lazyflow-ops-broken")
    assert environment.operators() == {"example.local_contrast", "example.local_mean"}
    environment.pip("uninstall", "-y", "lazyflow-ops-example")
    assert environment.operators() == set()
    gone = environment.run("lazyflow", "operators", "show", "example.local_mean", returncode=2)
    assert gone.stderr == (
        "lazyflow: no operator 'example.local_mean': "
        "no installed distribution provides the namespace 'example'.\n"
    )


# ------------------------------------------------------------------------------------------ the transcript

TRANSCRIPT = ROOT / "docs" / "plugins" / "transcript.md"


def blocks():
    """The commands of the transcript, each with the lines it is said to print."""
    found = []
    for line in TRANSCRIPT.read_text(encoding="utf-8").splitlines():
        if line.startswith("    $ "):
            found.append((line[6:], []))
        elif line.startswith("    ") and found:
            found[-1][1].append(line[4:])
    return found


def fits(line, pattern):
    """Whether a line is as the transcript says; … stands for anything."""
    import re

    return re.fullmatch(".*".join(map(re.escape, pattern.split("…"))), line.rstrip()) is not None


@pytest.mark.timeout(300)  # pip fetches from an index, and builds, four times
@pytest.mark.skipif(sys.platform == "win32", reason="the transcript is one of a POSIX shell")
def test_the_transcript_in_the_docs_can_be_replayed_in_an_empty_environment(archives, tmp_path):
    commands = blocks()
    assert len(commands) == 10
    script = "\n".join(f"echo '<<'; {command} || exit {n}" for n, (command, _) in enumerate(commands, 1))
    left_out = ("PYTHON", "LAZYFLOW_", "VIRTUAL_ENV")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    links = f"{archives} {kept.get('PIP_FIND_LINKS', '')}".strip()
    kept |= {"PATH": path, "PIP_FIND_LINKS": links, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said, (command, expected) in zip(done.stdout.split("<<")[1:], commands, strict=True):
        printed = [line for line in said.splitlines()[1:] if line.strip()]
        missing = [pattern for pattern in expected if not any(fits(line, pattern) for line in printed)]
        assert not missing, f"$ {command}\n{said}"
