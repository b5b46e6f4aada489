"""The plugin manager: which operators, readers, writers and hooks there are, and the way to each.

Listing imports nothing. An operator's module is imported when that operator is asked for; the light hook
modules of all plugins when the first hook is called. A plugin that fails is recorded with its error, told
about once, and harms no other.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lazyflow_core.errors import (
    OperatorConflictError,
    OperatorLoadError,
    PluginError,
    UnknownOperatorError,
)
from lazyflow_core.plugins import discovery
from lazyflow_core.plugins.known import DISTRIBUTION_OF_NAMESPACE
from lazyflow_core.plugins.specs import OperatorSpec, ReaderSpec, WriterSpec

if TYPE_CHECKING:
    import pluggy
    from importlib_metadata import EntryPoint

    from lazyflow_core.graph import Operator
    from lazyflow_core.meta import ArrayMeta
    from lazyflow_core.plugins.doctor import Check
    from lazyflow_core.storage import Reader, Writer

__all__ = ["API", "PluginInfo", "PluginManager"]

_logger = logging.getLogger("lazyflow_core")

#: Level of the plugin contract: (major, minor). A plugin states the level it was written for as
#: ``LAZYFLOW_API``; another major, or a larger minor, is refused.
API: Final = (1, 0)


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """An installed plugin and what became of it.

    Parameters
    ----------
    namespace
        The name of its entry point; its operators' ids begin with it.
    distribution, version
        Who installed it.
    target
        Its module of hooks.
    state
        ``"installed"`` before any hook was called, then ``"loaded"`` or ``"broken"``; ``"disabled"`` where
        the user said so.
    error
        Why it is broken.
    """

    namespace: str
    distribution: str
    version: str
    target: str
    state: str
    error: BaseException | None = None


class PluginManager:
    """Finds operators, readers and writers, and calls hooks.

    Parameters
    ----------
    only
        Namespaces or distributions to use, and no others; default ``LAZYFLOW_PLUGINS`` (comma separated; set
        but empty means none), else all.
    disable
        Namespaces or distributions not to use; default ``LAZYFLOW_DISABLE_PLUGINS``.
    prefer
        Which distribution to take where two offer one id; default ``LAZYFLOW_PREFER``
        (``"filters.x=dist-name,…"``).
    strict
        Raise for a broken plugin instead of going on without it; default ``LAZYFLOW_STRICT_PLUGINS``.

    Notes
    -----
    All methods may be called from any thread. None is meant for hot paths.
    """

    def __init__(
        self,
        *,
        only: Iterable[str] | None = None,
        disable: Iterable[str] | None = None,
        prefer: dict[str, str] | None = None,
        strict: bool | None = None,
    ) -> None:
        env = os.environ
        if only is None and "LAZYFLOW_PLUGINS" in env:
            only = _split(env["LAZYFLOW_PLUGINS"])
        if disable is None:
            disable = _split(env.get("LAZYFLOW_DISABLE_PLUGINS", ""))
        if prefer is None:
            pairs = (item.partition("=") for item in _split(env.get("LAZYFLOW_PREFER", "")))
            prefer = {key.strip(): value.strip() for key, _, value in pairs}
        self._only = None if only is None else frozenset(map(_normal, only))
        self._disable = frozenset(map(_normal, disable))
        self._prefer = prefer
        self._strict = env.get("LAZYFLOW_STRICT_PLUGINS", "") == "1" if strict is None else strict
        #: Guards the two below. Not held while a plugin is imported.
        self._lock = threading.RLock()
        self._registered: dict[str, type[Operator]] = {}
        self._pm: pluggy.PluginManager | None = None
        #: Errors of plugins by namespace, known once the hooks are loaded.
        self._broken: dict[str, BaseException] = {}

    # ------------------------------------------------------------------------------------------ operators

    def operators(self) -> list[OperatorSpec]:
        """Return all operators there are, by id; two of one id where two distributions offer it.

        Imports no module of any operator. Operators that exist only at run time come from hooks, so the
        light hook modules are imported if there are any.
        """
        found = {
            (entry.name, name): OperatorSpec(entry.name, entry.value, name, version)
            for entry, name, version in self._allowed(discovery.OPERATOR_GROUP)
        }
        for key, cls in self._registered.items():
            found[key, ""] = OperatorSpec(key, f"{cls.__module__}:{cls.__qualname__}")
        return [found[key] for key in sorted(found)]

    def get_operator(self, id: str) -> type[Operator]:
        """Return the class of an operator, importing its module.

        Raises
        ------
        UnknownOperatorError
            If no installed distribution offers it; suggests near misses, or what to install.
        OperatorConflictError
            If two distributions offer it and none is preferred.
        OperatorLoadError
            If importing it fails.
        """
        if id in self._registered:
            return self._registered[id]
        offers = [spec for spec in self.operators() if spec.id == id]
        if not offers:
            raise UnknownOperatorError(self._unknown(id))
        if len(offers) > 1:
            preferred = [s for s in offers if _normal(s.distribution) == _normal(self._prefer.get(id, ""))]
            if len(preferred) != 1:
                raise OperatorConflictError(_conflict(offers))
            offers = preferred
        return self._load_operator(offers[0])

    def register(self, id: str, operator: type[Operator], *, replace: bool = False) -> None:
        """Offer an operator for the rest of the process; it wins over installed ones.

        Raises
        ------
        PluginError
            If the id is malformed, or taken and not to be replaced.
        """
        if not discovery.OPERATOR_ID.fullmatch(id):
            raise PluginError(f"{id!r} is no operator id; one looks like 'namespace.name', in lower case.")
        with self._lock:
            if not replace and any(spec.id == id for spec in self.operators()):
                raise PluginError(f"operator id {id!r} is taken; say replace=True to replace it.")
            self._registered[id] = operator

    def _load_operator(self, spec: OperatorSpec) -> type[Operator]:
        from lazyflow_core.graph import Operator

        who = f"operator {spec.id!r} ({spec.distribution} {spec.version}, {spec.target})"
        try:
            loaded = _load(spec.target)
        except (Exception, SystemExit) as error:
            raise OperatorLoadError(
                f"{who} could not be imported: {type(error).__name__}: {error}"
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, Operator)):
            raise OperatorLoadError(f"{who} is {loaded!r}, which is no operator class.")
        return loaded

    def _unknown(self, id: str) -> str:
        ids = [spec.id for spec in self.operators()]
        near = difflib.get_close_matches(id, ids, n=3)
        namespace = id.partition(".")[0]
        if near:
            return f"no operator {id!r}; did you mean {' or '.join(map(repr, near))}?"
        if any(i.startswith(f"{namespace}.") for i in ids):
            offered = ", ".join(sorted({i for i in ids if i.startswith(f"{namespace}.")}))
            return f"no operator {id!r}; {namespace!r} offers {offered}."
        text = f"no operator {id!r}: no installed distribution provides the namespace {namespace!r}."
        if namespace in DISTRIBUTION_OF_NAMESPACE:
            text += f" Try: pip install {DISTRIBUTION_OF_NAMESPACE[namespace]}"
        return text

    # ---------------------------------------------------------------------------------- readers and writers

    def readers(self) -> list[ReaderSpec]:
        """Return the kinds of files that installed plugins read, by id."""
        return sorted(_flat(self.hook.lazyflow_reader_specs()), key=lambda spec: spec.id)

    def writers(self) -> list[WriterSpec]:
        """Return the kinds of files that installed plugins write, by id."""
        return sorted(_flat(self.hook.lazyflow_writer_specs()), key=lambda spec: spec.id)

    def open_reader(self, path: str, *, dataset: str | None = None, format: str | None = None) -> Reader:
        """Open an array for reading; see `lazyflow_core.plugins.files.open_reader`."""
        from lazyflow_core.plugins.files import open_reader

        return open_reader(self.readers(), path, dataset=dataset, format=format)

    def open_writer(
        self,
        path: str,
        meta: ArrayMeta,
        *,
        dataset: str | None = None,
        format: str | None = None,
        overwrite: bool = False,
        **options: Any,
    ) -> Writer:
        """Open a new array for writing; see `lazyflow_core.plugins.files.open_writer`."""
        from lazyflow_core.plugins.files import open_writer

        return open_writer(
            self.writers(), path, meta, dataset=dataset, format=format, overwrite=overwrite, **options
        )

    # ----------------------------------------------------------------------------------------------- hooks

    @property
    def hook(self) -> Any:
        """The hooks, to be called by name; loads the light modules of all plugins at first use."""
        return self._hooks().hook

    def doctor(self) -> list[Check]:
        """Return what the plugins say about this machine, and which of them are broken."""
        from lazyflow_core.plugins.doctor import Check

        checks = _flat(self.hook.lazyflow_doctor())
        checks += [
            Check(
                f"plugin {info.namespace}",
                info.state != "broken",
                f"{info.distribution} {info.version}" + (f": {_sentence(info.error)}" if info.error else ""),
            )
            for info in self.plugins()
        ]
        return checks

    def plugins(self, *, load: bool = False) -> list[PluginInfo]:
        """Return the installed plugins, by namespace; ``load`` loads them first to see what breaks."""
        if load:
            self._hooks()
        infos = []
        for entry in discovery.entry_points(discovery.PLUGIN_GROUP):
            name, version = discovery.distribution_of(entry)
            state = "installed" if self._pm is None else "loaded"
            if not self._is_allowed(entry.name, name):
                state = "disabled"
            elif entry.name in self._broken:
                state = "broken"
            infos.append(
                PluginInfo(entry.name, name, version, entry.value, state, self._broken.get(entry.name))
            )
        return infos

    def _hooks(self) -> pluggy.PluginManager:
        with self._lock:
            if self._pm is None:
                import pluggy

                from lazyflow_core.plugins.hookspecs import HookSpecs

                manager = pluggy.PluginManager("lazyflow")
                manager.add_hookspecs(HookSpecs)
                for entry, name, version in self._allowed(discovery.PLUGIN_GROUP):
                    self._load_plugin(manager, entry, f"plugin {entry.name!r} ({name} {version})")
                self._pm = manager
        return self._pm

    def _load_plugin(self, manager: pluggy.PluginManager, entry: EntryPoint, who: str) -> None:
        try:
            module = _load(entry.value)
            _check_api(module)
            manager.register(module, entry.name)
        except (Exception, SystemExit) as error:
            # pluggy keeps the hooks it had registered when it met a bad one.
            if manager.has_plugin(entry.name):
                manager.unregister(name=entry.name)
            if self._strict:
                raise PluginError(f"{who} was not loaded: {_sentence(error)}") from error
            self._broken[entry.name] = error
            _logger.warning(
                "%s is disabled: %s\n  run 'lazyflow plugins show %s' for the traceback, or set "
                "LAZYFLOW_DISABLE_PLUGINS=%s to silence this.",
                who,
                _sentence(error),
                entry.name,
                entry.name,
            )

    # --------------------------------------------------------------------------------------- who is allowed

    def _allowed(self, group: str) -> list[tuple[EntryPoint, str, str]]:
        """Return the entry points that the user did not switch off, each with its distribution."""
        found = []
        for entry in discovery.entry_points(group):
            name, version = discovery.distribution_of(entry)
            if self._is_allowed(entry.name.partition(".")[0], name):
                found.append((entry, name, version))
        return found

    def _is_allowed(self, namespace: str, distribution: str) -> bool:
        names = {_normal(namespace), _normal(distribution)}
        if self._only is not None and not names & self._only:
            return False
        return not names & self._disable


def _load(target: str) -> Any:
    """Import ``"package.module"`` or ``"package.module:name"``."""
    module, _, attribute = target.partition(":")
    loaded: Any = importlib.import_module(module)
    for part in filter(None, attribute.split(".")):
        loaded = getattr(loaded, part)
    return loaded


def _check_api(module: Any) -> None:
    stated = getattr(module, "LAZYFLOW_API", None)
    if stated is None:
        raise PluginError(f"{module.__name__} does not state LAZYFLOW_API; this is level {API}.")
    if stated[0] != API[0] or stated[1] > API[1]:
        raise PluginError(
            f"it was written for plugin API {stated[0]}.{stated[1]} and this is {API[0]}.{API[1]}; install "
            f"{'a newer lazyflow-core' if tuple(stated) > API else 'a newer version of the plugin'}."
        )


def _conflict(offers: list[OperatorSpec]) -> str:
    first = offers[0]
    lines = [f"operator id {first.id!r} is provided by {len(offers)} distributions:"]
    lines += [f"    {spec.distribution} {spec.version}   {spec.target}" for spec in offers]
    lines.append(
        f"  choose one: LAZYFLOW_PREFER={first.id}={offers[-1].distribution}   or uninstall the others."
    )
    return "\n".join(lines)


def _flat(answers: Iterable[Iterable[Any]]) -> list[Any]:
    return [item for answer in answers if answer for item in answer]


def _normal(name: str) -> str:
    """Return a distribution name as packaging tools compare them (PEP 503)."""
    return name.strip().lower().replace("_", "-").replace(".", "-")


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
