"""What the project publishes: for telling somebody what to install.

A table and no registry: it names distributions, it imports and decides nothing.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DISTRIBUTION_OF_NAMESPACE", "DISTRIBUTION_OF_SUFFIX", "RESERVED", "namespace_owner"]

#: Namespaces that no plugin may have.
RESERVED: Final = ("core", "lazyflow")

DISTRIBUTION_OF_NAMESPACE: Final = {
    "array": "lazyflow-ops-array",
    "cache": "lazyflow-ops-cache",
    "cli": "lazyflow-cli",
    "filters": "lazyflow-ops-filters",
    "io": "lazyflow-ops-io",
    "learning": "lazyflow-ops-learning",
}

DISTRIBUTION_OF_SUFFIX: Final = dict.fromkeys(
    (".h5", ".hdf5", ".ilp", ".npy", ".tif", ".tiff", ".zarr"), "lazyflow-ops-io"
)


def namespace_owner(namespace: str) -> str | None:
    """Return which distribution of this project a namespace belongs to; None if it is free for others.

    Examples
    --------
    >>> namespace_owner("filters"), namespace_owner("lazyflow"), namespace_owner("acme")
    ('lazyflow-ops-filters', 'lazyflow-core', None)
    """
    return "lazyflow-core" if namespace in RESERVED else DISTRIBUTION_OF_NAMESPACE.get(namespace)
