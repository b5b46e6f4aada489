"""Distributions made of a few files, on a path of their own."""

import sys
import textwrap

import pytest

from lazyflow_core.plugins import discovery


class Site:
    """A folder like site-packages.

    `install` writes what pip would: a module and the metadata of a distribution.
    """

    def __init__(self, folder):
        self.folder = folder
        self.modules = []

    def install(self, name, *, modules, operators=(), plugins=(), version="1.0"):
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = ["[lazyflow.operators]", *operators, "[lazyflow.plugins]", *plugins]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for module, code in modules.items():
            (self.folder / f"{module}.py").write_text(textwrap.dedent(code))
            self.modules.append(module)
        discovery.forget()

    def imported(self):
        """Which of its modules were imported."""
        return {module for module in self.modules if module in sys.modules}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty one; whatever is installed where the tests run does not show."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("PLUGINS", "DISABLE_PLUGINS", "PREFER", "READERS"):
        monkeypatch.delenv(f"LAZYFLOW_{name}", raising=False)

    monkeypatch.setattr(
        discovery, "_search_path", lambda: [p for p in sys.path if p.startswith(str(tmp_path))]
    )
    monkeypatch.setenv("LAZYFLOW_STRICT_PLUGINS", "")
    made = Site(tmp_path)
    discovery.forget()
    yield made
    for module in made.modules:
        sys.modules.pop(module, None)
    discovery.forget()


OPERATOR = """
    from lazyflow_core import InputSlot, Operator, OutputSlot

    class OpPass(Operator):
        image = InputSlot()
        output = OutputSlot()
"""

PLUGIN = """
    from lazyflow_core.plugins import ReaderSpec, hookimpl

    LAZYFLOW_API = (1, 0)

    @hookimpl
    def lazyflow_reader_specs():
        return [ReaderSpec("good.raw", "good_ops:open_raw", patterns=("*.raw",))]
"""


@pytest.fixture
def good(site):
    """A healthy distribution."""
    site.install(
        "acme-good",
        modules={"good_ops": OPERATOR, "good_plugin": PLUGIN},
        operators=["good.pass_on = good_ops:OpPass"],
        plugins=["good = good_plugin"],
    )
    return site
