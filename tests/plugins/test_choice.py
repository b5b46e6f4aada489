"""What users decide: allow, deny, prefer; short names; runtime registration; many threads at once."""

import sys
import threading

import pytest

from lazyflow_core.errors import OperatorConflictError, PluginError, UnknownOperatorError
from lazyflow_core.graph import Operator
from lazyflow_core.plugins import Config, PluginManager
from lazyflow_core.request import Request, RequestPool, ThreadedScheduler

from .conftest import OPERATOR, PLUGIN


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("DISABLE_PLUGINS", "goood", "names 'goood', which is not installed; did you mean 'good'?"),
        (
            "DISABLE_PLUGINS",
            "acme-godo",
            "names 'acme-godo', which is not installed; did you mean 'acme-good'?",
        ),
        ("PLUGINS", "good,xyz", "names 'xyz', which is not installed."),
    ],
)
def test_a_plugin_that_is_named_but_not_installed_is_told_once(
    good, monkeypatch, caplog, variable, value, complaint
):
    monkeypatch.setenv(f"LAZYFLOW_{variable}", value)
    manager = PluginManager()
    for _ in range(2):
        manager.operators()
        manager.readers()
    assert [r.getMessage() for r in caplog.records] == [f"lazyflow: LAZYFLOW_{variable} {complaint}"]


def test_allow_and_deny_accept_namespaces_and_distributions_in_any_spelling(good):
    for name in ("good", "acme-good", "Acme_Good", "acme.good"):
        assert PluginManager(disable=[name]).operators() == []
        assert len(PluginManager(only=[name]).operators()) == 1
    assert good.imported() == set()


def test_a_variable_that_cannot_be_understood_says_what_it_should_be(site, monkeypatch):
    monkeypatch.setenv("LAZYFLOW_PREFER", "good.pass_on")
    with pytest.raises(PluginError) as caught:
        PluginManager()
    assert str(caught.value) == "LAZYFLOW_PREFER: 'good.pass_on' does not have the form ID=DISTRIBUTION."


def test_an_environment_variable_gives_way_to_what_code_says(good, monkeypatch):
    monkeypatch.setenv("LAZYFLOW_PLUGINS", "")
    assert PluginManager(Config()).operators()
    assert PluginManager(only=["good"]).operators()


def test_the_name_alone_is_enough_where_one_namespace_has_it(good):
    assert PluginManager().get_operator("pass_on").__module__ == "good_ops"


def test_a_short_name_that_two_namespaces_have_is_refused_with_both(good):
    good.install("b", modules={"b_ops": OPERATOR}, operators=["b.pass_on = b_ops:OpPass"])
    with pytest.raises(UnknownOperatorError) as caught:
        PluginManager().get_operator("pass_on")
    assert (
        str(caught.value) == "'pass_on' is ambiguous: it may be b.pass_on and good.pass_on; give the full id."
    )


def test_a_misspelled_short_name_suggests_the_full_id(good):
    with pytest.raises(UnknownOperatorError, match=r"no operator 'pas_on'; did you mean 'good\.pass_on'\?"):
        PluginManager().get_operator("pas_on")


def test_the_same_entry_point_twice_is_one(good):
    """An editable install next to its own metadata (setuptools#3649)."""
    double = good.folder / "acme_good-1.0.egg-info"
    double.mkdir()
    (double / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: acme-good\nVersion: 1.0\n")
    text = "[lazyflow.operators]\ngood.pass_on = good_ops:OpPass\n[lazyflow.plugins]\ngood = good_plugin\n"
    (double / "entry_points.txt").write_text(text)
    assert len(PluginManager().operators()) == 1
    assert len(PluginManager().plugins()) == 1


def test_three_distributions_with_one_id_are_all_named(good):
    for name in ("b", "c"):
        good.install(name, modules={f"{name}_ops": OPERATOR}, operators=[f"good.pass_on = {name}_ops:OpPass"])
    with pytest.raises(OperatorConflictError) as caught:
        PluginManager().get_operator("good.pass_on")
    assert str(caught.value) == (
        "operator id 'good.pass_on' is provided by three distributions:\n"
        "    acme-good 1.0   good_ops:OpPass\n"
        "    b 1.0           b_ops:OpPass\n"
        "    c 1.0           c_ops:OpPass\n"
        "  choose one:  LAZYFLOW_PREFER=good.pass_on=c   or uninstall the others."
    )


def test_two_readers_with_one_id_are_an_error_at_use_that_names_both(good, tmp_path, monkeypatch):
    other = PLUGIN.replace("good_ops", "other_ops")
    good.install("acme-other", modules={"other_plugin": other}, plugins=["other = other_plugin"])
    path = tmp_path / "x.raw"
    path.write_bytes(b"data")
    with pytest.raises(PluginError) as caught:
        PluginManager().open_reader(str(path))
    assert str(caught.value) == (
        "reader id 'good.raw' is provided by two distributions:\n"
        "    acme-good 1.0    good_ops:open_raw\n"
        "    acme-other 1.0   other_ops:open_raw\n"
        "  choose one:  LAZYFLOW_PREFER=good.raw=acme-other   or uninstall the other."
    )


def test_a_distribution_in_a_namespace_of_another_and_a_malformed_id_are_shown_by_the_doctor(good):
    good.install(
        "guest",
        modules={"guest_ops": OPERATOR},
        operators=["good.more = guest_ops:OpPass", "Guest = guest_ops:OpPass"],
    )
    manager = PluginManager()
    assert [spec.id for spec in manager.operators()] == ["good.more", "good.pass_on"]
    checks = {check.name: check for check in manager.doctor()}
    assert checks["operator good.more"].detail == "guest offers it in the namespace of acme-good"
    assert checks["operator Guest"].ok is False


def test_requirements_that_are_not_met_are_shown_by_the_doctor(good):
    pytest.importorskip("packaging")
    metadata = good.folder / "acme_good-1.0.dist-info" / "METADATA"
    needs = ["pluggy>=1", "numpy>=1; extra == 'x'", "pluggy>=99", "surely-not-installed"]
    metadata.write_text(metadata.read_text() + "".join(f"Requires-Dist: {need}\n" for need in needs))
    found = [c for c in PluginManager().doctor() if c.name == "requirements of acme-good"]
    assert [check.hint for check in found] == [
        "pip install 'pluggy>=99'",
        "pip install 'surely-not-installed'",
    ]
    assert found[1].detail == "it needs surely-not-installed, but surely-not-installed is not installed"


def test_a_distribution_that_is_hidden_by_another_copy_is_shown_by_the_doctor(good, tmp_path, monkeypatch):
    info = tmp_path / "elsewhere" / "acme_good-0.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-good\nVersion: 0.9\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(info.parent)])
    (check,) = [c for c in PluginManager().doctor() if c.name == "copies of acme-good"]
    assert check.ok is None
    assert check.detail == f"1.0 in {good.folder / info.name.replace('0.9', '1.0')} hides 0.9 in {info}"


def test_without_packaging_the_doctor_says_that_it_compared_nothing(good, monkeypatch):
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    (check,) = [c for c in PluginManager().doctor() if "requirements" in c.name]
    assert (check.ok, check.hint) == (None, "pip install 'lazyflow-core[doctor]'")


def test_operators_that_exist_at_run_time_are_found_when_no_entry_point_has_the_id(good):
    code = """
        from lazyflow_core.plugins import OperatorSpec, hookimpl

        LAZYFLOW_API = (1, 0)

        @hookimpl
        def lazyflow_operator_specs():
            return [OperatorSpec("many.blur", "good_ops:OpPass", "many", "1.0")]
    """
    good.install("many", modules={"many_plugin": code}, plugins=["many = many_plugin"])
    manager = PluginManager()
    assert [spec.id for spec in manager.operators()] == ["good.pass_on"]
    assert manager.get_operator("good.pass_on")
    assert "many_plugin" not in good.imported()
    assert manager.get_operator("many.blur").__name__ == "OpPass"
    assert [spec.id for spec in manager.operators(dynamic=True)] == ["good.pass_on", "many.blur"]


COUNTING = """
    import builtins
    import time

    from lazyflow_core import InputSlot, Operator, OutputSlot

    builtins.loaded_by_the_tests.append(1)
    time.sleep(0)

    class OpPass(Operator):
        image = InputSlot()
        output = OutputSlot()
"""


@pytest.fixture
def counted(site, monkeypatch):
    import builtins

    loaded = []
    monkeypatch.setattr(builtins, "loaded_by_the_tests", loaded, raising=False)
    site.install("counted", modules={"counted_ops": COUNTING}, operators=["counted.x = counted_ops:OpPass"])
    return loaded


def test_sixteen_threads_that_want_one_operator_import_it_once(counted):
    manager = PluginManager()
    start = threading.Barrier(16)
    got = []

    def get():
        start.wait(10)
        got.append(manager.get_operator("counted.x"))

    threads = [threading.Thread(target=get) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(got) == 16
    assert len(set(got)) == 1
    assert counted == [1]


@pytest.mark.parametrize("workers", [1, 2])
def test_requests_that_want_one_operator_do_not_lock_each_other_out(counted, workers):
    manager = PluginManager()
    with ThreadedScheduler(workers) as scheduler:

        def parent():
            with RequestPool() as pool:
                for _ in range(16):
                    pool.submit(lambda: manager.get_operator("counted.x"))
                manager.get_operator("counted.x")

        Request(parent, scheduler=scheduler).submit().wait(10)
    assert counted == [1]


def test_a_module_that_computes_while_it_is_imported_is_imported_once(site):
    """The request that imports is suspended in the middle, another one wants the same module meanwhile."""
    code = """
        from lazyflow_core import InputSlot, Operator, OutputSlot
        from lazyflow_core.request import Request, gather

        assert gather(*[Request(lambda k=k: k) for k in range(3)]) == [0, 1, 2]

        class OpPass(Operator):
            image = InputSlot()
            output = OutputSlot()
    """
    site.install("slow", modules={"slow_ops": code}, operators=["slow.x = slow_ops:OpPass"])
    manager = PluginManager()
    with ThreadedScheduler(1) as scheduler:
        requests = [
            Request(lambda: manager.get_operator("slow.x"), scheduler=scheduler).submit() for _ in range(8)
        ]
        assert len({request.wait(10) for request in requests}) == 1


def test_sixteen_threads_that_call_the_first_hook_load_plugins_once(good):
    manager = PluginManager()
    start = threading.Barrier(16)
    got = []

    def ask():
        start.wait(10)
        got.append([spec.id for spec in manager.readers()])

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert got == [["good.raw"]] * 16


def test_a_manager_without_discovery_knows_what_is_registered_only(good):
    class OpMine(Operator):
        pass

    manager = PluginManager(discover=False)
    assert manager.operators() == []
    assert manager.readers() == []
    manager.register("mine.x", OpMine)
    assert manager.get_operator("mine.x") is OpMine
    assert good.imported() == set()
