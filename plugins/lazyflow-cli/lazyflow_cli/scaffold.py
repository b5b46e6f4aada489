"""A new distribution from a template: what ``lazyflow plugins new`` writes. Needs no network."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from typing import Final

from lazyflow_core import __version__
from lazyflow_core.errors import PluginError, TargetExistsError
from lazyflow_core.plugins import namespace_owner

__all__ = ["new_plugin", "render"]

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_PREFIX: Final = "lazyflow-ops-"

_OPERATOR_TESTS: Final = """
from $package.conformance import CASES


@parametrize_with_checks(CASES)
def test_operators_obey_the_laws(case, check):
    check(case)


"""
_CASES_HOOK: Final = '''

@hookimpl
def lazyflow_conformance_cases() -> str:
    """Name the cases on which users may try our operators."""
    return "$package.conformance:CASES"
'''
_READER_HOOK: Final = '''

@hookimpl
def lazyflow_reader_specs() -> list[ReaderSpec]:
    """Name the kinds of files that are read here."""
    pgm = ReaderSpec(
        "$namespace.pgm",
        "$package.pgm:PgmReader",
        patterns=("*.pgm",),
        magic=((0, b"P5"),),
    )
    return [pgm]
'''
_READER_TESTS: Final = """

def test_an_image_is_read_by_region(tmp_path):
    import numpy as np
    from lazyflow_core import Roi, open_reader

    path = tmp_path / "image.pgm"
    path.write_bytes(b"P5 4 3 255\\n" + bytes(range(12)))
    reader = open_reader(str(path))
    out = np.empty((2, 2), np.uint8)
    reader.read(Roi((1, 1), (3, 3)), out)
    reader.close()
    assert out.tolist() == [[5, 6], [9, 10]]
"""


def render(name: str, *, example: bool = True, reader: bool = False) -> dict[str, str]:
    """Return the files of a new distribution, by their path in its folder.

    Parameters
    ----------
    name
        Namespace of its operators: the name of a project, such as ``"acme"`` or ``"lazyflow-ops-acme"``.
    example
        Whether to begin with an operator.
    reader
        Whether to begin with a reader of files.

    Raises
    ------
    PluginError
        If the name cannot be one, or is taken by this project.

    Examples
    --------
    >>> sorted(render("acme", example=False))[:3]
    ['README.md', 'lazyflow_ops_acme/__init__.py', 'lazyflow_ops_acme/plugin.py']
    """
    short = name.removeprefix(_PREFIX)
    if not _NAME.fullmatch(short):
        raise PluginError(f"{name!r} is no name for a plugin; it is lower case, such as 'acme' or 'my-lab'.")
    namespace = short.replace("-", "_")
    if namespace_owner(namespace) is not None:
        raise PluginError(f"the namespace {namespace!r} is taken; choose the name of your project.")
    distribution = _PREFIX + short.replace("_", "-")
    package = distribution.replace("-", "_")
    major, minor = __version__.split(".")[:2]
    words = {
        "distribution": distribution,
        "namespace": namespace,
        "package": package,
        "title": f"Operators of {short}",
        "core_floor": f"{major}.{minor}",
        "core_cap": f"{major}.{int(minor) + 1}",
        "operator_lines": f'"{namespace}.local_mean" = "{package}.local_mean:OpLocalMean"\n'
        if example
        else "",
        "operator_table": f"| `{namespace}.local_mean` | the mean over a box around each pixel |\n" * example,
    }

    def fill(text: str) -> str:
        return Template(text).substitute(words)

    wanted = [*["ReaderSpec"] * reader, *["hookimpl"] * (reader or example)]
    words |= {
        "plugin_imports": f"from lazyflow_core.plugins import {', '.join(wanted)}" if wanted else "",
        "plugin_hooks": fill(_CASES_HOOK * example + _READER_HOOK * reader),
        "operator_tests": fill(_OPERATOR_TESTS * example).removeprefix("\n"),
        "reader_tests": _READER_TESTS * reader,
        "test_imports": ", parametrize_with_checks" * example,
    }
    left_out = {"local_mean.py", "conformance.py"} if not example else set()
    left_out |= set() if reader else {"pgm.py"}
    folder = Path(__file__).with_name("template")
    files = {}
    for source, target in (("", ""), ("package/", f"{package}/"), ("tests/", "tests/")):
        for item in (folder / source if source else folder).iterdir():
            path = item.name.removesuffix(".template")
            if item.is_file() and path not in left_out:
                files[target + path] = _tidy(fill(item.read_text(encoding="utf-8")))
    return files


def new_plugin(name: str, folder: Path, *, example: bool = True, reader: bool = False) -> Path:
    """Write a new distribution into a folder of its own inside ``folder``; return that.

    Raises
    ------
    PluginError
        As `render`.
    TargetExistsError
        If the folder is there already.
    """
    files = render(name, example=example, reader=reader)
    root = folder / (_PREFIX + name.removeprefix(_PREFIX).replace("_", "-"))
    if root.exists():
        raise TargetExistsError(f"{root} exists already.")
    for path, text in sorted(files.items()):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")
    return root


def _tidy(text: str) -> str:
    """Return a file with at most two empty lines in a row, none at the end."""
    text = re.sub(r"\n{4,}", "\n\n\n", text).strip("\n")
    text = text.replace("annotations\n\n\n#:", "annotations\n\n#:")  # no imports in between
    return text + "\n" if text else ""
