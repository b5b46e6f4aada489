"""The answers to the questions of ``lazyflow doctor``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lazyflow_core.plugins.discovery import OPERATOR_ID

if TYPE_CHECKING:
    from lazyflow_core.plugins.loading import PluginInfo

__all__ = ["Check", "oddities", "requirements", "shadows"]


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


def oddities(operators: Iterable[tuple[Any, str, str]], plugins: Iterable[PluginInfo]) -> list[Check]:
    """Return what is odd about operators: malformed ids, double ones, and ids in somebody else's namespace.

    Parameters
    ----------
    operators
        Entry point, distribution and version of each.
    plugins
        Who owns which namespace.
    """
    owners = {info.namespace: info.distribution for info in plugins}
    offers: dict[str, list[str]] = {}
    found = []
    for entry, distribution, _ in operators:
        offers.setdefault(entry.name, []).append(distribution)
        owner = owners.get(entry.name.partition(".")[0])
        if not OPERATOR_ID.fullmatch(entry.name):
            found.append(
                Check(
                    f"operator {entry.name}",
                    False,
                    f"{distribution} gives it an id that cannot be used",
                    "an id looks like 'namespace.name', in lower case",
                )
            )
        elif owner is not None and owner != distribution:
            found.append(
                Check(
                    f"operator {entry.name}",
                    None,
                    f"{distribution} offers it in the namespace of {owner}",
                    "its authors should choose a namespace of their own",
                )
            )
    for id, distributions in offers.items():
        if len(distributions) > 1:
            hint = f"LAZYFLOW_PREFER={id}={distributions[-1]}"
            found.append(Check(f"operator {id}", False, f"offered by {' and '.join(distributions)}", hint))
    return found


def requirements(distributions: Iterable[Any]) -> list[Check]:
    """Return which requirements of distributions are not met; conda, Debian and ``--no-deps`` go around pip.

    Parameters
    ----------
    distributions
        As `importlib_metadata` describes them. Without the package ``packaging``, which alone reads versions
        right, that is all that is said.
    """
    try:
        from packaging.requirements import Requirement
    except ImportError:
        hint = "pip install 'lazyflow-core[doctor]'"
        return [Check("requirements of plugins", None, "not compared: packaging is not installed", hint)]
    import importlib_metadata

    found = []
    for distribution in distributions:
        for text in distribution.requires or ():
            wanted = Requirement(text)
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            try:
                version = importlib_metadata.version(wanted.name)
            except importlib_metadata.PackageNotFoundError:
                version = ""
            if not version or not wanted.specifier.contains(version, prereleases=True):
                there = f"{wanted.name} is {version or 'not installed'}"
                found.append(
                    Check(
                        f"requirements of {distribution.metadata['Name']}",
                        False,
                        f"it needs {wanted.name}{wanted.specifier}, but {there}",
                        f"pip install '{wanted.name}{wanted.specifier}'",
                    )
                )
    return found


def shadows(names: Iterable[str]) -> list[Check]:
    """Return which distributions are installed twice: only the first copy on the path is ever imported.

    A user's own packages beside those of an environment, or of Debian, come to this.
    """
    import importlib_metadata

    found = []
    for name in names:
        copies = {str(d.locate_file("")): d.version for d in importlib_metadata.distributions(name=name)}
        if len(copies) > 1:
            (folder, version), *hidden = copies.items()
            others = " and ".join(f"{v} in {f}" for f, v in hidden)
            found.append(
                Check(
                    f"copies of {name}",
                    None,
                    f"{version} in {folder} hides {others}",
                    f"pip uninstall {name} until one is left",
                )
            )
    return found
