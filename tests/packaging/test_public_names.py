"""Plugins are written with public names only: modules the reference documents, names these export."""

import ast
import re

import pytest

from .distributions import PLUGINS, ROOT, Distribution

EXAMPLE = Distribution(ROOT / "examples/lazyflow-ops-example")

PUBLIC = {"lazyflow_core"} | {
    module
    for page in (ROOT / "docs/api").glob("*.md")
    for module in re.findall(r"automodule:: (\S+)", page.read_text(encoding="utf-8"))
}


def exported(module):
    """Return what a module of the core lists in ``__all__``; for the core itself, what it re-exports."""
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id in {"__all__", "_MODULE_OF"}:
            value = ast.literal_eval(node.value)
            return set(value)
    raise AssertionError(f"{module} lists nothing in __all__")


def imports_of_the_core(path):
    """Yield line, module and name (None for a module) of everything a file imports from the core."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        for module, name in names:
            if module.split(".")[0] == "lazyflow_core":
                yield node.lineno, module, name


def refusal(module, name):
    """Return why a plugin must not import this; None if it may."""
    if name is not None and f"{module}.{name}" in PUBLIC:
        return None
    if module not in PUBLIC:
        return f"{module} is not in the API reference"
    if name is not None and name not in exported(module) | {"__version__"}:
        return f"{module} does not list {name} in __all__"
    return None


@pytest.mark.parametrize("plugin", [*PLUGINS, EXAMPLE], ids=str)
def test_a_plugin_imports_public_names_only(plugin):
    found = []
    for path in sorted(plugin.sources()):
        if path.suffix == ".py":
            for line, module, name in imports_of_the_core(plugin.folder / path):
                if why := refusal(module, name):
                    found.append(f"{path}:{line}: {why}")
    assert not found


def test_inner_names_are_refused():
    assert refusal("lazyflow_core.request.extension", "anything")
    assert refusal("lazyflow_core.graph.setup", "Setup")
    assert refusal("lazyflow_core.roi", "_index")
    assert refusal("lazyflow_core", "Setup")
    assert refusal("lazyflow_core", "Graph") is None
    assert refusal("lazyflow_core", "errors") is None
