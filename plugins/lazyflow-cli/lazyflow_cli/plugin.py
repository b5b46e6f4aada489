"""What this distribution tells the core: it is there, and the state of what it needs."""

from collections.abc import Iterator

from lazyflow_core.plugins import Check, hookimpl

LAZYFLOW_API = (1, 0)


@hookimpl
def lazyflow_doctor() -> Iterator[Check]:
    """Report the libraries that commands use, without importing them."""
    from importlib import metadata

    for name in ("click", "rich", "pillow"):
        try:
            yield Check(f"cli: {name}", True, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check(f"cli: {name}", False, "not installed", f"pip install {name}")
