"""What is installed: entry points, read once, imported never.

A distribution offers operators by entry points of the group ``lazyflow.operators`` (one line each, id and
target) and one import-light module of hooks by the group ``lazyflow.plugins``. Reading them opens files of
package metadata but runs no code of any plugin. Name and version are those of the folder of metadata, as
packaging tools write it: to parse what is in it costs more than all the rest, and it may be damaged.

Each distribution is read by itself. What cannot be read is a `Fault`, which the doctor shows, and costs no
other distribution anything.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from lazyflow_core.foreign import sentence
from lazyflow_core.plugins.config import normal
from lazyflow_core.plugins.known import DISTRIBUTION_OF_NAMESPACE
from lazyflow_core.words import printable

__all__ = [
    "OPERATOR_GROUP",
    "OPERATOR_ID",
    "PLUGIN_GROUP",
    "Fault",
    "Offer",
    "copies",
    "editable_with",
    "entry_points",
    "faults",
    "version_of",
]

OPERATOR_GROUP: Final = "lazyflow.operators"
PLUGIN_GROUP: Final = "lazyflow.plugins"
OPERATOR_ID: Final = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")

#: What a line of an entry point may say: spaces around the colon and extras in brackets are legal.
_TARGET: Final = re.compile(r"([\w.]+)\s*(?::\s*([\w.]+)\s*)?(?:\[.*\]\s*)?")
#: Without it in the text, a distribution offers nothing to us, and its file need not be understood.
_OURS: Final = "lazyflow."
_AGAIN: Final = "install it again, or remove this folder"


@dataclass(frozen=True, slots=True)
class Offer:
    """One line of a distribution's entry points.

    Parameters
    ----------
    group, name
        Where it stands: `OPERATOR_GROUP` and an id, or `PLUGIN_GROUP` and a namespace.
    target
        ``"package.module:name"``, without the spaces and extras that its file may have.
    distribution, version
        Whose it is.
    metadata
        All that `importlib_metadata` knows of the distribution.
    """

    group: str
    name: str
    target: str
    distribution: str
    version: str
    metadata: Any = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the metadata of a distribution.

    Parameters
    ----------
    distribution
        Its name, as far as it is known.
    path
        Where its metadata is.
    text
        What is wrong, and what follows from it.
    hint
        What to do.
    costs_us
        Whether something that it offers to us is missing or misnamed for it.
    """

    distribution: str
    path: str
    text: str
    hint: str
    costs_us: bool

    def __str__(self) -> str:
        return f"distribution {self.distribution!r} ({self.path}): {self.text}"


class _Installed(NamedTuple):
    offers: dict[str, tuple[Offer, ...]]
    faults: tuple[Fault, ...]
    #: By normal name, the core and those that offer something in whichever copy: all copies, the one that
    #: is used first.
    offering: dict[str, list[_Metadata]]


def entry_points(group: str) -> tuple[Offer, ...]:
    """Return the entry points of one of the two groups, each once, in a fixed order.

    The order is by name, then distribution: that of directories on disk would differ between machines. Only
    where somebody else claims a namespace of this project, its own distribution comes first.
    """
    return _scan().offers[group]


def faults(*, thorough: bool = False) -> tuple[Fault, ...]:
    """Return what could not be read; thoroughly, also what is wrong with metadata that nothing depends on."""
    found = _scan()
    if not thorough:
        return found.faults
    problems = [(copies[0], copies[0].problem()) for copies in found.offering.values()]
    return found.faults + tuple(Fault(c.name, c.shown, text, _AGAIN, True) for c, text in problems if text)


def copies() -> dict[str, list[tuple[str, str]]]:
    """Return version and folder of all copies of the core and of those that offer something.

    By normal name; the copy that is used first.
    """
    return {
        name: [(copy.version, copy.shown) for copy in copies] for name, copies in _scan().offering.items()
    }


def version_of(name: str) -> str | None:
    """Return the version of an installed distribution; None if there is none, or it does not say."""
    import importlib_metadata

    try:
        return str(importlib_metadata.metadata(name)["Version"] or "") or None
    except Exception:
        pass  # by the first copy that can be read, then
    for folder in _search_path():
        try:
            found = list(importlib_metadata.distributions(name=name, path=[folder]))
        except Exception:
            continue
        for distribution in found:
            return _Metadata(distribution).version or None
    return None


def editable_with(id: str) -> str | None:
    """Return the folder of an editable installation whose ``pyproject.toml`` has an id; None for none.

    Entry points are copied when it is installed, so one that was added afterwards is not known.
    """
    import tomllib
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    import importlib_metadata

    for folder in _search_path():
        with suppress(Exception):
            for distribution in importlib_metadata.distributions(path=[folder]):
                with suppress(Exception):  # most have no origin, and what does not fit is not it
                    origin = distribution.origin
                    if origin is None or not origin.dir_info.editable:
                        continue
                    source = Path(url2pathname(urlsplit(origin.url).path))
                    project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
                    if id in project["entry-points"][OPERATOR_GROUP]:
                        return str(source)
    return None


def forget() -> None:
    """Scan again at the next use; for tests and after installing something."""
    _scan.cache_clear()


# ------------------------------------------------------------------------------------------------ scanning


@cache
def _scan() -> _Installed:
    """Read the entry points of both groups, once per process: the scan walks every installed package."""
    faults: list[Fault] = []
    offers: list[Offer] = []
    offering: dict[str, list[_Metadata]] = {}
    for key, copies in _by_name(faults).items():
        texts = [copy.entry_points(faults) for copy in copies]
        if key != "lazyflow-core" and not any(_OURS in text for text in texts):
            continue
        offering[key] = copies
        used = copies[0]
        for group, name, target in _lines(texts[0], used, faults):
            offers.append(Offer(group, name, target, used.name, used.version or "?", used.distribution))
    grouped = {
        group: tuple(sorted({o for o in offers if o.group == group}, key=_order))
        for group in (OPERATOR_GROUP, PLUGIN_GROUP)
    }
    return _Installed(grouped, tuple(faults), offering)


def _order(offer: Offer) -> tuple[str, bool, str, str]:
    official = DISTRIBUTION_OF_NAMESPACE.get(offer.name.partition(".")[0]) == normal(offer.distribution)
    return offer.name, not official, offer.distribution, offer.target


def _search_path() -> list[str]:
    """Return where packages are looked for; the import system passes over what is no text as well."""
    return list(dict.fromkeys(entry for entry in sys.path if isinstance(entry, str)))


def _by_name(faults: list[Fault]) -> dict[str, list[_Metadata]]:
    """Return all distributions by their normal names, the copy that is used first.

    Used is the first folder on the path, as for imports. Where several stand in one folder, all but one are
    left over: the newest that has metadata is used.
    """
    import importlib_metadata  # here, because importing it costs more than all of this package

    found: dict[str, list[_Metadata]] = {}
    for folder in _search_path():
        try:
            for distribution in importlib_metadata.distributions(path=[folder]):
                pipe = _pipe_in(getattr(distribution, "_path", None))
                if pipe:
                    text = f"its {os.path.basename(pipe)} is no ordinary file; nothing of it is used"
                    shown = printable(os.path.dirname(pipe))
                    name = os.path.basename(shown).partition("-")[0]
                    faults.append(Fault(name, shown, text, _AGAIN, normal(name).startswith("lazyflow")))
                    continue
                metadata = _Metadata(distribution)
                if metadata.name.startswith("~"):
                    text = "it is left over from an installation that was interrupted, and not used"
                    faults.append(Fault(metadata.name, metadata.shown, text, "remove this folder", False))
                else:
                    found.setdefault(normal(metadata.name), []).append(metadata)
        except Exception as error:
            text = f"its packages cannot be listed: {sentence(error)}"
            faults.append(Fault("", printable(folder), text, "take it off the path", False))
    for copies in found.values():
        if len(copies) > 1:
            # lib64 is often a link to lib, and a folder may be on the path twice.
            different: dict[str, _Metadata] = {}
            for copy in copies:
                different.setdefault(os.path.realpath(copy.shown), copy)
            copies[:] = different.values()
            place = copies[0].folder
            copies.sort(key=lambda copy: (copy.folder != place, not copy.is_there(), copy.age()))
    return found


def _pipe_in(folder: Any) -> str:
    """Return the path of metadata that reading would wait for: a pipe or a device; empty if there is none."""
    if isinstance(folder, Path):
        for name in ("METADATA", "PKG-INFO", "entry_points.txt"):
            path = os.path.join(folder, name)
            with suppress(OSError):
                mode = os.stat(path).st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    return path
    return ""


class _Metadata:
    """The metadata of one copy of a distribution, read as far as it can be.

    Parameters
    ----------
    distribution
        As `importlib_metadata` found it.
    """

    __slots__ = ("distribution", "name", "path", "shown", "version")

    def __init__(self, distribution: Any) -> None:
        self.distribution = distribution
        #: Its folder, in a zip perhaps. There is no public name for it; other finders may have none.
        self.path: Any = getattr(distribution, "_path", None)
        self.shown = printable(os.path.normpath(str(self.path or distribution)))
        stem = os.path.basename(self.shown)
        if stem.lower() == "egg-info":
            stem = os.path.basename(os.path.dirname(self.shown))
        name, _, rest = os.path.splitext(stem)[0].partition("-")
        self.name = name.replace("_", "-")
        self.version = rest.partition("-")[0]
        if self.path is None or not self.version:  # as of an egg-info beside sources
            with suppress(Exception):
                metadata = distribution.metadata
                self.name = printable(metadata.get("Name") or self.name)
                self.version = printable(metadata.get("Version") or "")

    @property
    def folder(self) -> str:
        """Where it is installed."""
        return os.path.realpath(os.path.dirname(self.shown))

    def is_there(self) -> bool:
        """Whether it has a file that says what it is, as what is left over often has not."""
        try:
            return any(self.path.joinpath(name).exists() for name in ("METADATA", "PKG-INFO"))
        except Exception:
            return False

    def age(self) -> list[int]:
        """Return a key that is smaller for a newer version; not exact for pre-releases."""
        return [-int(number) for number in re.findall(r"\d{1,9}", self.version)]

    def problem(self) -> str:
        """Return what is wrong with its metadata; empty if nothing is."""
        try:
            metadata = self.distribution.metadata
            missing = [key for key in ("Name", "Version") if not metadata.get(key)]
        except UnicodeDecodeError as error:
            return f"its METADATA is no UTF-8 text (byte {error.start})"
        except Exception:
            return "its METADATA is missing or cannot be read"
        return f"its METADATA has no {missing[0]}" if missing else ""

    def entry_points(self, faults: list[Fault]) -> str:
        """Return the text of its entry points; empty if there is none, or none that can be read."""
        costs_us = normal(self.name).startswith("lazyflow")
        try:
            text = self.distribution.read_text("entry_points.txt")
            why = self._why_unread() if text is None else ""
        except UnicodeDecodeError as error:
            text, why = None, f"its entry_points.txt is no UTF-8 text (byte {error.start})"
            costs_us = _OURS.encode() in error.object
        except Exception as error:
            text, why = None, f"its entry_points.txt cannot be read: {sentence(error)}"
        if why:
            faults.append(Fault(self.name, self.shown, f"{why}; what it offers is unknown", _AGAIN, costs_us))
        return text or ""

    def _why_unread(self) -> str:
        """Return why there are no entry points although there may be some; empty if there are none."""
        if not isinstance(self.path, Path):
            return ""
        if os.path.lexists(self.path / "entry_points.txt"):
            return "its entry_points.txt cannot be read"
        return "" if os.access(self.path, os.R_OK) else "it cannot be read"


def _lines(text: str, of: _Metadata, faults: list[Fault]) -> Iterator[tuple[str, str, str]]:
    """Give group, name and target of the entry points that are for us; note what cannot be understood."""
    from configparser import ConfigParser, Error, MissingSectionHeaderError, ParsingError

    parser = ConfigParser(delimiters=("=",), interpolation=None, strict=False, default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their capitals

    def note(what: str, hint: str, costs_us: bool = True) -> None:
        faults.append(Fault(of.name, of.shown, f"its entry_points.txt {what}", hint, costs_us))

    if text.startswith("\ufeff"):
        text = text[1:]
        note("begins with a byte order mark, which others stumble over", "write it as UTF-8 without", False)
    try:
        parser.read_string(text)
    except MissingSectionHeaderError as error:
        note(f"has no section before line {error.lineno}; nothing of it is used", _AGAIN)
    except ParsingError as error:  # raised when all else has been read
        number, line = (getattr(error, "errors", None) or [("", str(error))])[0]
        note(f"has a line {number} that is no 'name = target': {line}", _AGAIN)
    except Error as error:
        note(f"cannot be understood: {sentence(error)}", _AGAIN)
    for group in (OPERATOR_GROUP, PLUGIN_GROUP):
        for entry, value in parser.items(group) if parser.has_section(group) else ():
            match = _TARGET.fullmatch(value.strip())
            target = ":".join(filter(None, match.groups())) if match else value
            yield group, printable(entry), printable(target)
