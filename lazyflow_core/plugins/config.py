"""What a user decided about plugins: in the environment, on the command line, or in code."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from lazyflow_core.errors import PluginError
from lazyflow_core.words import near_miss

__all__ = ["Config"]


@dataclass(frozen=True, slots=True)
class Config:
    """Which plugins to use, and which to prefer; handed to hooks that ask for ``config``.

    Plugins are named by namespace or by distribution, whichever is at hand.

    Parameters
    ----------
    only
        Use these plugins and no others; None for all. ``LAZYFLOW_PLUGINS``, comma separated; set but empty
        means none.
    disable
        Do not use these. ``LAZYFLOW_DISABLE_PLUGINS``.
    prefer
        Which distribution to take where two offer one id. ``LAZYFLOW_PREFER``, ``"filters.x=dist-name,…"``.
    readers
        Which reader to take for file names of a pattern. ``LAZYFLOW_READERS``, ``"*.tif=acme.tiff,…"``.
    strict
        Raise for a broken plugin instead of going on without it. ``LAZYFLOW_STRICT_PLUGINS=1``.

    Examples
    --------
    >>> config = Config.from_environment({"LAZYFLOW_DISABLE_PLUGINS": "acme, lazyflow-ops-io"})
    >>> config.allows("io", "lazyflow-ops-io"), config.allows("filters", "lazyflow-ops-filters")
    (False, True)
    """

    only: frozenset[str] | None = None
    disable: frozenset[str] = frozenset()
    prefer: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    readers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    strict: bool = False

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        only: Iterable[str] | None = None,
        disable: Iterable[str] | None = None,
        prefer: Mapping[str, str] | None = None,
        readers: Mapping[str, str] | None = None,
        strict: bool | None = None,
    ) -> Config:
        """Return what the environment says, except for what is given.

        Raises
        ------
        PluginError
            If a variable cannot be understood.
        """
        env = os.environ if environment is None else environment
        if only is None and "LAZYFLOW_PLUGINS" in env:
            only = _split(env["LAZYFLOW_PLUGINS"])
        if disable is None:
            disable = _split(env.get("LAZYFLOW_DISABLE_PLUGINS", ""))
        return cls(
            None if only is None else frozenset(only),
            frozenset(disable),
            _pairs(env, "LAZYFLOW_PREFER", "ID=DISTRIBUTION") if prefer is None else prefer,
            _pairs(env, "LAZYFLOW_READERS", "PATTERN=READER") if readers is None else readers,
            env.get("LAZYFLOW_STRICT_PLUGINS", "") == "1" if strict is None else strict,
        )

    def allows(self, namespace: str, distribution: str) -> bool:
        """Whether a plugin is to be used; asked before anything of it is imported."""
        names = {normal(namespace), normal(distribution)}
        if self.only is not None and not names & set(map(normal, self.only)):
            return False
        return not names & set(map(normal, self.disable))

    def complaints(self, installed: Iterable[str]) -> list[str]:
        """Return a sentence for each plugin that is named here and not installed."""
        known = {normal(name): name for name in installed}
        found = []
        for variable, names in (
            ("LAZYFLOW_PLUGINS", self.only or ()),
            ("LAZYFLOW_DISABLE_PLUGINS", self.disable),
        ):
            for name in sorted(names):
                if normal(name) not in known:
                    hint = near_miss(normal(name), known, shown=known)
                    found.append(f"{variable} names {name!r}, which is not installed{hint}")
        return found


def normal(name: str) -> str:
    """Return a distribution name as packaging tools compare them (PEP 503).

    Examples
    --------
    >>> normal("Lazyflow_Ops.IO")
    'lazyflow-ops-io'
    """
    return name.strip().lower().replace("_", "-").replace(".", "-")


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _pairs(env: Mapping[str, str], variable: str, form: str) -> dict[str, str]:
    pairs = {}
    for item in _split(env.get(variable, "")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value):
            raise PluginError(f"{variable}: {item!r} does not have the form {form}.")
        pairs[key] = value
    return pairs
