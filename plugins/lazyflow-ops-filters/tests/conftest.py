from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from lazyflow_core import plugins

from lazyflow_ops_filters.kernels import Backend, describe_backends, get_backend
from lazyflow_ops_filters.kernels.scipy_backend import ScipyBackend
from lazyflow_ops_filters.pytest_support import chosen_filter_backend

# pytest's importlib mode does not put the folder of the tests on the path; filter_cases.py is there.
sys.path.insert(0, str(Path(__file__).parent))

chosen = chosen_filter_backend()
BACKENDS = [chosen] if chosen else [name for name, problem, _ in describe_backends() if not problem]
if "native" in BACKENDS:
    BACKENDS.append("native, generic build")


class Loopback(ScipyBackend):
    """Ours by way of a plugin, to test that way: ``pytest --lazyflow-filter-backend=loopback``."""

    name = "loopback"


def pytest_sessionstart() -> None:
    """Offer it as a plugin would."""
    plugin = types.SimpleNamespace(
        filters_backend=plugins.hookimpl(lambda name: Loopback() if name == "loopback" else None)
    )
    plugins.default().register_plugin(plugin, "loopback")


@pytest.fixture(params=BACKENDS, scope="session")
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend that runs on this machine; of the native one also the build for any processor."""
    if request.param == "native, generic build":
        from lazyflow_ops_filters.kernels.native_backend import NativeBackend

        return NativeBackend("generic")
    return get_backend(request.param)


@pytest.fixture(scope="session")
def oracle() -> Backend:
    """The reference: everything in float64."""
    return ScipyBackend(np.float64)
