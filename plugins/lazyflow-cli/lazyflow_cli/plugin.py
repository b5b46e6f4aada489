"""What this distribution tells the core: it is there, and the state of what it needs."""

from collections.abc import Iterator

from lazyflow_core.plugins import Check, hookimpl, version_of

LAZYFLOW_API = (1, 0)


@hookimpl
def lazyflow_doctor() -> Iterator[Check]:
    """Report the libraries that commands use, without importing them."""
    for name in ("click", "rich", "pillow"):
        version = version_of(name)
        if version is None:
            yield Check(f"cli: {name}", False, "not installed", f"pip install {name}")
        else:
            yield Check(f"cli: {name}", True, version)
