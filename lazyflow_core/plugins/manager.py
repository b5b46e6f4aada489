"""The plugin manager: which operators, readers, writers and hooks there are, and the way to each.

Listing imports nothing. An operator's module is imported when that operator is asked for; the light hook
modules of all plugins when the first hook is called. A plugin that fails is recorded with its error, told
about once, and harms no other.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lazyflow_core.errors import (
    OperatorConflictError,
    OperatorLoadError,
    PluginError,
    UnknownOperatorError,
)
from lazyflow_core.foreign import sentence, shown
from lazyflow_core.plugins import discovery
from lazyflow_core.plugins.config import Config, normal
from lazyflow_core.plugins.hooks import Hooks
from lazyflow_core.plugins.loading import API, PluginInfo, is_for_the_caller, load_target, refuse
from lazyflow_core.plugins.specs import OperatorSpec, ReaderSpec, WriterSpec
from lazyflow_core.plugins.texts import conflict_text, unknown_text

if TYPE_CHECKING:
    from lazyflow_core.graph import Operator
    from lazyflow_core.meta import ArrayMeta
    from lazyflow_core.plugins.doctor import Check
    from lazyflow_core.plugins.files import OpenedReader, ReaderVerdict
    from lazyflow_core.storage import Writer

__all__ = ["API", "PluginInfo", "PluginManager"]

#: How long an import may take before it counts as one that hangs, when it is tried.
_LIGHT_TIMEOUT_S: Final = 5.0
_OPERATOR_TIMEOUT_S: Final = 60.0

_T = TypeVar("_T")


class PluginManager:
    """Finds operators, readers and writers, and calls hooks.

    Parameters
    ----------
    config
        What the user decided; default what the environment says, except for what is given here:
    only, disable, prefer, strict
        See `Config`.
    discover
        Whether to use what is installed; False gives a manager that knows what is registered, for tests.

    Notes
    -----
    All methods may be called from any thread and from inside requests. None is meant for hot paths.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        only: Iterable[str] | None = None,
        disable: Iterable[str] | None = None,
        prefer: Mapping[str, str] | None = None,
        strict: bool | None = None,
        discover: bool = True,
    ) -> None:
        if config is None:
            config = Config.from_environment(only=only, disable=disable, prefer=prefer, strict=strict)
        self.config = config
        self._hooks = Hooks(config, discover)
        #: Guards the first of the two below; held for a few statements.
        self._lock = threading.Lock()
        #: Operators registered at run time.
        self._registered: dict[str, type[Operator]] = {}
        #: Classes that were imported, by target. Written by whoever imported one; all write the same.
        self._loaded: dict[str, type[Operator]] = {}

    # ------------------------------------------------------------------------------------------ operators

    def operators(self, *, dynamic: bool = False) -> list[OperatorSpec]:
        """Return all operators there are, by id; two of one id where two distributions offer it.

        Imports nothing of any plugin, unless ``dynamic`` asks for operators that exist only at run time as
        well: they come from hooks, so the light modules are imported.
        """
        found = {
            (offer.name, offer.distribution): OperatorSpec(
                offer.name, offer.target, offer.distribution, offer.version
            )
            for offer in self._hooks.allowed(discovery.OPERATOR_GROUP)
            if discovery.OPERATOR_ID.fullmatch(offer.name)
        }
        if dynamic or self._hooks.are_loaded:
            for _, spec in self._hooks.collect("lazyflow_operator_specs", OperatorSpec):
                found.setdefault((spec.id, spec.distribution), spec)
        for key, cls in self._registered.items():
            found[key, ""] = OperatorSpec(key, f"{cls.__module__}:{cls.__qualname__}")
        return [found[key] for key in sorted(found)]

    def get_operator(self, id: str) -> type[Operator]:
        """Return the class of an operator, importing its module and the light one of its distribution.

        Parameters
        ----------
        id
            ``"namespace.name"``; interactively the name alone will do where only one namespace has it.

        Raises
        ------
        UnknownOperatorError
            If no installed distribution offers it; suggests near misses, or what to install.
        OperatorConflictError
            If two distributions offer it and none is preferred.
        OperatorLoadError
            If importing one of them fails, or it was written for another level of the plugin contract.
        """
        return self._load_operator(self.find_operator(id))

    def find_operator(self, id: str) -> OperatorSpec:
        """Return the operator that `get_operator` would import; raises as it does, and imports nothing.

        Only where no entry point has the id, plugins are asked for operators that exist at run time.
        """
        if id in self._registered:
            cls = self._registered[id]
            return OperatorSpec(id, f"{cls.__module__}:{cls.__qualname__}")
        for dynamic in (False, True):
            specs = self.operators(dynamic=dynamic)
            offers = [spec for spec in specs if spec.id == id]
            if not offers and "." not in id:
                offers = [spec for spec in specs if spec.id.partition(".")[2] == id]
                if len({spec.id for spec in offers}) > 1:
                    ids = " and ".join(sorted({spec.id for spec in offers}))
                    raise UnknownOperatorError(f"{id!r} is ambiguous: it may be {ids}; give the full id.")
            if len({spec.target for spec in offers}) > 1:
                preferred = normal(self.config.prefer.get(offers[0].id, ""))
                chosen = [spec for spec in offers if normal(spec.distribution) == preferred]
                if len(chosen) != 1:
                    raise OperatorConflictError(self._conflict("operator", offers))
                offers = chosen
            if offers:
                return offers[0]
        source = discovery.editable_with(id)
        if source is not None:
            raise UnknownOperatorError(
                f"no operator {id!r}: it stands in the pyproject.toml of {source}, but was not there when "
                f"that was installed. Run: pip install -e {source}"
            )
        raise UnknownOperatorError(unknown_text(id, {spec.id for spec in self.operators()}))

    def register(self, id: str, operator: type[Operator], *, replace: bool = False) -> None:
        """Offer an operator for the rest of the process; it wins over installed ones.

        Raises
        ------
        PluginError
            If the id is malformed, or taken and not to be replaced.
        """
        if not discovery.OPERATOR_ID.fullmatch(id):
            raise PluginError(f"{id!r} is no operator id; one looks like 'namespace.name', in lower case.")
        taken = {spec.id for spec in self.operators()}
        with self._lock:
            if not replace and (id in taken or id in self._registered):
                raise PluginError(f"operator id {id!r} is taken; say replace=True to replace it.")
            self._registered[id] = operator

    def _load_operator(self, spec: OperatorSpec) -> type[Operator]:
        from lazyflow_core.graph import Operator

        if spec.id in self._registered:
            return self._registered[spec.id]
        if spec.target in self._loaded:
            return self._loaded[spec.target]
        who = f"operator {spec.id!r} ({spec.distribution} {spec.version}, {spec.target})"
        try:
            # Before the lock: a light module may ask for an operator of its own.
            self._hooks.check_level(spec.namespace, spec.distribution)
            with self._hooks.importing(spec.target):
                loaded = self._loaded.get(spec.target) or load_target(spec.target, who)
        except BaseException as error:
            if is_for_the_caller(error):
                raise
            raise OperatorLoadError(f"{who} could not be imported: {sentence(error)}") from error
        if not (isinstance(loaded, type) and issubclass(loaded, Operator)):
            raise OperatorLoadError(f"{who} is {shown(loaded)}, which is no operator class.")
        self._loaded[spec.target] = loaded
        return loaded

    def _conflict(self, kind: str, offers: list[OperatorSpec]) -> str:
        owners = {info.namespace: info.distribution for info in reversed(self.plugins())}
        first = offers[0]
        offers = sorted(offers, key=lambda s: (owners.get(first.namespace) != s.distribution, s.distribution))
        return conflict_text(kind, first.id, [(s.distribution, s.version, s.target) for s in offers])

    # ---------------------------------------------------------------------------------- readers and writers

    def readers(self) -> list[ReaderSpec]:
        """Return the kinds of files that installed plugins read, by id."""
        found = self._hooks.collect("lazyflow_reader_specs", ReaderSpec)
        return sorted((spec for _, spec in found), key=lambda spec: spec.id)

    def writers(self) -> list[WriterSpec]:
        """Return the kinds of files that installed plugins write, by id."""
        found = self._hooks.collect("lazyflow_writer_specs", WriterSpec)
        return sorted((spec for _, spec in found), key=lambda spec: spec.id)

    def explain_reader(self, path: str) -> list[ReaderVerdict]:
        """Return how well each reader fits a path and why, the one that would be taken first.

        The user's configuration counts most, then what a plugin says in `lazyflow_select_reader`, then what
        the file looks like; see `lazyflow_core.plugins.files.explain_reader`.
        """
        from dataclasses import replace

        from lazyflow_core.plugins.files import explain_reader, matches

        offers = self._offers("lazyflow_reader_specs", ReaderSpec)
        origins = {id(spec): origin for spec, origin in offers}
        verdicts = explain_reader([spec for spec, _ in offers], path)
        verdicts = [replace(v, origin=origins[id(v.spec)]) for v in verdicts]
        claims = [verdict.spec.id for verdict in verdicts if verdict.rank]
        chosen, why = None, ""
        for pattern, reader in self.config.readers.items():
            if matches(path, pattern):
                chosen, why = reader, f"your configuration says {pattern}={reader}"
                if not any(verdict.spec.id == reader for verdict in verdicts):
                    raise PluginError(f"{why}, but no plugin is installed that offers it.")
        if chosen is None and len(claims) > 1:
            chosen, plugin = self._hooks.first(
                "lazyflow_select_reader", path=path, candidates=tuple(claims), config=self.config
            )
            why = f"plugin {plugin!r} selects it"
            if chosen is not None and chosen not in claims:
                self._hooks.tell(
                    "lazyflow_select_reader", plugin, f"it selects {chosen!r}, which is no candidate."
                )
                chosen = None
        if chosen is not None:
            verdicts = [
                replace(v, rank=(2, *v.rank), reason=why) if v.spec.id == chosen else v for v in verdicts
            ]
        return sorted(verdicts, key=lambda verdict: verdict.rank, reverse=True)

    def open_reader(
        self, path: str | os.PathLike[str], *, dataset: str | None = None, format: str | None = None
    ) -> OpenedReader:
        """Open an array for reading; see `lazyflow_core.plugins.files.open_reader`.

        Its ``meta.extra["lazyflow.reader"]`` names the reader, its distribution and version.
        """
        from lazyflow_core.plugins import files

        path = os.fspath(path)
        spec = files.find_reader(self.readers(), path, format, self.explain_reader)
        origin = self._expect_one("reader", "lazyflow_reader_specs", spec)
        by = f"{spec.id} ({origin})"
        return files.OpenedReader(files.load_reader(spec, path, dataset, by), path, by)

    def open_writer(
        self,
        path: str | os.PathLike[str],
        meta: ArrayMeta,
        *,
        dataset: str | None = None,
        format: str | None = None,
        overwrite: bool = False,
        **options: Any,
    ) -> Writer:
        """Open a new array for writing; see `lazyflow_core.plugins.files.open_writer`."""
        from lazyflow_core.plugins import files

        path = os.fspath(path)
        specs = self.writers()
        self._expect_one("writer", "lazyflow_writer_specs", files.find_writer(specs, path, format))
        return files.open_writer(
            specs, path, meta, dataset=dataset, format=format, overwrite=overwrite, **options
        )

    def _offers(self, hook: str, kind: type[Any]) -> list[tuple[Any, str]]:
        """Return the readers or writers there are, each with distribution and version, or namespace."""
        collected = self._hooks.collect(hook, kind)
        loaded = [info for info in self.plugins() if info.state == "loaded"]
        origins = {info.namespace: f"{info.distribution} {info.version}".strip() for info in loaded}
        return [(spec, origins[plugin] or plugin) for plugin, spec in collected]

    def _expect_one(self, kind: str, hook: str, spec: ReaderSpec | WriterSpec) -> str:
        """Return whose reader or writer is about to be used.

        Raises
        ------
        PluginError
            If two plugins offer it, and none is preferred.
        """
        offers = [(s, origin) for s, origin in self._offers(hook, type(spec)) if s.id == spec.id]
        if len(offers) > 1:
            listed = [(*origin.partition(" ")[::2], s.target) for s, origin in offers]
            preferred = normal(self.config.prefer.get(spec.id, ""))
            offers = [offer for offer in offers if normal(offer[1].partition(" ")[0]) == preferred]
            if len(offers) != 1 or offers[0][0].target != spec.target:
                raise PluginError(conflict_text(kind, spec.id, listed))
        return offers[0][1]

    # ---------------------------------------------------------------------------------------- other answers

    def request_observers(self) -> tuple[Any, ...]:
        """Return what plugins want to watch requests with, for the ``observers`` of a scheduler.

        An observer that raises is silenced; no request fails because of it.

        Examples
        --------
        ::

            ThreadedScheduler(observers=plugins.default().request_observers())
        """
        from lazyflow_core.plugins.observers import Guarded

        found = self._hooks.answers("lazyflow_request_observer")
        return tuple(Guarded(observer, plugin) for plugin, observer in found if observer is not None)

    def add_cli_commands(self, group: Any, *, only: str | None = None) -> None:
        """Let plugins add their commands to a click group, or one of them, by its namespace."""
        self._hooks.answers("lazyflow_cli_commands", only, group=group)

    def conformance_cases(self, operator_id: str) -> list[Any]:
        """Return the cases that a plugin's authors wrote for one of its operators; imports what is needed."""
        found = []
        for plugin, target in self._hooks.answers("lazyflow_conformance_cases"):
            if plugin == operator_id.partition(".")[0]:
                cls = self.get_operator(operator_id)
                cases = load_target(target, f"plugin {plugin!r}")
                found += [case for case in cases if case.operator in (operator_id, cls)]
        return found

    def probe(self, *, operators: bool = False) -> None:
        """Import plugins in a process of its own; what does not come back there is not imported here.

        An import that hangs, crashes or leaves the process cannot be caught in the process it happens in.

        Parameters
        ----------
        operators
            Whether to try operators, too. That may take a while: all that they import is imported.
        """
        from lazyflow_core.plugins.probe import probe

        groups = [(discovery.PLUGIN_GROUP, _LIGHT_TIMEOUT_S)]
        groups += [(discovery.OPERATOR_GROUP, _OPERATOR_TIMEOUT_S)] * operators
        for group, timeout_s in groups:
            modules = dict.fromkeys(offer.target.partition(":")[0] for offer in self._hooks.allowed(group))
            wanted = [module for module in modules if module not in sys.modules]
            for module, why in probe(wanted, timeout_s).items():
                refuse(module, why)

    def doctor(self) -> list[Check]:
        """Return what the plugins say about this machine, and what is wrong with any of them."""
        self.probe(operators=True)
        from lazyflow_core.plugins.doctor import (
            Check,
            damages,
            oddities,
            requirements,
            shadows,
            targets,
            unclaimed,
        )
        from lazyflow_core.plugins.files import load_spec

        checks: list[Any] = [check for _, check in self._hooks.collect("lazyflow_doctor", Check)]
        for info in self.plugins():
            text = f"{info.distribution} {info.version}"
            if info.error:
                text += f": {sentence(info.error)}"
            elif info.import_ms is not None:
                text += f", imported in {info.import_ms:.0f} ms"
            checks.append(Check(f"plugin {info.namespace}", info.state != "broken", text))
        operators = self._hooks.allowed(discovery.OPERATOR_GROUP)
        offered = [*operators, *self._hooks.allowed(discovery.PLUGIN_GROUP)]
        checks += damages(self._hooks.faults(thorough=True))
        checks += oddities(operators, self.plugins())
        checks += targets([*self.readers(), *self.writers()], load_spec)
        checks += [Check(f"hooks of {plugin}", False, text) for plugin, text in self._hooks.told()]
        checks += unclaimed(self._hooks.unclaimed())
        # Each distribution once, in the order of their entry points.
        return checks + requirements({o.distribution: o.metadata for o in offered}) + shadows()

    # ----------------------------------------------------------------------------------------------- hooks

    @property
    def hook(self) -> Any:
        """The hooks, to be called by name; loads the light modules of all plugins at first use.

        What an implementation raises reaches the caller. The methods above are safe from that.
        """
        return self._hooks.load().hook

    def hook_names(self) -> list[str]:
        """Return the names of all hooks there are, those that plugins add included."""
        return sorted(name for name, caller in vars(self.hook).items() if caller.spec is not None)

    def ask(self, hook: Callable[..., _T | None], kind: type[Any], /, **arguments: Any) -> _T | None:
        """Return the first answer to a hook that is not None; for hooks that plugins add.

        Parameters
        ----------
        hook
            Its specification, a function. Whoever implements it is asked whether or not the plugin that
            offers it is in use here.
        kind
            What an answer is: one of another kind is told about, and counts as none.
        **arguments
            What it is asked with. What an implementation raises is told about, and counts as no answer.
        """
        name = hook.__name__
        answer, plugin = self._hooks.first(name, **arguments)
        if answer is None or isinstance(answer, kind):
            return answer
        self._hooks.tell(name, plugin, f"it returned {answer!r}, which is no {kind.__name__}.")
        return None

    def demand(self, hook: Callable[..., _T | None], kind: type[Any], /, **arguments: Any) -> _T | None:
        """As `ask`, for what a user wants by name: what an implementation raises reaches the caller.

        Raises
        ------
        PluginError
            If the answer is of another kind.
        """
        answer, plugin = self._hooks.first(hook.__name__, True, **arguments)
        if answer is None or isinstance(answer, kind):
            return answer
        raise PluginError(
            f"plugin {plugin!r} answers {hook.__name__} with {answer!r}, which is no {kind.__name__}."
        )

    def plugins(self, *, load: bool = False) -> list[PluginInfo]:
        """Return the installed plugins, by namespace; ``load`` loads them first to see what breaks."""
        return self._hooks.plugins(load=load)

    def register_plugin(self, plugin: Any, namespace: str) -> None:
        """Add a module or object with hook implementations for the rest of the process.

        Parameters
        ----------
        plugin
            Its hooks are registered all or none. It need not state a level.
        namespace
            What it is called.

        Raises
        ------
        PluginError
            If the namespace is taken or reserved, or a hook is unknown.

        Notes
        -----
        At any time: who asks from then on asks it, too. What was asked before, such as the policy of a cache
        that is set up, is not asked again.
        """
        self._hooks.register(plugin, namespace)

    def close(self) -> None:
        """Let plugins release what they took when they were configured. Closing twice is fine."""
        self._hooks.close()
