"""From the wheels, in a new environment, outside the repository: the first things a user does."""

import json
import shutil

import pytest

from .distributions import ALL, PLUGINS, ROOT


def test_the_environment_is_consistent(installed):
    installed.run("python", "-m", "pip", "check")
    shown = installed.run("lazyflow", "--version")
    for distribution in ALL:
        assert f"{distribution.name} {distribution.project['version']}" in shown


def test_the_example_runs_outside_the_repository(installed):
    shutil.copytree(ROOT / "examples", installed.home / "examples")
    said = installed.run("lazyflow", "run", "examples/ovule.toml", "--preview", "ovule.png")
    assert "wrote examples/ovule_edges.h5" in said
    assert "wrote examples/ovule_mask.zarr" in said
    assert (installed.home / "ovule.png").read_bytes().startswith(b"\x89PNG")
    installed.run("lazyflow", "run", "examples/ovule.toml", returncode=5)  # they exist now


def test_the_listing_names_every_operator_and_imports_none(installed):
    code = (
        "import json, sys; from lazyflow_cli.main import main\n"
        "try: main(['operators', 'list'])\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    *listed, modules = installed.run("python", "-c", code).splitlines()
    offered = {id for plugin in PLUGINS for id in plugin.entry_points.get("lazyflow.operators", {})}
    assert offered <= {line.split()[0] for line in listed}
    ours = {plugin.package for plugin in PLUGINS if plugin.name != "lazyflow-cli"}
    imported = {name for name in json.loads(modules) if name.split(".")[0] in ours}
    assert not {name for name in imported if not name.endswith(".plugin") and "." in name}
    assert "numpy" not in json.loads(modules)


@pytest.mark.parametrize("plugin", PLUGINS, ids=str)
def test_every_entry_point_resolves(plugin, installed):
    code = (
        "import importlib.metadata, json\n"
        f"found = importlib.metadata.distribution({plugin.name!r}).entry_points\n"
        "print(json.dumps({e.name: type(e.load()).__name__ for e in found}))"
    )
    loaded = json.loads(installed.run("python", "-c", code))
    offered = plugin.entry_points.get("lazyflow.operators", {})
    assert {id: loaded[id] for id in offered} == dict.fromkeys(offered, "OperatorType")
    assert loaded[plugin.namespace] == "module"


def test_the_doctor_finds_nothing_wrong(installed):
    assert "All is well" in installed.run("lazyflow", "doctor")
