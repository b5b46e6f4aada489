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


def classes_of_the_core():
    """Yield module and syntax tree of each class that the core defines for other modules."""
    for path in sorted((ROOT / "lazyflow_core").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield module, node


def shown_types(cls):
    """Yield what the public surface of a class shows: member, and a name in its types."""
    for node in cls.body:
        parts = []
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            for each in ast.walk(node):
                target = each.target if isinstance(each, ast.AnnAssign) else None
                if isinstance(each, ast.Assign):
                    target = each.targets[0]
                if isinstance(target, ast.Attribute) and not target.attr.startswith("_"):
                    made = each.value.func if isinstance(each.value, ast.Call) else None
                    parts += [(target.attr, getattr(each, "annotation", None)), (target.attr, made)]
        elif isinstance(node, ast.FunctionDef) and (
            not node.name.startswith("_") or node.name == "__enter__"
        ):
            arguments = [*node.args.args, *node.args.posonlyargs, *node.args.kwonlyargs]
            parts = [(node.name, argument.annotation) for argument in arguments] + [(node.name, node.returns)]
        for member, annotation in parts:
            for each in ast.walk(annotation) if annotation is not None else ():
                if isinstance(each, ast.Name):
                    yield member, each.id


#: What drivers of requests are to each other, and no one else: one protocol of the room, see its DESIGN.md.
BETWEEN_DRIVERS = {"block_thread", "drive_meanwhile"}


def test_what_is_public_of_a_public_class_speaks_of_public_classes_only():
    """Else it is public by accident: nobody outside can name what it takes or gives."""
    public = {name for module in PUBLIC - {"lazyflow_core"} for name in exported(module)}
    inner = {cls.name for _, cls in classes_of_the_core()} - public
    found = [
        f"{module}.{cls.name}.{member}: {name}"
        for module, cls in classes_of_the_core()
        if cls.name in public
        for member, name in shown_types(cls)
        if name in inner and member not in BETWEEN_DRIVERS
    ]
    assert not found
