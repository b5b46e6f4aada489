import re

import importlib_metadata
import pytest

from lazyflow_core.errors import PluginError
from lazyflow_core.plugins import PluginManager

from .conftest import PLUGIN


def install_broken(site, code):
    site.install("acme-broken", modules={"broken_plugin": code}, plugins=["broken = broken_plugin"])


BROKEN = {
    "raises at import": ("1 / 0", "ZeroDivisionError"),
    "misses a dependency": ("import cupy_is_missing", "ModuleNotFoundError"),
    "exits": ("raise SystemExit(1)", "SystemExit"),
    "states no API level": ("x = 1", "does not state LAZYFLOW_API"),
    "was written for another API": (
        "LAZYFLOW_API = (2, 0)",
        "it was written for plugin API 2.0 and this is 1.0",
    ),
    "was written for a later API": ("LAZYFLOW_API = (1, 9)", "install a newer lazyflow-core"),
    "has a hook with a wrong argument": (
        PLUGIN + "\n\n    @hookimpl\n    def lazyflow_doctor(nonsense):\n        return []\n",
        "PluginValidationError",
    ),
}


@pytest.mark.parametrize("code", [code for code, _ in BROKEN.values()], ids=BROKEN)
def test_a_broken_plugin_leaves_the_others_usable_and_is_told_about_once(good, caplog, code):
    reason = next(reason for c, reason in BROKEN.values() if c == code)
    install_broken(good, code)
    manager = PluginManager()
    for _ in range(2):
        assert [spec.id for spec in manager.readers()] == ["good.raw"]
    states = {info.namespace: info.state for info in manager.plugins()}
    assert states == {"good": "loaded", "broken": "broken"}
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert message.startswith("lazyflow: plugin 'broken' (acme-broken 1.0) is disabled: ")
    assert reason in message
    assert message.endswith(
        "\n          run 'lazyflow plugins show broken' for the traceback, "
        "or LAZYFLOW_DISABLE_PLUGINS=broken to silence this."
    )


def test_the_text_about_a_broken_plugin_letter_by_letter(good, caplog):
    install_broken(good, "import cupy_is_missing")
    PluginManager().readers()
    assert [record.getMessage() for record in caplog.records] == [
        "lazyflow: plugin 'broken' (acme-broken 1.0) is disabled: "
        "ModuleNotFoundError: No module named 'cupy_is_missing'\n"
        "          run 'lazyflow plugins show broken' for the traceback, "
        "or LAZYFLOW_DISABLE_PLUGINS=broken to silence this."
    ]


def test_in_strict_mode_a_broken_plugin_is_an_error(good, monkeypatch):
    monkeypatch.setenv("LAZYFLOW_STRICT_PLUGINS", "1")
    install_broken(good, "1 / 0")
    with pytest.raises(
        PluginError, match=r"plugin 'broken' \(acme-broken 1\.0\) was not loaded: ZeroDivisionError"
    ):
        PluginManager().readers()


def test_no_plugin_is_imported_before_a_hook_is_called(good):
    manager = PluginManager()
    assert [info.state for info in manager.plugins()] == ["installed"]
    assert good.imported() == set()
    manager.readers()
    assert good.imported() == {"good_plugin"}


def test_the_doctor_hears_of_broken_plugins(good):
    install_broken(good, "1 / 0")
    checks = {check.name: check for check in PluginManager().doctor()}
    assert checks["plugin good"].ok is True
    assert re.fullmatch(r"acme-good 1\.0, imported in \d+ ms", checks["plugin good"].detail)
    assert checks["plugin broken"].ok is False
    assert "ZeroDivisionError" in checks["plugin broken"].detail


@pytest.mark.parametrize("reverse", [False, True])
def test_plugins_are_asked_in_the_order_of_their_names_whatever_the_order_of_directories(
    site, monkeypatch, reverse
):
    for name in ("bb", "aa", "cc"):
        code = PLUGIN.replace("good.raw", f"{name}.raw").replace("good_ops", name)
        site.install(f"acme-{name}", modules={f"{name}_plugin": code}, plugins=[f"{name} = {name}_plugin"])
    found = sorted(importlib_metadata.distributions(path=[str(site.folder)]), key=str, reverse=reverse)
    monkeypatch.setattr(importlib_metadata, "distributions", lambda **_: found)
    manager = PluginManager()
    assert [plugin for plugin, _ in manager._hooks.answers("lazyflow_reader_specs")] == ["aa", "bb", "cc"]
