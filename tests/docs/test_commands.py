"""Every `lazyflow` command in the documentation is typed as it stands there, in the order of its page."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from contextlib import chdir
from pathlib import Path

import click
import numpy as np
import pytest
from lazyflow_cli.main import cli
from lazyflow_cli.scaffold import new_plugin

from lazyflow_core import ArrayMeta, Axes, open_writer, plugins
from lazyflow_core.plugins import discovery
from lazyflow_core.roi import Roi

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "newsfragments/*.md", "*/*/README.md")
    for path in ROOT.glob(pattern)
    if path.name not in ("catalogue.md", "unreleased.md")  # made while building, from other sources
)
FILE = re.compile(r"^```toml\n# (\w+\.toml)\n(.*?)^```$", re.M | re.S)
SPAN = re.compile(r"`(lazyflow [^`]+)`")

#: Pages whose commands need what only another test has, and which that is.
ELSEWHERE = {
    "docs/tutorial.md": ("tests/docs/test_docs.py", "edges.toml"),
    "docs/plugins/transcript.md": ("tests/packaging/test_third_party.py", "transcript.md"),
}


@pytest.fixture(autouse=True)
def no_leaked_threads():
    """Instead of the fixture for all tests: zarr keeps threads for the process once it has read a file."""


def commands(page):
    """Return the scripts of a page that call the command: whole blocks of a shell, or indented lines."""
    found, fence, block = [], None, []
    for line in (ROOT / page).read_text("utf-8").splitlines():
        if line.startswith("```"):
            if fence in ("bash", "shell", "sh") and any("lazyflow " in inner for inner in block):
                found.append("\n".join(block))
            fence, block = (line[3:] or "text") if fence is None else None, []
        elif fence is not None:
            block.append(line)
        elif line.startswith("    "):
            # What comes before && installs, which the tests of packages do.
            command = line.strip().removeprefix("$ ").rpartition("&& ")[2]
            if command.startswith("lazyflow "):
                found.append(command)
    return found


WITH_COMMANDS = [page for page in PAGES if commands(page)]


def save(path, shape, axes, dtype="uint8", **options):
    """Write a small array with a bright square in noise."""
    data = np.random.default_rng(0).integers(0, 60, shape).astype(dtype)
    data[..., 10:30, 10:30] += 100
    writer = open_writer(path, ArrayMeta(shape, dtype, Axes(axes)), **options)
    writer.write(Roi.from_shape(shape), data)
    writer.commit()


def install(source, site):
    """Write what `pip install -e` would, from the project's own file."""
    project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
    info = site / f"{project['name'].replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with everything that pages name: the examples, files of users, and two plugins of others."""
    desk = tmp_path / "desk"
    shutil.copytree(ROOT / "examples", desk / "examples")
    shutil.copy(ROOT / "examples/data/sample_ovule.h5", desk / "cells.h5")
    (desk / "raw").mkdir()
    with chdir(desk):
        save("movie.tif", (6, 40, 60), "tyx")
        save("frames.npy", (6, 40, 60), "tyx")
        save("colors.tif", (2, 40, 60), "cyx")
        save("first.tif", (40, 60), "yx")
        save("second_color.tif", (40, 60), "yx")
        save("raw/a.tif", (8, 40, 60), "zyx")
        save("raw/b c.tif", (8, 40, 60), "zyx")
        save("pyramid.zarr", (40, 60), "yx", dataset="0")
        save("pyramid.zarr", (20, 30), "yx", dataset="1")
    shutil.copy(desk / "examples/ovule.toml", desk / "examples/pipeline.toml")
    ilastik = ROOT / "plugins/lazyflow-ops-learning/tests/data/nuclei3d"
    shutil.copy(ilastik / "nuclei3d.ilp", desk / "project.ilp")
    (desk / "images").mkdir()
    shutil.copy(ilastik / "nuclei3d.h5", desk / "images/cells.h5")
    site = tmp_path / "site"
    with chdir(tmp_path):
        acme = new_plugin("acme", tmp_path)
    sources = [acme, ROOT / "examples/lazyflow-ops-example"]
    for source in sources:
        install(source, site)
        monkeypatch.syspath_prepend(source)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *map(str, sources)]))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    discovery.forget()
    plugins.set_default(None)
    yield desk
    discovery.forget()
    plugins.set_default(None)
    for name in [
        name for name in sys.modules if name.startswith(("lazyflow_ops_acme", "lazyflow_ops_example"))
    ]:
        del sys.modules[name]


def is_simple(script):
    """Whether it is one call of the command, so that it need not be a process of its own."""
    return not re.search(r"[\n|&$;<>]", script.strip()) and script.startswith("lazyflow ")


def run(script, capfd):
    """Run one script of a page; return its exit code and what it said."""
    if not is_simple(script):
        if shutil.which("bash") is None:
            pytest.skip("there is no shell for loops")
        done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=100)
        return done.returncode, done.stdout + done.stderr
    before = dict(os.environ)
    try:
        cli.main(shlex.split(script)[1:], prog_name="lazyflow")
    except SystemExit as end:
        return end.code, "".join(capfd.readouterr())
    finally:  # options that choose plugins go through the environment
        os.environ.clear()
        os.environ.update(before)
        plugins.set_default(None)
    raise AssertionError("the command always leaves")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [page for page in WITH_COMMANDS if page not in ELSEWHERE])
def test_the_commands_of_the_page_run_as_they_stand_there(page, desk, capfd):
    for name, text in FILE.findall((ROOT / page).read_text("utf-8")):
        (desk / name).write_text(text, "utf-8")
    if page == "docs/cache.md":  # it sets a variable for whatever pipeline its reader has
        shutil.copytree(desk / "examples", desk, dirs_exist_ok=True)
    with chdir(desk):
        for script in commands(page):
            code, said = run(script, capfd)
            assert code == 0, f"{page}: {script}\n{said}"


def test_what_is_run_elsewhere_is_run_there():
    assert set(ELSEWHERE) <= set(WITH_COMMANDS)
    for file, mark in ELSEWHERE.values():
        assert mark in (ROOT / file).read_text("utf-8")


def test_the_pages_for_users_have_commands():
    assert {"README.md", "docs/cli.md", "docs/recipes.md", "docs/pipeline.md"} <= set(WITH_COMMANDS)
    assert len(commands("docs/recipes.md")) > 15


def resolve(words):
    """Return the click command that words name, the words left over, and the first that names nothing."""
    command, left, rest = cli, [], list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("-"):
            left.append(word)
            known = {option: parameter for parameter in command.params for option in parameter.opts}
            if word in known and not known[word].is_flag:
                rest = rest[1:]
        elif isinstance(command, click.Group):
            with click.Context(command) as context:
                inner = command.get_command(context, word)
            if inner is None:
                return command, left, word
            command = inner
    return command, left, None


def options_of(command):
    return {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}


GLOBAL = options_of(cli)


def mentioned():
    """Yield page and words of every `lazyflow …` inside of a sentence or a table."""
    for page in PAGES:
        for span in SPAN.findall((ROOT / page).read_text("utf-8")):
            if span.split()[1] not in ("…", "COMMAND") and not span.split()[1].startswith("<"):
                yield page, span


@pytest.mark.parametrize(("page", "span"), sorted(set(mentioned())))
def test_a_command_in_a_sentence_exists_with_its_options(page, span):
    words = re.sub(r"'[^']*'|\"[^\"]*\"", "x", span).split()[1:]
    command, left, unknown = resolve(words)
    assert unknown is None, f"{page}: `{span}`: there is no command {unknown!r}"
    wrong = {word for word in left if word.startswith("--")} - options_of(command) - GLOBAL
    assert not wrong, f"{page}: `{span}`: no option {wrong}"


def test_the_options_in_the_table_of_commands_are_those_of_the_commands():
    rows = re.findall(
        r"^\| `lazyflow ?([^`]*)`.*? \| (.*) \|$", (ROOT / "docs/cli.md").read_text("utf-8"), re.M
    )
    assert len(rows) > 10
    for name, text in rows:
        for span in re.findall(r"`([^`]*--[^`]+)`", text):
            words = span.removeprefix("lazyflow ").split()
            command, left, _ = resolve(words if not words[0].startswith("-") else [*name.split(), *words])
            wrong = {word for word in left if word.startswith("--")} - options_of(command)
            assert not wrong, f"lazyflow {name}: `{span}`"


def leaves(command, name=""):
    """Yield name and command of everything that can be called."""
    if not isinstance(command, click.Group):
        yield name.strip(), command
        return
    with click.Context(command) as context:
        for inner in command.list_commands(context):
            yield from leaves(command.get_command(context, inner), f"{name} {inner}")


def test_all_commands_but_those_named_know_json():
    ours = [(n, c) for n, c in leaves(cli) if c.callback.__module__.startswith("lazyflow_cli.")]
    without = {name for name, command in ours if "--json" not in options_of(command)}
    assert without == {"demo", "plugins new"}


def test_the_options_of_run_are_all_in_its_table():
    section = (ROOT / "docs/cli.md").read_text("utf-8").partition("## run")[2]
    listed = set(re.findall(r"`(--[a-z]+)", section))
    command, *_ = resolve(["run"])
    assert listed == {option for option in options_of(command) if option.startswith("--")} - {"--help"}


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "benchmarks").glob("*.py")))
def test_a_benchmark_knows_the_options_that_the_documentation_gives_it(name):
    wanted = set()
    for page in PAGES:
        for line in re.findall(rf"python benchmarks/{re.escape(name)}(.*)", (ROOT / page).read_text("utf-8")):
            wanted |= set(re.findall(r"--[a-z-]+", line))
    text = (ROOT / "benchmarks" / name).read_text("utf-8")
    assert all(option.removeprefix("--") in text for option in wanted), wanted
