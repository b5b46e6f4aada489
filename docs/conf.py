"""How Sphinx builds this documentation: ``tox -e docs``, or ``sphinx-build -W docs docs/_build/html``.

Needs no network: no theme, font or inventory is fetched while building.
"""

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import lazyflow_core

project = "lazyflow-core"
author = copyright = "the lazyflow-core developers"
version = release = lazyflow_core.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "requirements.txt", "unreleased.md"]
nitpicky = False  # docstrings name types of numpy and others, whose inventories would have to be fetched

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Docstrings put code into single backticks, as people write them in Markdown.
default_role = "code"
napoleon_google_docstring = False
napoleon_use_rtype = False
# Sections of operators and of the project, besides those of numpydoc.
napoleon_custom_sections = [
    ("Inputs", "params_style"),
    ("Outputs", "params_style"),
    "Memory",
    "Threading",
    "Regions",
    "Source",
    "Interleavings",
]

html_theme = "furo"
html_title = f"lazyflow-core {release}"
html_static_path = ["static"]
html_css_files = ["wide_code.css"]
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def _bullets_in_regions(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Make list items of the lines "pull   ..." and "push   ..." in docstrings of operators."""
    inside = False
    for i, line in enumerate(lines):
        if arrow := re.match(r"(pull|push) +(.*)", line):
            lines[i], inside = f"- **{arrow[1]}** {arrow[2]}", True
        elif inside and line.startswith(" "):
            lines[i] = f"  {line.strip()}"
        else:
            inside = False


def _write_catalogue(app: Any) -> None:
    """Make the page of operators from what is installed here."""
    folder = Path(app.srcdir) / "plugins"
    made = runpy.run_path(str(folder / "make_catalogue.py"))["catalogue"]()
    (folder / "catalogue.md").write_text(made, encoding="utf-8")


def _write_unreleased(app: Any) -> None:
    """Make the part of the changelog that no release has collected yet, as towncrier will."""
    root = Path(app.srcdir).parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    lines = ["## Not released yet", ""]
    for kind in project["tool"]["towncrier"]["type"]:
        fragments = sorted((root / "newsfragments").glob(f"*.{kind['directory']}.md"))
        if fragments and kind["showcontent"]:
            lines += [f"### {kind['name']}", ""]
            for fragment in fragments:
                text = fragment.read_text(encoding="utf-8").strip().removeprefix("- ")
                lines.append("- " + text.replace("\n", "\n  "))
            lines.append("")
    (Path(app.srcdir) / "unreleased.md").write_text("\n".join(lines), encoding="utf-8")


def setup(app: Any) -> None:
    app.connect("builder-inited", _write_catalogue)
    app.connect("builder-inited", _write_unreleased)
    app.connect("autodoc-process-docstring", _bullets_in_regions, priority=400)  # before napoleon
