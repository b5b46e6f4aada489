import json

import pytest

from lazyflow_core.errors import (
    OperatorConflictError,
    OperatorLoadError,
    PluginError,
    UnknownOperatorError,
)
from lazyflow_core.graph import Operator
from lazyflow_core.plugins import OperatorSpec, PluginManager, discovery

from .conftest import OPERATOR


def test_listing_imports_no_module_of_any_plugin(good):
    assert PluginManager().operators() == [
        OperatorSpec("good.pass_on", "good_ops:OpPass", "acme-good", "1.0")
    ]
    assert good.imported() == set()


def test_getting_an_operator_imports_its_module_the_light_one_beside_it_and_no_other(good):
    good.install("other", modules={"other_ops": OPERATOR}, operators=["other.x = other_ops:OpPass"])
    assert PluginManager().get_operator("good.pass_on").__name__ == "OpPass"
    assert good.imported() == {"good_ops", "good_plugin"}


def test_an_operator_of_a_plugin_for_another_level_is_refused_before_it_is_imported(good):
    good.install(
        "acme-new",
        modules={"new_ops": OPERATOR, "new_plugin": "LAZYFLOW_API = (2, 0)"},
        operators=["new.x = new_ops:OpPass"],
        plugins=["new = new_plugin"],
    )
    manager = PluginManager()
    with pytest.raises(OperatorLoadError) as caught:
        manager.get_operator("new.x")
    assert str(caught.value) == (
        "operator 'new.x' (acme-new 1.0, new_ops:OpPass) could not be imported: PluginError: it was written "
        "for plugin API 2.0 and this is 1.0; install a newer lazyflow-core."
    )
    assert "new_ops" not in good.imported()
    assert manager.get_operator("good.pass_on")


def test_packages_are_scanned_once_per_process(good, monkeypatch):
    import importlib_metadata

    scans = []
    real = importlib_metadata.distributions
    monkeypatch.setattr(importlib_metadata, "distributions", lambda **k: scans.append(1) or real(**k))
    discovery.forget()
    for _ in range(3):
        PluginManager().operators()
        PluginManager().plugins()
    assert scans == [1]


def test_a_misspelled_id_suggests_the_nearest(good):
    with pytest.raises(UnknownOperatorError) as caught:
        PluginManager().get_operator("good.pas_on")
    assert str(caught.value) == "no operator 'good.pas_on'; did you mean 'good.pass_on'?"


def test_an_unknown_name_in_a_known_namespace_lists_what_there_is(good):
    with pytest.raises(UnknownOperatorError) as caught:
        PluginManager().get_operator("good.watershed")
    assert str(caught.value) == "no operator 'good.watershed'; 'good' offers good.pass_on."


def test_an_id_of_a_distribution_of_ours_says_what_to_install(site):
    with pytest.raises(UnknownOperatorError) as caught:
        PluginManager().get_operator("filters.gaussian_smoothing")
    assert str(caught.value) == (
        "no operator 'filters.gaussian_smoothing': no installed distribution provides the namespace "
        "'filters'. Try: pip install lazyflow-ops-filters"
    )


@pytest.fixture
def conflict(good):
    good.install(
        "acme-fast",
        modules={"fast_ops": OPERATOR},
        operators=["good.pass_on = fast_ops:OpPass"],
        version="2.0",
    )
    return good


def test_two_distributions_with_one_id_are_an_error_at_use_that_names_both(conflict):
    manager = PluginManager()
    assert [spec.distribution for spec in manager.operators()] == ["acme-fast", "acme-good"]
    with pytest.raises(OperatorConflictError) as caught:
        manager.get_operator("good.pass_on")
    assert str(caught.value) == (
        "operator id 'good.pass_on' is provided by two distributions:\n"
        "    acme-good 1.0   good_ops:OpPass\n"
        "    acme-fast 2.0   fast_ops:OpPass\n"
        "  choose one:  LAZYFLOW_PREFER=good.pass_on=acme-fast   or uninstall the other."
    )
    assert conflict.imported() == set()


def test_a_conflict_is_solved_by_preferring_one(conflict, monkeypatch):
    monkeypatch.setenv("LAZYFLOW_PREFER", "good.pass_on=acme_fast")
    assert PluginManager().get_operator("good.pass_on").__module__ == "fast_ops"


def test_an_operator_that_fails_to_import_is_an_error_at_use_only(good):
    good.install("acme-bad", modules={"bad_ops": "import cupy_is_missing"}, operators=["bad.x = bad_ops:OpX"])
    manager = PluginManager()
    assert manager.get_operator("good.pass_on")
    with pytest.raises(OperatorLoadError) as caught:
        manager.get_operator("bad.x")
    assert str(caught.value) == (
        "operator 'bad.x' (acme-bad 1.0, bad_ops:OpX) could not be imported: "
        "ModuleNotFoundError: No module named 'cupy_is_missing'"
    )


def test_a_target_that_cannot_even_be_written_is_refused_by_name(site):
    words = """class T(type):
    def __repr__(cls): raise SystemExit(3)

class OpX(metaclass=T): pass
"""
    site.install("acme", modules={"acme_ops": words}, operators=["acme.x = acme_ops:OpX"])
    with pytest.raises(OperatorLoadError, match=r"operator 'acme\.x' .* which is no operator class"):
        PluginManager().get_operator("acme.x")


def test_a_target_that_is_no_operator_is_refused(site):
    site.install("acme", modules={"acme_ops": "OpX = 3"}, operators=["acme.x = acme_ops:OpX"])
    with pytest.raises(OperatorLoadError, match="is 3, which is no operator class"):
        PluginManager().get_operator("acme.x")


def test_a_plugin_that_exits_at_import_does_not_end_the_program(site):
    site.install("acme", modules={"acme_ops": "raise SystemExit(3)"}, operators=["acme.x = acme_ops:OpX"])
    with pytest.raises(OperatorLoadError, match="SystemExit"):
        PluginManager().get_operator("acme.x")


@pytest.mark.parametrize("name", ["good", "acme-good", "ACME_Good"])
def test_a_disabled_plugin_is_not_imported_at_all(good, monkeypatch, name):
    monkeypatch.setenv("LAZYFLOW_DISABLE_PLUGINS", name)
    manager = PluginManager()
    assert manager.operators() == []
    assert manager.readers() == []
    assert [info.state for info in manager.plugins()] == ["disabled"]
    assert good.imported() == set()


def test_an_empty_allow_list_allows_nothing(good, monkeypatch):
    monkeypatch.setenv("LAZYFLOW_PLUGINS", "")
    assert PluginManager().operators() == []
    assert PluginManager(only=["good"]).operators() != []


def test_a_registered_operator_wins_and_needs_permission_to_replace(good):
    class OpMine(Operator):
        pass

    manager = PluginManager()
    with pytest.raises(PluginError, match=r"'good\.pass_on' is taken"):
        manager.register("good.pass_on", OpMine)
    manager.register("good.pass_on", OpMine, replace=True)
    manager.register("mine.new", OpMine)
    assert manager.get_operator("good.pass_on") is OpMine
    assert manager.get_operator("mine.new") is OpMine


@pytest.mark.parametrize("id", ["", "x", "a.b.c", "A.b", "a.", "os:system", "a-b.c"])
def test_an_id_that_is_none_cannot_be_registered(site, id):
    with pytest.raises(PluginError, match="no operator id"):
        PluginManager().register(id, Operator)


def test_an_id_that_was_added_to_an_editable_installation_says_how_to_make_it_known(good, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[project]\nname = "acme"\n'
        '[project.entry-points."lazyflow.operators"]\n"acme.new" = "acme_ops:OpNew"\n'
    )
    good.install("acme", modules={"acme_ops": OPERATOR}, operators=["acme.old = acme_ops:OpPass"])
    (good.folder / "acme-1.0.dist-info" / "direct_url.json").write_text(
        json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}})
    )
    with pytest.raises(UnknownOperatorError) as caught:
        PluginManager().get_operator("acme.new")
    assert str(caught.value) == (
        f"no operator 'acme.new': it stands in the pyproject.toml of {source}, but was not there when that "
        f"was installed. Run: pip install -e {source}"
    )
    with pytest.raises(UnknownOperatorError, match=r"'acme' offers acme\.old"):
        PluginManager().get_operator("acme.other_thing")
