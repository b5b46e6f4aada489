"""An option for the command line of pytest: on which kernels the tests of filters run.

It is there with ``pytest -p lazyflow_ops_filters.pytest_support``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lazyflow_core.testing.pytest_support import chosen_option

if TYPE_CHECKING:
    import pytest

__all__ = ["chosen_filter_backend"]

#: It keeps what was chosen.
pytest_plugins = ["lazyflow_core.testing.pytest_support"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--lazyflow-filter-backend``."""
    parser.getgroup("lazyflow").addoption(
        "--lazyflow-filter-backend",
        metavar="NAME",
        help="run the tests of filter kernels on this backend only",
    )


def chosen_filter_backend() -> str | None:
    """Return the name that ``--lazyflow-filter-backend`` gives, for tests of filter kernels."""
    found: str | None = chosen_option("lazyflow_filter_backend")
    return found
