"""Write the catalogue of operators: ``python docs/plugins/make_catalogue.py`` prints the page.

All installed operators are imported. One that cannot be had is listed with the reason.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import groupby

from lazyflow_core import plugins
from lazyflow_core.errors import PluginError
from lazyflow_core.graph import InputSlot, OutputSlot, ParameterSlot
from lazyflow_core.plugins import OperatorSpec

_KINDS = ((InputSlot, "input"), (ParameterSlot, "parameter"), (OutputSlot, "output"))


def catalogue() -> str:
    """Return the page, in Markdown."""
    specs = plugins.default().operators(dynamic=True)
    begin = "Made from what is installed; `lazyflow operators list` shows yours."
    lines = ["# Catalogue of operators", "", begin, ""]
    for namespace, group in groupby(specs, key=lambda spec: spec.namespace):
        members = list(group)
        lines += [f"## {namespace}", "", f"From `{members[0].distribution}` {members[0].version}.", ""]
        for spec in members:
            lines += entry(spec)
    return "\n".join(lines) + "\n"


def entry(spec: OperatorSpec) -> Iterator[str]:
    """Give the lines about one operator."""
    yield from (f"### `{spec.id}`", "")
    try:
        operator = plugins.default().get_operator(spec.id)
    except PluginError as error:
        yield from (f"Not available here: {error}", "")
        return
    doc = inspect.getdoc(operator) or ""
    yield from (doc.partition("\n\n")[0], "")
    yield from ("| slot | kind | what it takes | |", "|---|---|---|---|")
    for cls, kind in _KINDS:
        for name, slot in operator.declarations.items():
            if isinstance(slot, cls):
                cells = (f"`{name}`", kind, code(shortened(slot.describe())), code(slot.doc))
                yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    for title in ("Regions", "Memory"):
        texts = (section(inspect.cleandoc(cls.__doc__ or ""), title) for cls in operator.__mro__)
        text = next(filter(None, texts), "")  # a subclass without the section means that of its base
        if text:
            # A line per arrow; what belongs to it is indented.
            text = re.sub(r"^(pull|push)\s+", r"- *\1:* ", text, flags=re.MULTILINE)
            begin = f"**{title}.**" + ("\n\n" if text.startswith("- ") else " ")
            yield from (begin + text.replace("``", "`"), "")
    yield from (f"Source: `{spec.target}`", "")


def code(text: str) -> str:
    """Return a text in which what is quoted is code: quotes in prose would be made round."""
    return re.sub(r"'([^']*)'", r"`'\1'`", text)


def shortened(text: str) -> str:
    """Return what a slot takes; a default that is a table of its own has no place in this one."""
    begin, default, value = text.partition("default ")
    return text if len(value) < 80 else f"{begin}{default}of {value.count('),') + 1} entries"


def section(doc: str, title: str) -> str:
    """Return the text of one section of a docstring; empty if it does not have it."""
    found = re.search(rf"^{title}\n-+\n(.+?)(?=^\S[^\n]*\n-+\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


if __name__ == "__main__":
    print(catalogue(), end="")
