"""What holds for the core by itself; run where nothing else is installed."""

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import lazyflow_core


def run(code):
    """Run code in a fresh interpreter and return what it prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_no_plugin_is_installed_here():
    assert not entry_points(group="lazyflow.operators")


def test_what_is_tested_is_the_installed_wheel_not_the_source_tree():
    assert "site-packages" in lazyflow_core.__file__
    assert (Path(lazyflow_core.__file__).parent / "py.typed").exists()


def test_importing_the_core_imports_neither_numpy_nor_package_metadata_nor_starts_a_thread():
    loaded, threads = run(
        "import sys, threading, json, lazyflow_core;"
        "print(json.dumps([sorted(sys.modules), threading.active_count()]))"
    )
    assert not {"numpy", "greenlet", "pluggy", "importlib_metadata", "importlib.metadata"} & set(loaded)
    assert threads == 1


def test_asking_what_is_installed_does_not_import_numpy():
    loaded = run(
        "import sys, json; from lazyflow_core.plugins import list_operators; list_operators();"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert "numpy" not in loaded
    assert "importlib_metadata" in loaded


def test_the_request_framework_does_not_import_numpy():
    loaded = run("import sys, json, lazyflow_core.request; print(json.dumps(sorted(sys.modules)))")
    assert "numpy" not in loaded


def test_every_public_name_can_be_imported():
    assert [getattr(lazyflow_core, name) for name in lazyflow_core.__all__]
    assert set(lazyflow_core.__all__) <= set(dir(lazyflow_core))
