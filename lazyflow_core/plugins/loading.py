"""Loading the light modules of plugins: each whole or not at all, none at the cost of another."""

from __future__ import annotations

import importlib
import inspect
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lazyflow_core.errors import PluginError
from lazyflow_core.plugins.config import Config
from lazyflow_core.words import near_miss

if TYPE_CHECKING:
    import pluggy

__all__ = [
    "API",
    "PluginInfo",
    "PluginSource",
    "check_api",
    "load_plugins",
    "load_target",
    "register",
    "sentence",
]

_logger = logging.getLogger("lazyflow_core")

#: Level of the plugin contract: (major, minor). A plugin states the level it was written for as
#: ``LAZYFLOW_API``; another major, or a larger minor, is refused.
API: Final = (1, 0)

#: Namespaces that no plugin may have.
RESERVED: Final = ("core", "lazyflow")


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """An installed plugin and what became of it.

    Parameters
    ----------
    namespace
        The name of its entry point; its operators' ids begin with it.
    distribution, version
        Who installed it; empty for one that was registered at run time.
    target
        Its module of hooks.
    state
        ``"installed"`` before any hook was called, then ``"loaded"`` or ``"broken"``; ``"disabled"`` where
        the user said so.
    error
        Why it is broken.
    hooks
        Names of the hooks it implements, once it is loaded.
    import_ms
        Milliseconds of computing that importing its module took, once it was imported.
    """

    namespace: str
    distribution: str
    version: str
    target: str
    state: str
    error: BaseException | None = None
    hooks: tuple[str, ...] = ()
    import_ms: float | None = None


@dataclass(frozen=True, slots=True)
class PluginSource:
    """A plugin to be loaded: what it is called, and where it is."""

    namespace: str
    distribution: str
    version: str
    target: str

    def __str__(self) -> str:
        return f"plugin {self.namespace!r} ({self.distribution} {self.version})"


def load_target(target: str) -> Any:
    """Import ``"package.module"`` or ``"package.module:name"``."""
    module, _, attribute = target.partition(":")
    loaded: Any = importlib.import_module(module)
    for part in filter(None, attribute.split(".")):
        loaded = getattr(loaded, part)
    return loaded


def load_plugins(
    manager: pluggy.PluginManager,
    sources: list[PluginSource],
    config: Config,
    import_ms: dict[PluginSource, float],
) -> dict[PluginSource, BaseException]:
    """Load and register plugins; return the errors of those that are broken, and note how long each took.

    Hooks that plugins add are added first, so that the order of plugins does not decide who may use them.
    """
    broken: dict[PluginSource, BaseException] = {}
    modules: list[tuple[PluginSource, Any]] = []

    def report(source: PluginSource, error: BaseException) -> None:
        if config.strict:
            raise PluginError(f"{source} was not loaded: {sentence(error)}") from error
        broken[source] = error
        name = source.namespace
        _logger.warning(
            "lazyflow: %s is disabled: %s\n"
            "          run 'lazyflow plugins show %s' for the traceback, or LAZYFLOW_DISABLE_PLUGINS=%s to "
            "silence this.",
            source,
            sentence(error),
            name,
            name,
        )

    for source in sources:
        try:
            if source.namespace in RESERVED:
                raise PluginError(f"the namespace {source.namespace!r} is reserved.")
            if any(source.namespace == other.namespace for other, _ in modules):
                raise PluginError(f"the namespace {source.namespace!r} belongs to another plugin already.")
            begin = time.process_time()
            module = load_target(source.target)
            import_ms[source] = 1000 * (time.process_time() - begin)
            check_api(module)
            _add_hookspecs(manager, module, source.namespace)
        except (Exception, SystemExit) as error:
            report(source, error)
        else:
            modules.append((source, module))
    for source, module in modules:
        try:
            register(manager, module, source.namespace)
        except (Exception, SystemExit) as error:
            report(source, error)
    return broken


def register(manager: pluggy.PluginManager, plugin: Any, namespace: str) -> None:
    """Register all hooks of a plugin or none.

    Raises
    ------
    PluginError
        If it implements a hook that nobody asks.
    pluggy.PluginValidationError
        If an implementation takes an argument that its hook does not have.
    """
    try:
        manager.register(plugin, namespace)
        known = {name for name, caller in vars(manager.hook).items() if getattr(caller, "spec", None)}
        for caller in manager.get_hookcallers(plugin) or ():
            if caller.spec is None and not all(impl.optionalhook for impl in caller.get_hookimpls()):
                hint = near_miss(caller.name, known)
                raise PluginError(f"it implements the hook {caller.name!r}, which nobody asks{hint}")
    except BaseException:
        # pluggy keeps the hooks it had registered when it met a bad one.
        if manager.has_plugin(namespace):
            manager.unregister(name=namespace)
        raise


def check_api(module: Any) -> None:
    """Raise `PluginError` unless a module was written for this level of the plugin contract."""
    stated = getattr(module, "LAZYFLOW_API", None)
    if stated is None:
        raise PluginError(f"{module.__name__} does not state LAZYFLOW_API; this is level {API}.")
    if not (isinstance(stated, tuple) and len(stated) == 2 and all(type(n) is int for n in stated)):
        raise PluginError(f"LAZYFLOW_API is {stated!r}; it is a pair of numbers such as {API}.")
    if stated[0] != API[0] or stated[1] > API[1]:
        raise PluginError(
            f"it was written for plugin API {stated[0]}.{stated[1]} and this is {API[0]}.{API[1]}; install "
            f"{'a newer lazyflow-core' if stated > API else 'a newer version of the plugin'}."
        )


def _add_hookspecs(manager: pluggy.PluginManager, module: Any, namespace: str) -> None:
    """Let a plugin add hooks of its own."""
    function = getattr(module, "lazyflow_add_hookspecs", None)
    if function is None or not hasattr(function, f"{manager.project_name}_impl"):
        return

    def add(specs: Any) -> None:
        names = [n for n, f in inspect.getmembers(specs) if hasattr(f, f"{manager.project_name}_spec")]
        wrong = [name for name in names if not name.startswith(f"{namespace}_")]
        if wrong:
            raise PluginError(f"the hook {wrong[0]!r} has to be called {namespace}_….")
        manager.add_hookspecs(specs)

    function(add)


def sentence(error: BaseException) -> str:
    """Return class and text of an error."""
    return f"{type(error).__name__}: {error}"
