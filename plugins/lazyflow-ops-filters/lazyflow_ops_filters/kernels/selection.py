"""Which backends there are on this machine, and which one a name means.

``auto`` is the fastest of our own: native where it was built, else scipy. Anything else is used because a
user named it, and if it cannot be used that is an error, never another backend.
"""

from __future__ import annotations

import os
from functools import cache

from lazyflow_core.errors import ParameterError
from lazyflow_core.foreign import sentence

from lazyflow_ops_filters.hooks import filters_backend
from lazyflow_ops_filters.kernels.backend import Backend

__all__ = ["AUTO", "CHOICE_VARIABLE", "describe_auto", "describe_backends", "get_backend"]

AUTO = "auto"

#: Environment variable with the backend that ``auto`` means on this machine.
CHOICE_VARIABLE = "LAZYFLOW_FILTERS_BACKEND"

_BUILT_IN = ("native", "scipy", "vigra")


def get_backend(name: str = AUTO) -> Backend:
    """Return a backend by name.

    Parameters
    ----------
    name
        ``"auto"``, ``"native"``, ``"scipy"``, ``"vigra"``, or a name that a plugin answers for
        (hook ``filters_backend``).

    Raises
    ------
    ParameterError
        If there is no backend of that name or it cannot be loaded; the text says why.

    Examples
    --------
    >>> get_backend("scipy").name
    'scipy'
    """
    if name == AUTO:
        name = os.environ.get(CHOICE_VARIABLE) or ("scipy" if isinstance(_load("native"), str) else "native")
    found = _load(name) if name in _BUILT_IN else _ask_plugins(name)
    if isinstance(found, Backend):
        return found
    raise ParameterError(f"filter backend {name!r} cannot be used: {found}")


def describe_backends() -> list[tuple[str, str, str]]:
    """Return name, why it cannot be used or "", and version or "", of every built-in backend."""
    found = [(name, _load(name)) for name in _BUILT_IN]
    return [(n, b, "") if isinstance(b, str) else (n, "", b.describe()) for n, b in found]


def describe_auto() -> tuple[str, str]:
    """Return which backend ``auto`` means on this machine, or "" if it cannot be used, and why."""
    wanted = os.environ.get(CHOICE_VARIABLE)
    try:
        name = get_backend().name
    except ParameterError as error:
        return "", f"{CHOICE_VARIABLE}={wanted}: {error}"
    if wanted:
        return name, f"{name}, as {CHOICE_VARIABLE} says"
    return name, "native, the fastest" if name == "native" else f"{name}, since native is not there"


@cache
def _load(name: str) -> Backend | str:
    try:
        if name == "native":
            from lazyflow_ops_filters.kernels.native_backend import NativeBackend

            return NativeBackend()
        if name == "scipy":
            from lazyflow_ops_filters.kernels.scipy_backend import ScipyBackend

            return ScipyBackend()
        from lazyflow_ops_filters.kernels.vigra_backend import VigraBackend

        return VigraBackend()
    # Not only ImportError: a vigra that was built for another numpy raises SystemError.
    except Exception as error:
        return sentence(error)


def _ask_plugins(name: str) -> Backend | str:
    from lazyflow_core import plugins

    found = plugins.default().demand(filters_backend, Backend, name=name)
    return found or f"no such backend; there are {', '.join(map(repr, _BUILT_IN))} and those of plugins."
