"""The light modules of plugins, loaded when the first hook is called, and asked one by one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from lazyflow_core.errors import PluginError
from lazyflow_core.foreign import contextmanager, sentence
from lazyflow_core.plugins import discovery
from lazyflow_core.plugins.config import Config
from lazyflow_core.plugins.known import RESERVED
from lazyflow_core.plugins.loading import (
    PluginInfo,
    PluginSource,
    add_hookspecs,
    check_api,
    is_for_the_caller,
    load_plugins,
    load_target,
    register,
)

if TYPE_CHECKING:
    import pluggy

    from lazyflow_core.request import RequestLock

__all__ = ["Hooks"]

_logger = logging.getLogger("lazyflow_core")

_NO_HOOKS: tuple[str, ...] = ()

#: Light modules whose level is being looked at by whoever asks here.
_checking: ContextVar[frozenset[str]] = ContextVar("checking", default=frozenset())


class Hooks:
    """The hooks of one `PluginManager`.

    Parameters
    ----------
    config
        What the user decided.
    discover
        Whether to load what is installed, besides what is registered.
    """

    def __init__(self, config: Config, discover: bool) -> None:
        self.config = config
        self._discover = discover
        #: Guards the fields below; held for a few statements, never while a plugin runs.
        self._lock = threading.Lock()
        #: Plugins registered before the hooks were loaded, by namespace.
        self._pending: dict[str, Any] = {}
        #: One lock per thing being imported: who else wants it waits, as a request or as a thread.
        self._loading: dict[str, RequestLock] = {}
        #: None until the first hook is called.
        self._pm: pluggy.PluginManager | None = None
        #: Errors of plugins, known once the hooks are loaded.
        self._broken: dict[PluginSource, BaseException] = {}
        #: Milliseconds that importing them took.
        self._import_ms: dict[PluginSource, float] = {}
        self._has_complained = False
        #: What was told, by hook and plugin.
        self._told: dict[tuple[str, str], str] = {}

    @property
    def are_loaded(self) -> bool:
        """Whether any hook was called yet."""
        return self._pm is not None

    @contextmanager
    def importing(self, what: str) -> Iterator[None]:
        """Let one at a time import a thing; a request that has to wait is suspended."""
        from lazyflow_core.request import RequestLock

        with self._lock:
            lock = self._loading.setdefault(what, RequestLock(f"import of {what}"))
        with lock:
            yield

    def plugins(self, *, load: bool = False) -> list[PluginInfo]:
        """See `PluginManager.plugins`."""
        pm = self.load() if load else self._pm
        infos = []
        for offer in discovery.entry_points(discovery.PLUGIN_GROUP) if self._discover else ():
            state, hooks = "installed", _NO_HOOKS
            source = PluginSource.of(offer)
            error, import_ms = self._broken.get(source), self._import_ms.get(source)
            if not self.config.allows(offer.name, offer.distribution):
                state, error = "disabled", None
            elif error is not None:
                state = "broken"
            elif pm is not None:
                state, hooks = "loaded", _hooks_of(pm, offer.name)
            infos.append(
                PluginInfo(
                    source.namespace,
                    source.distribution,
                    source.version,
                    source.target,
                    state,
                    error,
                    hooks,
                    import_ms,
                )
            )
        known = {info.namespace for info in infos}
        for namespace, plugin in pm.list_name_plugin() if pm is not None else ():
            if namespace not in known:
                target = getattr(plugin, "__name__", type(plugin).__qualname__)
                hooks = _hooks_of(pm, namespace) if pm is not None else _NO_HOOKS
                infos.append(PluginInfo(namespace, "", "", target, "loaded", None, hooks))
        return infos

    def register(self, plugin: Any, namespace: str) -> None:
        """See `PluginManager.register_plugin`."""
        if namespace in RESERVED:
            raise PluginError(f"the namespace {namespace!r} is reserved.")
        with self._lock:
            pm = self._pm
            if pm is None:
                if namespace in self._pending:
                    raise PluginError(f"the namespace {namespace!r} belongs to another plugin already.")
                self._pending[namespace] = plugin
                return
        if pm.has_plugin(namespace):
            raise PluginError(f"the namespace {namespace!r} belongs to another plugin already.")
        with self.importing("the hooks"):
            add_hookspecs(pm, plugin, namespace)
            register(pm, plugin, namespace)
        self.answers("lazyflow_configure", namespace, config=self.config)

    def close(self) -> None:
        """See `PluginManager.close`."""
        if self._pm is not None:
            self.answers("lazyflow_unconfigure", config=self.config)
            self._pm = None

    def load(self) -> pluggy.PluginManager:
        """Return pluggy's manager, with all plugins loaded and configured."""
        if self._pm is not None:
            return self._pm
        with self.importing("the hooks"):
            if self._pm is not None:
                return self._pm
            import pluggy

            from lazyflow_core.plugins.hookspecs import HookSpecs

            manager = pluggy.PluginManager("lazyflow")
            manager.add_hookspecs(HookSpecs)
            sources = [PluginSource.of(offer) for offer in self.allowed(discovery.PLUGIN_GROUP)]
            self._broken = load_plugins(manager, sources, self.config, self._import_ms)
            while self._pm is None:
                with self._lock:
                    pending, self._pending = self._pending, {}
                    if not pending:  # only now, or what is registered meanwhile would be lost
                        self._pm = manager
                for step in (add_hookspecs, partial(register, present=list(pending))):
                    for namespace, plugin in list(pending.items()):
                        try:
                            step(manager, plugin, namespace)
                        except Exception as error:
                            if self.config.strict:
                                raise
                            # Whoever asks first has nothing to do with it.
                            self.tell("registration", namespace, f"it is not used: {sentence(error)}")
                            del pending[namespace]
        self.answers("lazyflow_configure", config=self.config)
        return manager

    def answers(
        self, name: str, only: str | None = None, raising: bool = False, /, **arguments: Any
    ) -> list[tuple[str, Any]]:
        """Ask each plugin by itself, in the order of namespaces; return (plugin, answer) of all that answer.

        What one raises is told about once and harms no other, unless it is to be raised.
        """
        pm = self.load()
        caller = getattr(pm.hook, name, None)
        if caller is None:  # a plugin's own, which is not loaded, and nobody answers to
            return []
        names = {id(plugin): namespace for namespace, plugin in pm.list_name_plugin()}
        found = []
        for impl in sorted(caller.get_hookimpls(), key=lambda impl: impl.plugin_name):
            plugin = names.get(id(impl.plugin))
            if plugin is None or (only is not None and plugin != only):
                continue
            taken = {key: arguments[key] for key in impl.argnames if key in arguments}
            try:
                answer = impl.function(**taken)
                if name.endswith("_specs") or name == "lazyflow_doctor":
                    answer = list(answer or ())  # here: a generator raises when it is read
                found.append((plugin, answer))
            except BaseException as error:
                if raising or is_for_the_caller(error):
                    raise
                if self.config.strict:
                    raise PluginError(f"plugin {plugin!r}: {name} failed: {sentence(error)}") from error
                self.tell(name, plugin, f"{name} failed: {sentence(error)}")
        return found

    def first(self, name: str, raising: bool = False, /, **arguments: Any) -> tuple[Any, str]:
        """Return the first answer that is not None, and whose it is."""
        for plugin, answer in self.answers(name, None, raising, **arguments):
            if answer is not None:
                return answer, plugin
        return None, ""

    def collect(self, name: str, kind: type[Any]) -> list[tuple[str, Any]]:
        """Return (plugin, item) for all items of all answers; what is not of the kind is told and dropped."""
        found = []
        for plugin, items in self.answers(name):
            for item in items:
                if isinstance(item, kind):
                    found.append((plugin, item))
                else:
                    self.tell(name, plugin, f"{name} gave {item!r}, which is no {kind.__name__}.")
        return found

    def tell(self, hook: str, plugin: str, text: str) -> None:
        """Warn of what a plugin does wrong, once per hook."""
        with self._lock:
            if (hook, plugin) in self._told:
                return
            self._told[hook, plugin] = text
        _logger.warning("lazyflow: plugin %r: %s", plugin, text)

    def told(self) -> list[tuple[str, str]]:
        """Return plugins and what they did wrong so far when they were asked."""
        with self._lock:
            return [(plugin, text) for (_, plugin), text in self._told.items()]

    def unclaimed(self) -> list[tuple[str, str]]:
        """Return plugins and the hooks they implement that no plugin here offers."""
        return sorted(
            (impl.plugin_name, caller.name)
            for caller in vars(self.load().hook).values()
            if caller.spec is None
            for impl in caller.get_hookimpls()
            if not impl.optionalhook
        )

    def check_level(self, namespace: str, distribution: str) -> None:
        """Import the light module of a plugin, if it has one, and raise unless it was written for this level.

        Whoever only computes calls no hook; what is promised to operators is of the same level as the hooks.
        """
        for offer in self.allowed(discovery.PLUGIN_GROUP):
            if (offer.name, offer.distribution) == (namespace, distribution):
                if offer.target in _checking.get():
                    return  # the module itself asks for an operator, before it has stated its level
                token = _checking.set(_checking.get() | {offer.target})
                try:
                    check_api(load_target(offer.target, str(PluginSource.of(offer))))
                finally:
                    _checking.reset(token)

    # --------------------------------------------------------------------------------------- who is allowed

    def allowed(self, group: str) -> list[discovery.Offer]:
        """Return the entry points that the user did not switch off."""
        if not self._discover:
            return []
        self._complain()
        return [
            offer
            for offer in discovery.entry_points(group)
            if self.config.allows(offer.name.partition(".")[0], offer.distribution)
        ]

    def faults(self, *, thorough: bool = False) -> list[discovery.Fault]:
        """Return what is wrong with metadata, except of what the user switched off."""
        found = discovery.faults(thorough=thorough) if self._discover else ()
        return [fault for fault in found if self.config.allows(fault.distribution, fault.distribution)]

    def _complain(self) -> None:
        """Warn once of what is missing: plugins the user names, and what metadata hide."""
        if self._has_complained:
            return
        self._has_complained = True
        for fault in self.faults():
            if fault.costs_us and self.config.strict:
                raise PluginError(f"{fault}; {fault.hint}.")
            if fault.costs_us:
                _logger.warning("lazyflow: %s; %s.", fault, fault.hint)
        if self.config.only or self.config.disable:
            names = []
            for group in (discovery.OPERATOR_GROUP, discovery.PLUGIN_GROUP):
                for offer in discovery.entry_points(group):
                    names += [offer.name.partition(".")[0], offer.distribution]
            for complaint in self.config.complaints(names):
                _logger.warning("lazyflow: %s", complaint)


def _hooks_of(pm: pluggy.PluginManager, namespace: str) -> tuple[str, ...]:
    callers = pm.get_hookcallers(pm.get_plugin(namespace)) or ()
    return tuple(sorted(caller.name for caller in callers))
