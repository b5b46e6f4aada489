"""Loading the light modules of plugins: each whole or not at all, none at the cost of another."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lazyflow_core.errors import CancelledError, PluginError
from lazyflow_core.foreign import contextmanager, sentence
from lazyflow_core.plugins.config import Config
from lazyflow_core.plugins.known import RESERVED
from lazyflow_core.words import near_miss

if TYPE_CHECKING:
    import pluggy

    from lazyflow_core.plugins.discovery import Offer

__all__ = [
    "API",
    "PluginInfo",
    "PluginSource",
    "add_hookspecs",
    "check_api",
    "is_for_the_caller",
    "load_plugins",
    "load_target",
    "refuse",
    "register",
]

_logger = logging.getLogger("lazyflow_core")

#: Level of the plugin contract: (major, minor). A plugin states the level it was written for as
#: ``LAZYFLOW_API``; another major, or a larger minor, is refused.
API: Final = (1, 0)

_TARGET: Final = re.compile(r"\w+(\.\w+)*(:\w+(\.\w+)*)?")

#: What importing a module does to the process instead of coming back. Added to by `refuse` only; a fact of
#: the process, as `sys.modules` is.
_refused: dict[str, str] = {}

#: How long an import may take before it is told about: where somebody looks at a terminal, and elsewhere.
_PATIENCE_S: Final = (1.0, 30.0)


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

    @classmethod
    def of(cls, offer: Offer) -> PluginSource:
        """Return the plugin that an entry point names."""
        return cls(offer.name, offer.distribution, offer.version, offer.target)

    def __str__(self) -> str:
        return f"plugin {self.namespace!r} ({self.distribution} {self.version})"


def load_target(target: str, who: str) -> Any:
    """Import ``"package.module"`` or ``"package.module:name"``.

    What takes long is told about while it does.

    Parameters
    ----------
    target
        What to import.
    who
        On whose account, e.g. ``"plugin 'acme' (lazyflow-ops-acme 1.0)"``.

    Raises
    ------
    PluginError
        If the target is malformed.
    BaseException
        Whatever the module raises; see `is_for_the_caller`.
    """
    if not _TARGET.fullmatch(target):
        raise PluginError(f"{target!r} names nothing that could be imported; write 'package.module:name'.")
    module, _, attribute = target.partition(":")
    if module in _refused:
        raise PluginError(f"importing {module} {_refused[module]}; it was tried in a process of its own.")
    if module in sys.modules:
        loaded: Any = importlib.import_module(module)  # waits where another thread is in the middle of it
    else:
        with _watched(f"{who}: importing {module}"), _undoing(f"{who}: importing {module}"):
            loaded = importlib.import_module(module)
    for part in filter(None, attribute.split(".")):
        loaded = getattr(loaded, part)
    return loaded


def refuse(module: str, why: str) -> None:
    """Import a module no more in this process: ``why`` says what it does, e.g. ``"leaves the process"``."""
    _refused[module] = why


@contextmanager
def _watched(what: str) -> Iterator[None]:
    """Warn if the block takes long, while it does: who sees nothing move wants to know whose fault it is."""
    patience_s = _PATIENCE_S[not _is_terminal()]

    def tell() -> None:
        _logger.warning("lazyflow: %s has taken more than %g s and goes on.", what, patience_s)

    timer = threading.Timer(patience_s, tell)
    timer.daemon = True
    with suppress(RuntimeError):  # where no thread can be had, nobody is told
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()


@contextmanager
def _undoing(what: str) -> Iterator[None]:
    """Take back what an import does to everybody: paths that lead elsewhere, and nowhere to write to."""
    streams = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
    try:
        folder = os.getcwd()
    except OSError:  # it was removed
        folder = ""
    try:
        yield
    finally:
        undone = [
            f"sys.{name}"
            for name in streams
            if streams[name] is not None and getattr(sys, name, None) is None
        ]
        for name in undone:
            setattr(sys, name.removeprefix("sys."), streams[name.removeprefix("sys.")])
        with suppress(OSError):
            if folder and os.getcwd() != folder:
                os.chdir(folder)
                undone.append("the working directory")
        if undone:
            _logger.warning("lazyflow: %s changed %s, which was undone.", what, " and ".join(undone))


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def is_for_the_caller(error: BaseException) -> bool:
    """Whether an exception that came out of a plugin's code is none of the plugin's.

    A cancelled request is to end, and Ctrl-C is to be heard. All else, ``sys.exit()`` or a ``raise
    KeyboardInterrupt`` in its module included, is a fault of the plugin, and others do not pay for it.
    """
    if isinstance(error, CancelledError):
        return True
    if not isinstance(error, KeyboardInterrupt):
        return False
    return type(error) is not KeyboardInterrupt or not _was_raised_by_a_statement(error)


def _was_raised_by_a_statement(error: BaseException) -> bool:
    """Whether a ``raise`` raised it that is not the one of a signal handler.

    CPython runs handlers between two instructions: what the one for Ctrl-C raises appears at a call or a
    jump, never at a raise.
    """
    import dis

    place = error.__traceback__
    if place is None:
        return False
    while place.tb_next is not None:
        place = place.tb_next
    code = place.tb_frame.f_code
    handler: Any = signal.getsignal(signal.SIGINT)
    handler = getattr(handler, "func", handler)  # asyncio's is a partial one, of a method
    if getattr(getattr(handler, "__func__", handler), "__code__", None) is code:
        return False
    return dis.opname[code.co_code[place.tb_lasti]] == "RAISE_VARARGS"


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
        if is_for_the_caller(error):
            raise error
        if config.strict:
            raise PluginError(f"{source} was not loaded: {sentence(error)}") from error
        broken[source] = error
        # What is to be switched off must not be both of those that claim one namespace.
        alone = sum(source.namespace == other.namespace for other in sources) == 1
        name = source.namespace if alone else source.distribution
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
            for other, _ in modules:
                if source.namespace == other.namespace:
                    raise PluginError(f"the namespace {source.namespace!r} belongs to {other.distribution}.")
            begin = time.process_time()
            module = load_target(source.target, str(source))
            import_ms[source] = 1000 * (time.process_time() - begin)
            check_api(module)
            add_hookspecs(manager, module, source.namespace)
        except BaseException as error:
            report(source, error)
        else:
            modules.append((source, module))
    present = [source.namespace for source, _ in modules]
    for source, module in modules:
        try:
            register(manager, module, source.namespace, present)
        except BaseException as error:
            report(source, error)
    return broken


def register(manager: pluggy.PluginManager, plugin: Any, namespace: str, present: Iterable[str] = ()) -> None:
    """Register all hooks of a plugin or none.

    Parameters
    ----------
    manager, plugin, namespace
        Where, what, and what it is called.
    present
        Plugins that are about to be registered with it. What begins with the name of one that is absent may
        be a hook of its, and is no mistake.

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
        owners = {"lazyflow", *present, *(name for name, _ in manager.list_name_plugin())}
        for caller in manager.get_hookcallers(plugin) or ():
            if caller.spec is not None or all(impl.optionalhook for impl in caller.get_hookimpls()):
                continue
            if any(caller.name.startswith(f"{owner}_") for owner in owners) or "_" not in caller.name:
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


def add_hookspecs(manager: pluggy.PluginManager, module: Any, namespace: str) -> None:
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
