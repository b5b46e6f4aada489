"""One version for all, and pins that agree with it."""

import re

import pytest

from .distributions import ALL, CORE, PLUGINS, ROOT

VERSION = CORE.project["version"]
MAJOR, MINOR = map(int, VERSION.split(".")[:2])


@pytest.mark.parametrize("distribution", ALL, ids=str)
def test_all_distributions_have_the_version_of_the_core(distribution):
    assert distribution.project["version"] == VERSION


def test_the_core_says_its_version_itself():
    text = (ROOT / "lazyflow_core/__init__.py").read_text(encoding="utf-8")
    assert re.search(r'^__version__ = "(.*)"$', text, re.MULTILINE)[1] == VERSION


@pytest.mark.parametrize("plugin", PLUGINS, ids=str)
def test_a_plugin_needs_the_core_of_the_same_minor_version_and_no_other_plugin(plugin):
    ours = [needed for needed in plugin.project["dependencies"] if needed.startswith("lazyflow")]
    assert ours == [f"lazyflow-core>={MAJOR}.{MINOR},<{MAJOR}.{MINOR + 1}"]


def test_the_core_needs_no_plugin_and_has_an_extra_for_each():
    assert not [needed for needed in CORE.project["dependencies"] if needed.startswith("lazyflow")]
    extras = CORE.project["optional-dependencies"]
    for plugin in PLUGINS:
        assert extras[plugin.namespace] == [f"{plugin.name}=={VERSION}"]
    assert sorted(extras["all"]) == [f"{plugin.name}=={VERSION}" for plugin in PLUGINS]


@pytest.mark.parametrize("distribution", ALL, ids=str)
def test_every_dependency_has_a_floor(distribution):
    for needed in distribution.project["dependencies"]:
        assert ">=" in needed, f"{needed}: which version is the oldest that works?"


@pytest.mark.parametrize("distribution", ALL, ids=str)
def test_every_floor_is_tried(distribution):
    """The lowest versions that are promised are those that the environments `lowest` and `lowest-io` pin."""
    pinned = set()
    for name in ("constraints-lowest.txt", "constraints-lowest-io.txt"):
        lines = (ROOT / "tests" / name).read_text(encoding="utf-8").splitlines()
        pinned |= {tuple(line.split("==")) for line in lines if "==" in line}
    for needed in distribution.project["dependencies"]:
        name, floor = re.match(r"([\w-]+)>=([\d.]+)", needed).groups()
        if not name.startswith("lazyflow"):
            padded = {(package, *version.split(".")[: floor.count(".") + 1]) for package, version in pinned}
            assert (name, *floor.split(".")) in padded, f"{distribution}: nobody tries {name} {floor}"
