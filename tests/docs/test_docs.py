"""The code that people read first runs as it stands there: README, overview, tutorial."""

import doctest
import re
import sys
import tomllib
from contextlib import chdir
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/overview.md", "docs/tutorial.md"]
BLOCK = re.compile(r"^```(python|pycon|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def no_leaked_threads():
    """Instead of the fixture for all tests: zarr keeps threads for the process once it has read a file."""


def blocks(page, *kinds):
    """Yield line number, kind and text of the code blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match[1] in kinds:
            yield text.count("\n", 0, match.start()) + 1, match[1], match[2]


def run_page(page):
    """Run the Python of a page in order, in one namespace, at the root of the repository; return it."""
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
    return names


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_the_page_runs(page, capsys):
    assert list(blocks(page, "python", "pycon"))
    run_page(page)


def test_the_operator_of_the_tutorial_installs_as_it_says(monkeypatch, tmp_path, capsys):
    project, pipeline = (tomllib.loads(text) for _, _, text in blocks("docs/tutorial.md", "toml"))
    ((id, target),) = project["project"]["entry-points"]["lazyflow.operators"].items()
    module = type(sys)(EntryPoint(id, target, "lazyflow.operators").module)
    module.__dict__.update(run_page("docs/tutorial.md"))
    monkeypatch.setitem(sys.modules, module.__name__, module)

    installed = tmp_path / "acme_lazyflow-1.0.dist-info"
    installed.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['project']['name']}\nVersion: 1.0\n"
    (installed / "METADATA").write_text(metadata, encoding="utf-8")
    (installed / "entry_points.txt").write_text(f"[lazyflow.operators]\n{id} = {target}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))

    from lazyflow_core import Graph, Pipeline
    from lazyflow_core.plugins import PluginManager

    manager = PluginManager()
    pipeline["volume"]["path"] = str(ROOT / "examples/data/sample_ovule.h5")
    with Graph() as graph:
        built = Pipeline.from_dict(pipeline).build(graph, manager)
        assert built.slot("edges.output")[0, :8, :8].wait().max() > 0


def test_the_diagrams_are_what_their_script_draws(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs/images"))
    import draw_diagrams

    for name, draw in draw_diagrams.DIAGRAMS.items():
        assert (ROOT / "docs/images" / name).read_text(encoding="utf-8") == draw()
