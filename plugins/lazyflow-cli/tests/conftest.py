"""A plugin distribution of the tests' own: operators, a reader and a writer that need nothing but numpy.

It is installed by putting a folder on the path, for this process or another one, so that the command is
tested as users have it: discovery, entry points and all.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lazyflow_cli.main import cli

PLUGIN = """
from lazyflow_core.plugins import WriterSpec, hookimpl

LAZYFLOW_API = (1, 0)

@hookimpl
def lazyflow_writer_specs():
    return [WriterSpec("test.npy", "lazyflow_of_tests.files:NpyWriter", ("*.npy",), ("step",))]
"""

OPERATORS = '''
import os
import pathlib
import sys
import threading
import numpy as np
from lazyflow_core import ArrayMeta, Axes, Axis, InputSlot, Operator, OutputSlot, ParameterSlot
from lazyflow_core.errors import FormatError, StorageError
from lazyflow_core.request import RequestEvent

class OpRead(Operator):
    """Read an .npy file."""

    path = ParameterSlot(str, doc="the file")
    output = OutputSlot()

    def setup_outputs(self):
        try:
            data = np.load(self.path.value, allow_pickle=False)
        except (ValueError, EOFError):
            raise FormatError(f"{self.path.value!r} is not an NPY file, or truncated.") from None
        axes = Axes(Axis(k, unit="micrometer", resolution=0.5) for k in "zyx")
        extra = {}
        if "unnamed" in self.path.value:
            notes = ("the unit 'furlong' of x is not known",)
            extra = {"lazyflow.axes_guessed": True, "lazyflow.notes": notes}
        block = (1, *data.shape[1:])
        self.output.meta = ArrayMeta(data.shape, data.dtype, axes, preferred_block=block, extra=extra)

    def execute(self, slot, roi, out):
        try:
            out[...] = np.load(self.path.value)[roi.slicing]
        except OSError as error:
            raise StorageError(f"{self.path.value!r} has gone: {error.strerror}.") from error

class OpScale(Operator):
    """Multiply with a number.

    More about that.
    """

    image = InputSlot(doc="what to multiply")
    factor = ParameterSlot(float, default=2.0, check=lambda f: None if f else "is zero")
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.image.meta.replace(dtype=np.float32, value_range=None)

    def execute(self, slot, roi, out):
        np.multiply(self.image.read(roi), self.factor.value, out=out)

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)

class OpGate(OpScale):
    """Let one block pass, then say so and wait for ever."""

    def execute(self, slot, roi, out):
        if roi.start[0] == 0:
            return super().execute(slot, roi, out)
        os.write(2, b"at the gate" + bytes([10]))  # in one piece, whatever other threads print
        RequestEvent().wait()

class OpStuck(OpScale):
    """Say so, then block the thread where nobody can cancel it."""

    def execute(self, slot, roi, out):
        os.write(2, b"at the gate" + bytes([10]))  # in one piece, whatever other threads print
        threading.Event().wait()

class OpFail(OpScale):
    """Fail."""

    def execute(self, slot, roi, out):
        raise ZeroDivisionError("by design")

class OpRemove(OpScale):
    """Remove the file it is computed from, then read it."""

    path = ParameterSlot(str)

    def execute(self, slot, roi, out):
        pathlib.Path(self.path.value).unlink(missing_ok=True)
        super().execute(slot, roi, out)
'''

FILES = '''
import pathlib
import numpy as np
from lazyflow_core.errors import StorageError, TargetExistsError

class NpyWriter:
    """Collect blocks and save them; a path that contains "full" is on a full disk."""

    def __init__(self, path, meta, *, dataset, overwrite, step=None):
        self.path = pathlib.Path(path)
        if self.path.exists() and not overwrite:
            raise TargetExistsError(f"{path!r} exists already.")
        if not self.path.parent.is_dir():
            raise StorageError(f"{path!r}: its folder does not exist.")
        self.partial = self.path.with_name(f".{self.path.name}.partial")
        self.partial.touch()
        self.step = tuple(step or (1, *meta.shape[1:]))
        self.data = np.zeros(meta.shape, meta.dtype)

    def write(self, roi, data):
        if "full" in self.path.name:
            raise StorageError(f"cannot write {self.path.name!r}: No space left on device.")
        self.data[roi.slicing] = data

    def commit(self):
        with self.partial.open("wb") as file:
            np.save(file, self.data)
        return self.partial.rename(self.path).stat().st_size

    def abort(self):
        self.partial.unlink(missing_ok=True)
'''

ENTRY_POINTS = """
[lazyflow.operators]
test.broken = lazyflow_of_tests.missing:OpNowhere
test.fail = lazyflow_of_tests.operators:OpFail
test.gate = lazyflow_of_tests.operators:OpGate
test.read = lazyflow_of_tests.operators:OpRead
test.remove = lazyflow_of_tests.operators:OpRemove
test.scale = lazyflow_of_tests.operators:OpScale
test.stuck = lazyflow_of_tests.operators:OpStuck

[lazyflow.plugins]
test = lazyflow_of_tests.plugin
"""

PIPELINE = """\
[volume]
operator = "test.read"
path = "volume.npy"

[scale]
operator = "test.scale"
image = "volume.output"
factor = 3.0

[[export]]
slot = "scale.output"
path = "scaled.npy"
"""


def install(site: Path, name: str, entry_points: str, modules: dict[str, str]) -> None:
    """Write an installed distribution with one package into a folder."""
    package = site / name
    package.mkdir(parents=True)
    for module, text in {"__init__": "", **modules}.items():
        (package / f"{module}.py").write_text(text)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def install_distribution(site, monkeypatch, fresh_plugins):
    """Install another distribution for one test."""

    def install_distribution(name, entry_points, modules):
        folder = site.parent / f"{name}-site"
        if not folder.exists():
            install(folder, name, entry_points, modules)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("LAZYFLOW_PLUGINS", f"{os.environ['LAZYFLOW_PLUGINS']},{name}")

    return install_distribution


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A folder in which the tests' plugin is installed."""
    site = tmp_path_factory.mktemp("site")
    modules = {"plugin": PLUGIN, "operators": OPERATORS, "files": FILES}
    install(site, "lazyflow_of_tests", ENTRY_POINTS, modules)
    return site


@pytest.fixture
def fresh_plugins(monkeypatch):
    """Let this process discover plugins anew, now and afterwards; only those of the tests count."""
    from lazyflow_core import plugins
    from lazyflow_core.plugins import discovery

    def forget():
        discovery.forget()
        plugins.set_default(None)

    monkeypatch.setenv("LAZYFLOW_PLUGINS", "test,cli")
    monkeypatch.delenv("LAZYFLOW_STRICT_PLUGINS", raising=False)
    forget()
    yield forget
    forget()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory: a volume and a pipeline file."""
    np.save(tmp_path / "volume.npy", np.arange(4 * 20 * 30, dtype=np.uint16).reshape(4, 20, 30))
    (tmp_path / "p.toml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lazyflow(site, fresh_plugins, monkeypatch):
    """Run the command in this process: ``lazyflow("run", "p.toml")``."""
    monkeypatch.syspath_prepend(site)
    # click < 8.2 mixes the two streams unless it is told not to.
    old_click = "mix_stderr" in inspect.signature(CliRunner).parameters
    runner = CliRunner(**({"mix_stderr": False} if old_click else {}))

    def lazyflow(*arguments):
        fresh_plugins()
        environment = dict(os.environ)
        try:
            return runner.invoke(cli, list(map(str, arguments)), prog_name="lazyflow")
        finally:  # options that choose plugins go through the environment
            os.environ.clear()
            os.environ.update(environment)

    return lazyflow


@pytest.fixture
def start(site):
    """Start the command as a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LAZYFLOW_")}
    paths = [str(site), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment["LAZYFLOW_PLUGINS"] = "test,cli"
    started = []

    def start(*arguments, python=("-m", "lazyflow_cli"), **options):
        process = subprocess.Popen(
            [sys.executable, *python, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
