from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from lazyflow_core import plugins
from lazyflow_core.errors import PluginError

from lazyflow_ops_filters import kernels as k
from lazyflow_ops_filters.kernels.scipy_backend import ScipyBackend


def test_the_plugin_module_imports_nothing_heavy():
    code = (
        "import sys, lazyflow_ops_filters.plugin;"
        "print([m for m in ('numpy', 'scipy', 'vigra', 'ctypes') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_doctor_says_which_kernels_run_and_why_others_do_not():
    from lazyflow_ops_filters.plugin import lazyflow_doctor

    checks = {check.name: check for check in lazyflow_doctor()}
    scipy = checks["filters: scipy kernels"]
    assert scipy.ok
    assert "scipy" in scipy.detail
    vigra = checks["filters: vigra kernels"]
    assert vigra.ok or (vigra.ok is None and "Error" in vigra.detail and "python3-vigra" in vigra.hint)
    native = checks["filters: native kernels"]
    assert native.ok or (native.ok is None and "compiler" in native.detail and "gcc" in native.hint)


def test_a_backend_of_a_plugin_is_used_by_name(monkeypatch):
    class Counting(ScipyBackend):
        name = "counting"
        calls = 0

        def convolve(self, *arguments):
            Counting.calls += 1
            super().convolve(*arguments)

    def backend(name):
        if name == "broken":
            raise RuntimeError("no licence")
        return {"counting": Counting(), "no backend": 7}.get(name)

    manager = plugins.PluginManager(discover=False)
    manager.register_plugin(types.SimpleNamespace(filters_backend=plugins.hookimpl(backend)), "judge")
    monkeypatch.setattr(plugins, "default", lambda: manager)
    k.gaussian_smoothing(np.zeros((9, 9)), 1.0, backend="counting")
    assert Counting.calls == 1
    with pytest.raises(k.functions.ParameterError, match="'other' cannot be used: no such backend"):
        k.gaussian_smoothing(np.zeros((9, 9)), 1.0, backend="other")
    with pytest.raises(RuntimeError, match="no licence"):
        k.gaussian_smoothing(np.zeros((9, 9)), 1.0, backend="broken")
    with pytest.raises(PluginError, match="'judge' answers filters_backend with 7, which is no Backend"):
        k.gaussian_smoothing(np.zeros((9, 9)), 1.0, backend="no backend")


def test_plugins_may_implement_the_hook_and_a_manager_knows_it():
    assert "filters_backend" in plugins.PluginManager(only=["filters"]).hook_names()


def test_golden_tests_run_on_the_backend_that_the_command_line_names():
    golden = Path(__file__).parent / "test_golden.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "lazyflow_ops_filters.pytest_support", golden]
    for name, said in (("loopback", "3 passed"), ("nowhere", "filter backend 'nowhere' cannot be used")):
        options = ["-k", "equals_scipys", f"--lazyflow-filter-backend={name}"]
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        assert said in done.stdout


def test_auto_means_native_where_it_was_built_and_else_scipy(monkeypatch):
    monkeypatch.delenv("LAZYFLOW_FILTERS_BACKEND", raising=False)
    built = "native" in [name for name, problem, _ in k.describe_backends() if not problem]
    assert k.get_backend().name == ("native" if built else "scipy")


def test_without_the_native_library_scipy_runs_and_doctor_says_why(monkeypatch, tmp_path):
    from lazyflow_ops_filters.kernels import selection
    from lazyflow_ops_filters.plugin import lazyflow_doctor

    monkeypatch.delenv("LAZYFLOW_FILTERS_BACKEND", raising=False)
    monkeypatch.setattr(k, "__path__", [str(tmp_path)])
    selection._load.cache_clear()
    try:
        assert k.get_backend().name == "scipy"
        with pytest.raises(
            k.functions.ParameterError, match=r"'native' cannot be used: .*no working C\+\+ compiler"
        ):
            k.get_backend("native")
        native = next(check for check in lazyflow_doctor() if "native" in check.name)
        assert native.ok is None
        assert "compiler" in native.detail
    finally:
        selection._load.cache_clear()


def test_the_environment_chooses_what_auto_means(monkeypatch):
    monkeypatch.setenv("LAZYFLOW_FILTERS_BACKEND", "scipy")
    assert k.get_backend().name == "scipy"
    monkeypatch.setenv("LAZYFLOW_FILTERS_BACKEND", "nonsense")
    with pytest.raises(k.functions.ParameterError, match="'nonsense' cannot be used"):
        k.get_backend()


def test_doctor_says_what_auto_means_and_why(monkeypatch):
    from lazyflow_ops_filters.plugin import lazyflow_doctor

    monkeypatch.delenv("LAZYFLOW_FILTERS_BACKEND", raising=False)
    first = next(lazyflow_doctor())
    assert first.ok
    assert first.detail in ("native, the fastest", "scipy, since native is not there")
    monkeypatch.setenv("LAZYFLOW_FILTERS_BACKEND", "scipy")
    assert next(lazyflow_doctor()).detail == "scipy, as LAZYFLOW_FILTERS_BACKEND says"
    monkeypatch.setenv("LAZYFLOW_FILTERS_BACKEND", "nonsense")
    refused = next(lazyflow_doctor())
    assert not refused.ok
    assert "'nonsense' cannot be used" in refused.detail


def test_the_meta_says_which_kernels_of_which_build_compute():
    import numpy as np
    from lazyflow_core import Graph

    from lazyflow_ops_filters.neighborhood import OpMedian
    from lazyflow_ops_filters.smoothing import OpGaussianSmoothing

    builds = {name: detail for name, problem, detail in k.describe_backends() if not problem}
    with Graph() as graph:
        for name, detail in builds.items():
            smooth = OpGaussianSmoothing(graph=graph, image=np.zeros((9, 9)), sigma=1.0, backend=name)
            said = smooth.output.meta.extra["filters.computed_by"]
            assert said == (detail if detail.startswith(name) else f"{name} ({detail})")
            twice = OpMedian(graph=graph, image=smooth.output, radius=1, backend="scipy")
            again = twice.output.meta.extra["filters.computed_by"]
            assert again == (said if name == "scipy" else f"{said}, {builds['scipy']}")
