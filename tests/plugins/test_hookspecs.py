"""Each hook: who is asked, when, and what becomes of a bad answer."""

import types
from pathlib import Path

import pytest

from lazyflow_core.errors import PluginError
from lazyflow_core.graph import Graph
from lazyflow_core.plugins import PluginManager, ReaderSpec, discovery, hookimpl, hookspec
from lazyflow_core.plugins.hookspecs import HookSpecs
from lazyflow_core.request import Request, ThreadedScheduler
from lazyflow_core.roi import Roi

from .conftest import PLUGIN


@pytest.fixture
def manager(site):
    return PluginManager(discover=False)


def plugin(**hooks):
    """An object whose functions are hook implementations."""
    return types.SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def raising(*_):
    raise RuntimeError("no disk")


def nothing():
    return []


def test_every_hook_has_a_docstring():
    hooks = [name for name in vars(HookSpecs) if name.startswith("lazyflow_")]
    assert len(hooks) == 11
    assert all(getattr(HookSpecs, name).__doc__ for name in hooks)


def test_plugins_are_configured_once_and_let_go_at_the_end(manager):
    seen = []
    manager.register_plugin(
        plugin(
            lazyflow_configure=lambda config: seen.append(("begin", config)),
            lazyflow_unconfigure=lambda config: seen.append(("end", config)),
        ),
        "mine",
    )
    assert seen == []
    manager.readers()
    manager.writers()
    manager.close()
    manager.close()
    assert seen == [("begin", manager.config), ("end", manager.config)]


def test_an_implementation_may_take_fewer_arguments(manager):
    manager.register_plugin(plugin(lazyflow_configure=lambda: None), "mine")
    assert manager.readers() == []
    assert manager.plugins()[0].hooks == ("lazyflow_configure",)


@pytest.mark.parametrize("hook", ["lazyflow_reader_specs", "lazyflow_writer_specs", "lazyflow_doctor"])
def test_a_hook_that_raises_is_told_once_and_harms_no_other(manager, caplog, hook):
    manager.register_plugin(plugin(**{hook: raising}), "bad")
    manager.register_plugin(plugin(lazyflow_reader_specs=lambda: [ReaderSpec("ok.raw", "x:y")]), "ok")
    for _ in range(2):
        manager.writers()
        manager.doctor()
        assert [spec.id for spec in manager.readers()] == ["ok.raw"]
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"lazyflow: plugin 'bad': {hook} failed: RuntimeError: no disk"]


def test_a_generator_that_raises_in_the_middle_counts_as_no_answer(manager, caplog):
    def specs():
        yield ReaderSpec("bad.raw", "x:y")
        raise RuntimeError("no disk")

    manager.register_plugin(plugin(lazyflow_reader_specs=specs), "bad")
    assert manager.readers() == []
    assert len(caplog.records) == 1


def test_an_answer_of_another_type_is_told_and_dropped(manager, caplog):
    manager.register_plugin(plugin(lazyflow_reader_specs=lambda: ["*.raw"]), "bad")
    assert manager.readers() == []
    assert caplog.records[0].getMessage() == (
        "lazyflow: plugin 'bad': lazyflow_reader_specs gave '*.raw', which is no ReaderSpec."
    )


def test_in_strict_mode_a_hook_that_raises_is_an_error(site):
    manager = PluginManager(discover=False, strict=True)
    manager.register_plugin(plugin(lazyflow_reader_specs=raising), "bad")
    with pytest.raises(
        PluginError, match="plugin 'bad': lazyflow_reader_specs failed: RuntimeError: no disk"
    ):
        manager.readers()


# ---------------------------------------------------------------------------------------------- registration


def test_a_plugin_is_registered_whole_or_not_at_all(manager):
    """pluggy keeps the hooks it had registered when it met a bad one (_manager.py, register)."""
    bad = plugin(
        lazyflow_reader_specs=lambda: [ReaderSpec("bad.raw", "x:y")], lazyflow_writer_specs=lambda x: []
    )
    assert manager.readers() == []
    with pytest.raises(Exception, match="writer_specs"):
        manager.register_plugin(bad, "bad")
    assert manager.readers() == []
    assert manager.plugins() == []


def test_a_hook_that_nobody_asks_breaks_a_plugin_with_the_nearest_name(manager):
    manager.readers()
    with pytest.raises(PluginError) as caught:
        manager.register_plugin(plugin(lazyflow_reader_spec=nothing), "bad")
    assert str(caught.value) == (
        "it implements the hook 'lazyflow_reader_spec', which nobody asks; "
        "did you mean 'lazyflow_reader_specs'?"
    )


def test_a_plugin_that_cannot_be_registered_harms_nobody_who_asks(manager, caplog):
    manager.register_plugin(plugin(lazyflow_reader_spec=nothing), "bad")
    manager.register_plugin(plugin(lazyflow_reader_specs=lambda: [ReaderSpec("ok.raw", "x:y")]), "ok")
    for _ in range(2):
        assert [spec.id for spec in manager.readers()] == ["ok.raw"]
    assert [record.getMessage() for record in caplog.records] == [
        "lazyflow: plugin 'bad': it is not used: PluginError: it implements the hook 'lazyflow_reader_spec', "
        "which nobody asks; did you mean 'lazyflow_reader_specs'?"
    ]


def test_an_optional_hook_of_somebody_who_is_not_there_is_fine(manager):
    mine = types.SimpleNamespace(acme_colors=hookimpl(optionalhook=True)(nothing))
    manager.register_plugin(mine, "mine")
    manager.readers()
    assert [info.state for info in manager.plugins()] == ["loaded"]


def test_a_plugin_may_come_at_any_time_and_is_asked_from_then_on(manager):
    configured = []
    with Graph():
        assert manager.readers() == []
        late = plugin(
            lazyflow_configure=lambda config: configured.append(config),
            lazyflow_reader_specs=lambda: [ReaderSpec("late.raw", "x:y")],
        )
        manager.register_plugin(late, "late")
        assert [spec.id for spec in manager.readers()] == ["late.raw"]
    assert configured == [manager.config]


@pytest.mark.parametrize("namespace", ["core", "lazyflow"])
def test_reserved_namespaces_belong_to_nobody(manager, namespace):
    with pytest.raises(PluginError, match="is reserved"):
        manager.register_plugin(plugin(), namespace)


def test_two_plugins_of_one_namespace_are_refused(manager):
    manager.register_plugin(plugin(), "mine")
    with pytest.raises(PluginError, match="'mine' belongs to another plugin already"):
        manager.register_plugin(plugin(), "mine")


def test_two_distributions_with_one_namespace_break_the_second_only(good, caplog):
    code = "LAZYFLOW_API = (1, 0)"
    good.install("zz-good", modules={"zz_plugin": code}, plugins=["good = zz_plugin"])
    manager = PluginManager()
    assert [spec.id for spec in manager.readers()] == ["good.raw"]
    assert "the namespace 'good' belongs to acme-good" in caplog.text
    assert "LAZYFLOW_DISABLE_PLUGINS=zz-good to silence this" in caplog.text
    states = {info.distribution: info.state for info in manager.plugins()}
    assert states == {"acme-good": "loaded", "zz-good": "broken"}


# ------------------------------------------------------------------------------------------------ own hooks

OWNER = """
    from lazyflow_core.plugins import hookimpl, hookspec

    LAZYFLOW_API = (1, 0)

    class Specs:
        @hookspec
        def {name}(self): "Color tables."

    @hookimpl
    def lazyflow_add_hookspecs(add):
        add(Specs)
"""
USER = """
    from lazyflow_core.plugins import hookimpl

    LAZYFLOW_API = (1, 0)

    @hookimpl
    def owner_colors():
        return ["jet"]
"""


def test_a_plugin_may_add_hooks_that_others_implement(site):
    # In the order of names the user of the hook comes first.
    site.install("a", modules={"a_plugin": USER}, plugins=["a = a_plugin"])
    site.install(
        "owner", modules={"o_plugin": OWNER.format(name="owner_colors")}, plugins=["owner = o_plugin"]
    )
    assert PluginManager().hook.owner_colors() == [["jet"]]


def test_added_hooks_begin_with_the_namespace(site, caplog):
    site.install("owner", modules={"o_plugin": OWNER.format(name="colors")}, plugins=["owner = o_plugin"])
    PluginManager().readers()
    assert "the hook 'colors' has to be called owner_" in caplog.text


class Owner:
    """Offers a hook and asks it; to be registered when the process runs."""

    @hookspec(firstresult=True)
    def owner_color(self, name):
        """A color, or None."""

    @hookimpl
    def lazyflow_add_hookspecs(self, add):
        add(Owner)


@pytest.mark.parametrize("loaded", [False, True], ids=["before any hook is asked", "later"])
@pytest.mark.parametrize("order", [["a", "owner", "z"], ["z", "a", "owner"], ["owner", "a", "z"]])
def test_the_order_of_registration_does_not_decide_who_may_use_an_added_hook(manager, order, loaded):
    plugins = {"a": plugin(owner_color=lambda: None), "z": plugin(owner_color=lambda name: f"red {name}")}
    if loaded:
        manager.readers()
    for name in order:
        manager.register_plugin(plugins.get(name, Owner()), name)
    assert manager.hook.owner_color(name="one") == "red one"
    assert manager.ask(Owner.owner_color, str, name="one") == "red one"
    assert "owner_color" in manager.hook_names()


@pytest.mark.parametrize(
    ("installed", "hint"),
    [(None, "pip install lazyflow-ops-cache"), ("0.1", "install or enable the plugin that offers it")],
)
def test_a_hook_whose_owner_is_not_there_is_a_note_of_the_doctor_and_the_rest_works(
    manager, monkeypatch, installed, hint
):
    monkeypatch.setattr(discovery, "version_of", lambda name: installed)
    readers = {"lazyflow_reader_specs": lambda: [ReaderSpec("a.raw", "types:SimpleNamespace")]}
    manager.register_plugin(plugin(**readers, cache_policy=nothing, acme_color=nothing), "a")
    assert [spec.id for spec in manager.readers()] == ["a.raw"]
    assert manager.ask(Owner.owner_color, str, name="one") is None
    notes = [(c.ok, c.detail, c.hint) for c in manager.doctor() if c.name == "hooks of a"]
    assert notes == [
        (None, "no plugin here asks for its 'acme_color'", "install or enable the plugin that offers it"),
        (None, "no plugin here asks for its 'cache_policy'", hint),
    ]
    assert "acme_color" not in manager.hook_names()


def test_a_misspelt_hook_of_an_owner_who_is_there_breaks_the_plugin_with_the_nearest_name(manager, caplog):
    manager.register_plugin(plugin(owner_colour=nothing), "a")
    manager.register_plugin(Owner(), "owner")
    manager.readers()
    assert [record.getMessage() for record in caplog.records] == [
        "lazyflow: plugin 'a': it is not used: PluginError: it implements the hook 'owner_colour', which "
        "nobody asks; did you mean 'owner_color'?"
    ]
    assert [info.namespace for info in manager.plugins()] == ["owner"]


def test_an_argument_that_an_added_hook_does_not_have_breaks_who_takes_it(site, caplog):
    user = USER.replace("owner_colors()", "owner_colors(size)")
    site.install("a", modules={"a_plugin": user}, plugins=["a = a_plugin"])
    site.install(
        "owner", modules={"o_plugin": OWNER.format(name="owner_colors")}, plugins=["owner = o_plugin"]
    )
    manager = PluginManager()
    assert manager.hook.owner_colors() == []
    assert {info.namespace: info.state for info in manager.plugins()} == {"a": "broken", "owner": "loaded"}
    assert "size" in caplog.text


def test_the_first_plugin_with_an_opinion_answers_and_one_that_raises_harms_none(manager, caplog):
    manager.register_plugin(Owner(), "owner")
    manager.register_plugin(plugin(owner_color=raising), "a")
    manager.register_plugin(plugin(owner_color=lambda: None), "b")
    manager.register_plugin(plugin(owner_color=lambda name: name), "c")
    assert manager.ask(Owner.owner_color, str, name="red") == "red"
    assert "plugin 'a': owner_color failed: RuntimeError: no disk" in caplog.text


def test_an_answer_to_an_added_hook_of_another_type_is_told_and_dropped(manager, caplog):
    manager.register_plugin(Owner(), "owner")
    manager.register_plugin(plugin(owner_color=lambda: 7), "bad")
    assert manager.ask(Owner.owner_color, str, name="red") is None
    assert "plugin 'bad': it returned 7, which is no str." in caplog.text


# ------------------------------------------------------------------------------------------- choosing readers


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "image.raw"
    path.write_bytes(b"MAGIC....")
    return str(path)


def two_readers():
    return [
        ReaderSpec("a.raw", "x:y", patterns=("*.raw",), magic=((0, b"MAGIC"),)),
        ReaderSpec("b.raw", "x:y", patterns=("*.raw",)),
    ]


def test_a_plugin_may_select_among_the_readers_that_claim_a_file(manager, path):
    asked = []

    def select(path, candidates):
        asked.append((path, candidates))
        return candidates[1]

    manager.register_plugin(plugin(lazyflow_reader_specs=two_readers), "two")
    manager.register_plugin(plugin(lazyflow_select_reader=select), "judge")
    first = manager.explain_reader(path)[0]
    assert (first.spec.id, first.reason) == ("b.raw", "plugin 'judge' selects it")
    assert asked == [(path, ("a.raw", "b.raw"))]


@pytest.mark.parametrize("answer", [None, "c.raw"])
def test_no_opinion_or_one_that_is_no_candidate_leaves_the_ranking(manager, path, answer, caplog):
    manager.register_plugin(plugin(lazyflow_reader_specs=two_readers), "two")
    manager.register_plugin(plugin(lazyflow_select_reader=lambda candidates: answer), "judge")
    assert manager.explain_reader(path)[0].spec.id == "a.raw"
    assert len(caplog.records) == (answer is not None)


def test_the_users_configuration_beats_plugins(site, path, monkeypatch):
    monkeypatch.setenv("LAZYFLOW_READERS", "*.raw=b.raw")
    manager = PluginManager(discover=False)
    manager.register_plugin(plugin(lazyflow_reader_specs=two_readers), "two")
    manager.register_plugin(plugin(lazyflow_select_reader=lambda candidates: "a.raw"), "judge")
    first = manager.explain_reader(path)[0]
    assert (first.spec.id, first.reason) == ("b.raw", "your configuration says *.raw=b.raw")


def test_a_configured_reader_that_is_not_installed_is_an_error(site, path, monkeypatch):
    monkeypatch.setenv("LAZYFLOW_READERS", "*.raw=c.raw")
    manager = PluginManager(discover=False)
    manager.register_plugin(plugin(lazyflow_reader_specs=two_readers), "two")
    with pytest.raises(PluginError, match=r"says \*\.raw=c\.raw, but no plugin is installed that offers it"):
        manager.explain_reader(path)


OPEN = """
    import numpy as np
    from lazyflow_core.meta import ArrayMeta

    def open_raw(path, *, dataset=None):
        return Raw()

    class Raw:
        meta = ArrayMeta((2, 3), "uint8", extra={"good.camera": 7})
        comment = "of its own"
        is_closed = False

        def read(self, roi, out):
            out[...] = 5

        def close(self):
            self.is_closed = True
"""


def test_what_was_opened_says_which_reader_of_which_distribution_opened_it(site, path):
    import numpy as np

    modules = {"good_ops": OPEN, "good_plugin": PLUGIN}
    site.install("acme-good", modules=modules, plugins=["good = good_plugin"])
    with PluginManager().open_reader(Path(path)) as reader:
        assert dict(reader.meta.extra) == {
            "good.camera": 7,
            "lazyflow.reader": "good.raw (acme-good 1.0)",
        }
        out = np.zeros((1, 2), np.uint8)
        reader.read(Roi((0, 1), (1, 3)), out)
        assert (out.tolist(), reader.comment) == ([[5, 5]], "of its own")
    assert reader.is_closed
    assert [(v.spec.id, v.origin) for v in PluginManager().explain_reader(path)] == [
        ("good.raw", "acme-good 1.0")
    ]


def test_a_reader_whose_module_is_missing_names_reader_and_target(manager, path):
    spec = ReaderSpec("a.raw", "module_that_is_missing:open", patterns=("*.raw",))
    manager.register_plugin(plugin(lazyflow_reader_specs=lambda: [spec]), "a")
    with pytest.raises(PluginError) as caught:
        manager.open_reader(path)
    assert str(caught.value) == (
        "'a.raw' (module_that_is_missing:open) could not be imported: "
        "ModuleNotFoundError: No module named 'module_that_is_missing'"
    )


# ------------------------------------------------------------------------------------------------ observers


class Counter:
    def __init__(self):
        self.started = 0

    def request_started(self, request):
        self.started += 1


class Broken(Counter):
    def request_started(self, request):
        super().request_started(request)
        raise RuntimeError("no paper")


def test_observers_of_plugins_watch_requests_and_one_that_raises_fails_none(manager, caplog):
    counter, broken = Counter(), Broken()
    manager.register_plugin(plugin(lazyflow_request_observer=lambda: broken), "broken")
    manager.register_plugin(plugin(lazyflow_request_observer=lambda: counter), "counting")
    manager.register_plugin(plugin(lazyflow_request_observer=lambda: None), "silent")
    with ThreadedScheduler(1, observers=manager.request_observers()) as scheduler:
        requests = [Request(lambda k=k: k, scheduler=scheduler).submit() for k in range(5)]
        assert [request.wait(10) for request in requests] == list(range(5))
    assert (counter.started, broken.started) == (5, 1)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["the request observer of plugin 'broken' is silenced: RuntimeError: no paper"]


def test_without_an_observer_a_scheduler_has_none(manager):
    assert manager.request_observers() == ()


def test_hookspec_is_the_marker_for_hooks_of_ones_own():
    assert hookspec.project_name == "lazyflow"
