"""The answers to the questions of ``lazyflow doctor``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lazyflow_core.errors import PluginError
from lazyflow_core.foreign import sentence
from lazyflow_core.plugins import discovery
from lazyflow_core.plugins.known import DISTRIBUTION_OF_NAMESPACE
from lazyflow_core.plugins.specs import ReaderSpec, WriterSpec

if TYPE_CHECKING:
    from lazyflow_core.plugins.loading import PluginInfo

__all__ = ["Check", "damages", "oddities", "requirements", "shadows", "targets", "unclaimed"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at on this machine.

    Parameters
    ----------
    name
        What was looked at, e.g. ``"filters: vigra backend"``.
    ok
        Whether it is as it should be; None for something optional that is absent.
    detail
        What was found: a version, or the cause.
    hint
        What to do about it; empty where nothing needs to be done.
    """

    name: str
    ok: bool | None
    detail: str
    hint: str = ""


def damages(faults: Iterable[discovery.Fault]) -> list[Check]:
    """Return what is wrong with the metadata of distributions: broken where it costs us something."""
    return [
        Check(
            f"metadata of {fault.distribution or fault.path}",
            False if fault.costs_us else None,
            f"{fault.path}: {fault.text}",
            fault.hint,
        )
        for fault in faults
    ]


def oddities(operators: Iterable[discovery.Offer], plugins: Iterable[PluginInfo]) -> list[Check]:
    """Return what is odd about operators: malformed ids, double ones, and ids in somebody else's namespace.

    Parameters
    ----------
    operators
        Their entry points.
    plugins
        Who owns which namespace, the owner first where several claim it.
    """
    owners: dict[str, str] = {}
    for info in plugins:
        owners.setdefault(info.namespace, info.distribution)
    offers: dict[str, list[str]] = {}
    found = []
    for offer in operators:
        name = f"operator {offer.name}"
        offers.setdefault(offer.name, []).append(offer.distribution)
        owner = owners.get(offer.name.partition(".")[0])
        if not discovery.OPERATOR_ID.fullmatch(offer.name):
            found.append(
                Check(
                    name,
                    False,
                    f"{offer.distribution} gives it an id that cannot be used",
                    "an id looks like 'namespace.name', in lower case",
                )
            )
        elif owner is not None and owner != offer.distribution:
            found.append(
                Check(
                    name,
                    None,
                    f"{offer.distribution} offers it in the namespace of {owner}",
                    "its authors should choose a namespace of their own",
                )
            )
    for id, distributions in offers.items():
        if len(distributions) > 1:
            hint = f"LAZYFLOW_PREFER={id}={distributions[-1]}"
            found.append(Check(f"operator {id}", False, f"offered by {' and '.join(distributions)}", hint))
    return found


def requirements(distributions: Mapping[str, Any]) -> list[Check]:
    """Return which requirements of distributions are not met; conda, Debian and ``--no-deps`` go around pip.

    Parameters
    ----------
    distributions
        By name, as `importlib_metadata` describes them. Without the package ``packaging``, which alone reads
        versions right, that is all that is said.
    """
    try:
        import packaging.requirements  # noqa: F401
    except ImportError:
        hint = "pip install 'lazyflow-core[doctor]'"
        return [Check("requirements of plugins", None, "not compared: packaging is not installed", hint)]
    found = []
    for name, distribution in distributions.items():
        try:
            unmet = list(_unmet(distribution.requires or ()))
        except Exception as error:
            text = f"not understood: {sentence(error)}"
            found.append(Check(f"requirements of {name}", None, text, "its authors should look at them"))
            continue
        for requirement, version in unmet:
            there = f"{requirement.name} is {version or 'not installed'}"
            wanted = f"{requirement.name}{requirement.specifier}"
            text, hint = f"it needs {wanted}, but {there}", f"pip install '{wanted}'"
            found.append(Check(f"requirements of {name}", False, text, hint))
    return found


def _unmet(texts: Iterable[str]) -> Iterator[tuple[Any, str]]:
    """Give each requirement that is not met, and the version that is there; an empty one for none."""
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion

    for text in texts:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        version = discovery.version_of(wanted.name) or ""
        try:
            met = bool(version) and wanted.specifier.contains(version, prereleases=True)
        except InvalidVersion:
            met = False
        if not met:
            yield wanted, version


def shadows() -> list[Check]:
    """Return which distributions are installed twice: only one copy is ever imported.

    A user's own packages beside those of an environment, or of Debian, come to this.
    """
    found = []
    for name, ((version, path), *hidden) in discovery.copies().items():
        if hidden:
            others = " and ".join(f"{v} in {p}" for v, p in hidden)
            text, hint = f"{version} in {path} hides {others}", f"pip uninstall {name} until one is left"
            leftover = [p for _, p in hidden if os.path.dirname(p) == os.path.dirname(path)]
            if leftover:  # pip would take the files of both away
                hint = f"remove {leftover[0]}"
            found.append(Check(f"copies of {name}", None, text, hint))
    return found


def targets(specs: Iterable[ReaderSpec | WriterSpec], load: Callable[[Any], object]) -> list[Check]:
    """Return which readers and writers cannot be imported, and how many can."""
    found, tried = [], 0
    for spec in specs:
        tried += 1
        try:
            load(spec)
        except PluginError as error:
            kind = "reader" if isinstance(spec, ReaderSpec) else "writer"
            found.append(Check(f"{kind} {spec.id}", False, str(error)))
    text = f"{tried - len(found)} of {tried} can be imported"
    return [*found, Check("readers and writers", not found, text)]


def unclaimed(hooks: Iterable[tuple[str, str]]) -> list[Check]:
    """Return which hooks are implemented for a plugin that is not there: nobody asks them.

    Parameters
    ----------
    hooks
        Who implements it, and its name.
    """
    found = []
    for plugin, hook in hooks:
        owners = [d for namespace, d in DISTRIBUTION_OF_NAMESPACE.items() if hook.startswith(f"{namespace}_")]
        hint = "install or enable the plugin that offers it"
        if owners and discovery.version_of(owners[0]) is None:
            hint = f"pip install {owners[0]}"
        found.append(Check(f"hooks of {plugin}", None, f"no plugin here asks for its {hook!r}", hint))
    return found
