"""What filters ask plugins. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lazyflow_core.plugins import hookspec

if TYPE_CHECKING:
    from lazyflow_ops_filters.kernels import Backend

__all__ = ["filters_backend"]


@hookspec(firstresult=True)
def filters_backend(name: str) -> Backend | None:
    """Kernels of filters by name, or None; asked for a name that a user chose and that is none of ours.

    What it raises reaches the user. May be called from inside a request.
    """
