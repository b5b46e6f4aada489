"""What discovery costs among 300 distributions: counted, or compared with a bare scan on the same machine."""

import json
import os
import subprocess
import sys

import pytest

COUNT = 300
WITH_ENTRY_POINTS = 75
WITH_OPERATORS = 20


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A folder with the metadata of many distributions; importing any of their modules prints."""
    folder = tmp_path_factory.mktemp("crowd")
    for n in range(COUNT):
        info = folder / f"dist_{n}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: dist-{n}\nVersion: 1.0\n" + "Classifier: Nothing :: At All\n" * 30
        )
        if n < WITH_OPERATORS:
            (info / "entry_points.txt").write_text(
                "[lazyflow.operators]\n"
                + "".join(f"dist_{n}.op_{k} = module_{n}:OpX\n" for k in range(5))
                + f"[lazyflow.plugins]\ndist_{n} = module_{n}\n"
            )
            (folder / f"module_{n}.py").write_text(f"print('imported {n}')\nLAZYFLOW_API = (1, 0)\n")
        elif n < WITH_ENTRY_POINTS:
            (info / "entry_points.txt").write_text("[console_scripts]\nx = nowhere:main\n")
    return folder


def run(crowd, code):
    """Run code in a fresh interpreter among the crowd and return what it prints as JSON."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LAZYFLOW_")}
    # The crowd comes last: what is imported is found before it, as in a real environment.
    path = [*(p for p in sys.path if p), str(crowd)]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    code = f"import sys, json, time\n{code}\nprint(json.dumps(result))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # anything that was imported would have printed and spoilt it


def test_importing_the_core_reads_no_metadata(crowd):
    code = """
opened, looks = [], ("open", "os.listdir", "os.scandir")
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event in looks else None)
import lazyflow_core
import lazyflow_core.plugins
result = [[p for p in opened if "dist-info" in p or p.endswith("crowd0")], sorted(sys.modules)]
"""
    opened, modules = run(crowd, code)
    assert opened == []
    assert not {"numpy", "importlib_metadata", "importlib.metadata"} & set(modules)


LISTING = """
from lazyflow_core.plugins import PluginManager, list_operators
listed = [spec.id for spec in list_operators()]
"""


def test_discovery_imports_no_plugin(crowd):
    listed, modules = run(crowd, LISTING + "result = [listed, sorted(sys.modules)]")
    assert sum(id.startswith("dist_") for id in listed) == 5 * WITH_OPERATORS
    assert not [name for name in modules if name.startswith("module_")]
    assert "numpy" not in modules


def test_one_scan_reads_each_list_of_entry_points_at_most_once_and_no_metadata(crowd):
    code = f"""
opened, seen = [], []
sys.addaudithook(lambda event, args: seen.append(str(args[0])) if event == "open" else None)
for _ in range(3):
    {LISTING.strip().replace(chr(10), chr(10) + "    ")}
    PluginManager().operators()
    PluginManager().plugins()
opened = [p for p in seen if {str(crowd)!r} in p]
result = [[p for p in opened if p.endswith(name)] for name in ("METADATA", "entry_points.txt")]
"""
    metadata, entry_points = run(crowd, code)
    assert len(entry_points) == len(set(entry_points))
    assert metadata == []
    # Where there is no entry_points.txt, it is looked for; no other file of these is.
    assert WITH_ENTRY_POINTS <= len(entry_points) <= COUNT


def test_discovery_costs_little_more_than_the_bare_scan_it_makes(crowd):
    """Least of several fresh processes, in time of the processor: the machine may be busy."""
    begin, end = "begin = time.process_time()\n", "\nresult = time.process_time() - begin"
    bare = begin + "import importlib_metadata; list(importlib_metadata.entry_points())" + end
    ours = begin + LISTING + end
    least = {code: min(run(crowd, code) for _ in range(5)) for code in (bare, ours)}
    assert least[ours] < 2.5 * least[bare], least


def test_help_imports_neither_numpy_nor_any_plugin(crowd):
    pytest.importorskip("lazyflow_cli")
    code = """
import contextlib, io
from lazyflow_cli.main import main
with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
    main(["--help"])
result = [said.getvalue(), sorted(sys.modules)]
"""
    said, modules = run(crowd, code)
    assert "operators" in said
    assert not {"numpy", "importlib_metadata", "pluggy"} & set(modules)
    assert not [name for name in modules if name.startswith("module_")]


def test_an_allow_list_is_obeyed_among_hundreds(crowd):
    code = """
import os
os.environ["LAZYFLOW_PLUGINS"] = "dist_3"
from lazyflow_core.plugins import default
states = {i.namespace: i.state for i in default().plugins()}
result = [[s.id for s in default().operators()], [name for name in states if states[name] != "disabled"]]
"""
    operators, plugins = run(crowd, code)
    assert operators == [f"dist_3.op_{k}" for k in range(5)]
    assert plugins == ["dist_3"]
