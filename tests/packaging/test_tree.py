"""What a folder has to have, and what must not stand anywhere."""

import re
from pathlib import Path

import pytest

from .distributions import ALL, CORE, PLUGINS, ROOT, tracked

LICENCE = (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("distribution", ALL, ids=str)
def test_a_distribution_has_a_readme_a_licence_types_and_tests(distribution):
    readme = (distribution.folder / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# {distribution.name}\n")
    assert (distribution.folder / "LICENSE").read_text(encoding="utf-8") == LICENCE
    assert (distribution.folder / distribution.package / "py.typed").exists()
    assert list(distribution.folder.glob("tests/**/test_*.py"))


@pytest.mark.parametrize("distribution", ALL, ids=str)
def test_metadata_agree(distribution):
    ours, core = distribution.project, CORE.project
    for key in ("license", "requires-python", "authors", "readme"):
        assert ours[key] == core[key]
    assert ours["description"].endswith(".")


@pytest.mark.parametrize("plugin", PLUGINS, ids=str)
def test_a_plugin_offers_only_what_is_its_own(plugin):
    assert set(plugin.entry_points["lazyflow.plugins"].items()) == {
        (plugin.namespace, f"{plugin.package}.plugin")
    }
    for id, target in plugin.entry_points.get("lazyflow.operators", {}).items():
        assert re.fullmatch(rf"{plugin.namespace}\.[a-z][a-z0-9_]*", id)
        assert re.fullmatch(rf"{plugin.package}(\.[a-z_0-9]+)+:Op[A-Za-z0-9]+", target)


def test_the_command_of_the_readme_installs_every_distribution():
    for page in ("README.md", "docs/index.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        (command,) = re.findall(r"^    (python -m pip install \. .*)$", text, re.MULTILINE)
        install, run = command.split(" && ")
        assert set(install.split()[5:]) == {f"./plugins/{plugin.folder.name}" for plugin in PLUGINS}
        assert run == "lazyflow run examples/ovule.toml --preview ovule.png"


def test_every_distribution_is_tested_alone_and_with_all():
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    listed = re.search(r"^env_list =\n((?:    .*\n)+)", tox, re.MULTILINE)[1].split()
    assert {plugin.namespace for plugin in PLUGINS} <= set(listed)
    together = re.search(r"^everything = (.*)$", tox, re.MULTILINE)[1].split()
    assert together == [plugin.folder.name for plugin in PLUGINS]


def test_no_file_names_a_machine():
    # Written in pieces, or this file would be found.
    forbidden = [
        re.compile(pattern.encode())
        for pattern in (
            "/ro" + "ot/",
            "/wo" + "rk/",
            r"/ho" + r"me/\w",
            r"/Us" + r"ers/\w",
            r"\.lib" + "rary",
        )
    ]
    found = []
    for path in sorted(tracked(ROOT)):
        if path.suffix in {".h5", ".png"}:
            continue
        for number, line in enumerate((ROOT / path).read_bytes().splitlines(), 1):
            found += [f"{path}:{number}: {line!r}" for one in forbidden if one.search(line)]
    assert not found


def test_nothing_is_committed_that_tools_write():
    suffixes = {".pyc", ".so", ".whl", ".orig", ".egg-info"}
    names = {"__pycache__", "build", "dist", "_build", ".tox", ".hypothesis"}
    for path in tracked(ROOT):
        assert path.suffix not in suffixes
        assert not names & set(path.parts), path


def test_every_fragment_of_the_changelog_is_of_a_known_kind():
    for path in tracked(ROOT / "newsfragments"):
        if path != Path(".gitkeep"):
            assert re.fullmatch(r"[a-z0-9-]+\.(feature|bugfix|change|doc|misc)\.md", path.name), path
