"""The code that people read first runs as it stands there."""

import doctest
import logging
import os
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import chdir
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "docs/application.md",
    "docs/graph.md",
    "docs/editing.md",
    "docs/labels.md",
    "docs/notebook.md",
    "docs/overview.md",
    "docs/tutorial.md",
]
BLOCK = re.compile(r"^```(python|pycon|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def no_leaked_threads():
    """Instead of the fixture for all tests: zarr keeps threads for the process once it has read a file."""


@pytest.fixture(autouse=True)
def logging_as_before():
    """A page sets the level of our logger."""
    logger = logging.getLogger("lazyflow_core")
    before = logger.level
    yield
    logger.setLevel(before)


def blocks(page, *kinds):
    """Yield line number, kind and text of the code blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match[1] in kinds:
            yield text.count("\n", 0, match.start()) + 1, match[1], match[2]


def run_page(page):
    """Run the Python of a page in order, in one namespace, at the root of the repository."""
    names = {"__name__": "page"}
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    with chdir(ROOT):
        for line, kind, code in blocks(page, "python", "pycon"):
            if kind == "python":
                # As many empty lines before it as there are in the page, so that a traceback names the line.
                exec(compile("\n" * line + code, str(ROOT / page), "exec"), names)
                continue
            said = []
            test = doctest.DocTestParser().get_doctest(code, names, page, str(ROOT / page), line)
            failed, tried = runner.run(test, out=said.append, clear_globs=False)
            names = test.globs
            assert tried
            assert not failed, "".join(said)


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_the_page_runs(page, capsys):
    assert list(blocks(page, "python", "pycon"))
    run_page(page)


def test_the_operator_of_the_tutorial_installs_as_it_says(tmp_path):
    (_, _, project), (_, _, pipeline) = blocks("docs/tutorial.md", "toml")
    project = tomllib.loads(project)["project"]
    ((id, target),) = project["entry-points"]["lazyflow.operators"].items()

    # What `pip install .` would put there: the module, and the metadata of the distribution.
    code = "\n".join(text for _, _, text in blocks("docs/tutorial.md", "python"))
    (tmp_path / f"{target.partition(':')[0]}.py").write_text(code, encoding="utf-8")
    metadata = tmp_path / "acme_lazyflow-1.0.dist-info"
    metadata.mkdir()
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(about, encoding="utf-8")
    entry_points = f"[lazyflow.operators]\n{id} = {target}\n"
    (metadata / "entry_points.txt").write_text(entry_points, encoding="utf-8")
    (tmp_path / "edges.toml").write_text(pipeline, encoding="utf-8")
    shutil.copy(ROOT / "examples/data/sample_ovule.h5", tmp_path)

    def lazyflow(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "lazyflow_cli", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert id in lazyflow("operators")
    assert "wrote edges.zarr" in lazyflow("run", "edges.toml")


def test_the_diagrams_are_what_their_script_draws(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs/images"))
    import draw_diagrams

    for name, draw in draw_diagrams.DIAGRAMS.items():
        assert (ROOT / "docs/images" / name).read_text(encoding="utf-8") == draw()
