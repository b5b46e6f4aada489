"""What the pages for authors say is so."""

import inspect
import re
import runpy
import types
from pathlib import Path

import pytest

from lazyflow_core import plugins
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.plugins import PluginManager, set_default
from lazyflow_core.testing import Case, CheckFailed, all_checks, array, parametrize_with_checks

PAGES = Path(__file__).parents[2] / "docs" / "plugins"
SECTION = re.compile(r"^## `(\w+)\(([^)]*)\)`\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HOOKS = {
    name: (arguments, text)
    for name, arguments, text in SECTION.findall((PAGES / "hooks.md").read_text("utf-8"))
}


def test_every_hook_has_a_section_with_its_signature():
    manager = PluginManager(only=["cache", "filters"])
    specs = {name: getattr(manager.hook, name).spec.function for name in manager.hook_names()}
    assert {name: arguments for name, (arguments, _) in HOOKS.items()} == {
        name: ", ".join(p for p in inspect.signature(f).parameters if p != "self")
        for name, f in specs.items()
    }


@pytest.mark.parametrize("hook", HOOKS)
def test_every_section_says_when_and_in_which_thread_and_its_example_is_a_plugin(hook):
    _, text = HOOKS[hook]
    assert "*When:*" in text
    assert "*Thread:*" in text
    (code,) = CODE.findall(text)
    module = types.ModuleType("example")
    exec(code, vars(module))
    manager = PluginManager(discover=False, strict=True)
    manager.register_plugin(module, "example")
    answers = {
        "lazyflow_operator_specs": lambda: len(manager.operators(dynamic=True)) == 2,
        "lazyflow_reader_specs": manager.readers,
        "lazyflow_writer_specs": manager.writers,
        "lazyflow_request_observer": manager.request_observers,
        "lazyflow_doctor": manager.doctor,
    }
    assert answers.get(hook, lambda: manager.plugins(load=True)[0].hooks == (hook,))()
    manager.close()


def test_the_example_of_a_cache_policy_compresses_large_labels_and_nothing_else():
    from lazyflow_ops_cache.policy import CachePolicy, policy_of

    module = types.ModuleType("example")
    exec(CODE.findall(HOOKS["cache_policy"][1])[0], vars(module))
    manager = PluginManager(only=["cache"], strict=True)
    manager.register_plugin(module, "example")
    set_default(manager)
    try:
        answers = [
            policy_of("cache.blocks", ArrayMeta((n, 100), "uint8", semantics=semantics), 1000)
            for n in (1, 50)
            for semantics in ("intensities", "labels")
        ]
    finally:
        set_default(None)
    assert answers == [CachePolicy()] * 3 + [CachePolicy(compress=True)]


def test_the_table_of_laws_is_that_of_the_kit():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|$", (PAGES / "testing.md").read_text("utf-8"), re.MULTILINE)
    expected = []
    for check in all_checks():
        needs = f" Needs {', '.join(f'`{name}`' for name in check.needs)}." if check.needs else ""
        expected.append((check.name, check.law + needs))
    assert rows == expected


def test_the_code_of_the_page_on_testing_runs():
    for code in CODE.findall((PAGES / "testing.md").read_text("utf-8")):
        exec(code, {})


def test_the_catalogue_has_every_installed_operator_with_slots_regions_memory_and_source():
    page = runpy.run_path(str(PAGES / "make_catalogue.py"))["catalogue"]()
    entries = dict(re.findall(r"^### `([\w.]+)`\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    specs = plugins.list_operators()
    assert entries.keys() == {spec.id for spec in specs}
    for spec in specs:
        entry = entries[spec.id]
        assert "Not available" not in entry
        for part in ("` | output | ", "**Regions.**", "**Memory.**", f"Source: `{spec.target}`"):
            assert part in entry, f"{spec.id}: {part}"


def test_the_broken_law_of_the_tutorial_is_what_the_kit_says():
    example = PAGES.parents[1] / "examples" / "lazyflow-ops-example" / "lazyflow_ops_example"
    operator = runpy.run_path(str(example / "local_contrast.py"))["OpLocalContrast"]
    operator.propagate_dirty = lambda self, slot, roi: self.output.mark_dirty(roi)
    image = array((40, 31), "yx", "uint8", high=255)
    case = Case(operator, {"image": image}, {"radius": 3}, name="acme.local_contrast(radius=3)", halo=3)
    ((_, check),) = (p.values for p in parametrize_with_checks([case], checks=["dirty_soundness"]).args[1])
    with pytest.raises(CheckFailed) as caught:
        check(case)
    page = (PAGES / "tutorial.md").read_text("utf-8")
    assert " ".join(str(caught.value).split()) in " ".join(page.split())


def test_pages_link_to_pages_that_are_there():
    for page in PAGES.glob("*.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
            assert target == "catalogue.md" or (page.parent / target).exists(), f"{page.name}: {target}"
