"""However the import of a plugin ends, it is named, and others do not pay for it."""

import functools
import logging
import os
import signal
import sys
import threading

import pytest

from lazyflow_core.errors import CancelledError, OperatorLoadError, PluginError
from lazyflow_core.plugins import PluginManager, loading, set_default
from lazyflow_core.plugins.probe import probe

from .conftest import OPERATOR, PLUGIN

ENDINGS = {
    "exit": "import sys; sys.exit()",
    "a raised Ctrl-C": "raise KeyboardInterrupt",
    "a raised Ctrl-C, deeper": "def f():\n    raise KeyboardInterrupt()\n\nf()",
    "GeneratorExit": "raise GeneratorExit",
    "GreenletExit": "import greenlet; raise greenlet.GreenletExit",
    "a class of its own": "class Gone(BaseException): pass\nraise Gone('x')",
    "an error without words": ("class Mute(Exception):\n    def __str__(self): raise SystemExit\nraise Mute"),
    "recursion": "def f(): f()\nf()",
    "a level that exits": "def __getattr__(name): raise SystemExit(4)",
    "bytes that are no source": "x = 1\0",
}


@pytest.mark.parametrize("code", ENDINGS.values(), ids=ENDINGS)
def test_a_light_module_that_ends_however_leaves_the_others_usable(good, caplog, code):
    good.install("acme", modules={"acme_plugin": code}, plugins=["acme = acme_plugin"])
    manager = PluginManager()
    assert [spec.id for spec in manager.readers()] == ["good.raw"]
    states = {info.namespace: info.state for info in manager.plugins()}
    assert states == {"acme": "broken", "good": "loaded"}
    (record,) = caplog.records
    assert "plugin 'acme' (acme 1.0) is disabled: " in record.getMessage()


@pytest.mark.parametrize("code", ENDINGS.values(), ids=ENDINGS)
def test_an_operator_that_ends_however_is_an_error_that_names_it(good, code):
    good.install("acme", modules={"acme_ops": code}, operators=["acme.x = acme_ops:OpX"])
    with pytest.raises(OperatorLoadError, match=r"operator 'acme\.x' \(acme 1\.0, acme_ops:OpX\)"):
        PluginManager().get_operator("acme.x")
    assert PluginManager().get_operator("good.pass_on")


HOOKS = ["raise KeyboardInterrupt", "raise GeneratorExit", "import sys; sys.exit(3)"]


@pytest.mark.parametrize("code", HOOKS)
def test_a_hook_that_ends_however_leaves_the_others_usable_and_the_doctor_knows(good, code):
    plugin = PLUGIN.replace("return [", f"{code}\n        return [")
    good.install("acme", modules={"acme_plugin": plugin}, plugins=["acme = acme_plugin"])
    manager = PluginManager()
    assert [spec.id for spec in manager.readers()] == ["good.raw"]
    check = {check.name: check for check in manager.doctor()}["hooks of acme"]
    assert check.ok is False
    assert "lazyflow_reader_specs failed" in check.detail


@pytest.mark.parametrize("code", HOOKS)
def test_an_observer_that_raises_whatever_is_silenced(good, code):
    observer = f"""
    from lazyflow_core.plugins import hookimpl

    LAZYFLOW_API = (1, 0)

    class Observer:
        def request_started(self, request):
            {code}

    @hookimpl
    def lazyflow_request_observer():
        return Observer()
    """
    good.install("acme", modules={"acme_plugin": observer}, plugins=["acme = acme_plugin"])
    (guarded,) = PluginManager().request_observers()
    guarded.request_started(None)
    guarded.request_started(None)


# ------------------------------------------------------------------------------- what is not the plugin's


@pytest.fixture
def ctrl_c():
    """The handler that Python has."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_by(handler=None):
    if handler is not None:
        signal.signal(signal.SIGINT, handler)
    signal.raise_signal(signal.SIGINT)


def raise_interrupt(number, frame):
    raise KeyboardInterrupt


class Asyncio:
    def stop(self, number, frame, task):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "handler",
    [None, raise_interrupt, functools.partial(Asyncio().stop, task=None)],
    ids=["C", "def", "partial"],
)
def test_a_real_ctrl_c_during_an_import_is_heard(good, monkeypatch, ctrl_c, handler):
    monkeypatch.setattr(sys, "interrupt_by", functools.partial(interrupt_by, handler), raising=False)
    code = "import sys\nsys.interrupt_by()\nfor _ in range(10**6): pass"
    good.install("acme", modules={"acme_plugin": code}, plugins=["acme = acme_plugin"])
    with pytest.raises(KeyboardInterrupt):
        PluginManager().readers()
    monkeypatch.setattr(sys, "interrupt_by", lambda: None)
    assert [spec.id for spec in PluginManager().readers()] == ["good.raw"]


def test_a_request_that_is_cancelled_during_an_import_is_cancelled(good, monkeypatch):
    monkeypatch.setattr(sys, "cancelled", CancelledError, raising=False)
    code = "import sys\nraise sys.cancelled()"
    good.install("acme", modules={"acme_ops": code}, operators=["acme.x = acme_ops:OpX"])
    with pytest.raises(CancelledError):
        PluginManager().get_operator("acme.x")


# ------------------------------------------------------------------------------------------ slow or gone


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_slow_import_is_named_while_it_lasts_earlier_on_a_terminal(good, monkeypatch, is_terminal):
    heard = threading.Event()
    records = []

    class Listener(logging.Handler):
        def emit(self, record):
            records.append(record.getMessage())
            heard.set()

    patience = (0.0, 1000.0) if is_terminal else (1000.0, 0.0)
    monkeypatch.setattr(loading, "_PATIENCE_S", patience)
    monkeypatch.setattr(loading, "_is_terminal", lambda: is_terminal)
    monkeypatch.setattr(sys, "heard", heard, raising=False)
    listener = Listener()
    logging.getLogger("lazyflow_core").addHandler(listener)
    code = "import sys\nassert sys.heard.wait(60)\n" + OPERATOR.replace("\n    ", "\n")
    good.install("acme", modules={"acme_ops": code}, operators=["acme.x = acme_ops:OpPass"])
    try:
        assert PluginManager(only=["acme"]).get_operator("acme.x")
    finally:
        logging.getLogger("lazyflow_core").removeHandler(listener)
    assert records == [
        "lazyflow: operator 'acme.x' (acme 1.0, acme_ops:OpPass): importing acme_ops has taken more than 0 s "
        "and goes on."
    ]


def test_an_import_that_moves_the_process_or_takes_its_streams_is_undone_and_named(good, caplog):
    code = "import os, sys\nos.chdir('/')\nsys.stdout = sys.stderr = None\nLAZYFLOW_API = (1, 0)\n"
    good.install("acme", modules={"acme_plugin": code}, plugins=["acme = acme_plugin"])
    folder, streams = os.getcwd(), (sys.stdout, sys.stderr)
    manager = PluginManager()
    assert [spec.id for spec in manager.readers()] == ["good.raw"]
    assert (os.getcwd(), (sys.stdout, sys.stderr)) == (folder, streams)
    assert caplog.messages == [
        "lazyflow: plugin 'acme' (acme 1.0): importing acme_plugin changed sys.stdout and sys.stderr and the "
        "working directory, which was undone."
    ]
    assert {info.namespace: info.state for info in manager.plugins()} == {"acme": "loaded", "good": "loaded"}


def test_an_import_that_does_not_come_back_is_told_from_one_that_raises(good):
    good.install(
        "acme",
        modules={
            "acme_leaves": "import os; os._exit(7)",
            "acme_raises": "1 / 0",
            "acme_hangs": "import threading; threading.Event().wait()",
            "acme_stays": "import threading; threading.Thread(target=threading.Event().wait).start()",
        },
    )
    modules = ["acme_raises", "acme_leaves", "acme_hangs", "acme_stays"]
    assert probe(modules, 2.0) == {
        "acme_leaves": "leaves the process, with exit code 7",
        "acme_hangs": "does not end within 2 s",
    }
    assert not good.imported()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_an_import_that_crashes_is_named_by_its_signal(good):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    good.install("acme", modules={"acme_crashes": code})
    assert probe(["acme_crashes"], 60.0) == {"acme_crashes": "crashes the process: SIGSEGV"}


def test_the_doctor_names_what_leaves_the_process_and_stays(good, monkeypatch):
    monkeypatch.setattr(loading, "_refused", {})
    good.install(
        "acme",
        modules={"acme_plugin": "import os; os._exit(0)", "acme_ops": "import os; os._exit(0)"},
        plugins=["acme = acme_plugin"],
        operators=["acme.x = acme_ops:OpX"],
    )
    manager = PluginManager()
    check = {check.name: check for check in manager.doctor()}["plugin acme"]
    assert check.ok is False
    assert "importing acme_plugin leaves the process, with exit code 0" in check.detail
    with pytest.raises(OperatorLoadError, match="leaves the process"):
        manager.get_operator("acme.x")
    assert manager.get_operator("good.pass_on")


# ------------------------------------------------------------------------------ a namespace of this project


def test_who_claims_a_namespace_of_this_project_does_not_switch_its_owner_off(site, caplog):
    reader = PLUGIN.replace("good.raw", "filters.raw")
    site.install(
        "lazyflow-ops-filters",
        modules={"ours_plugin": reader, "ours_ops": OPERATOR},
        plugins=["filters = ours_plugin"],
        operators=["filters.smooth = ours_ops:OpPass"],
    )
    site.install("acme", modules={"acme_plugin": "LAZYFLOW_API = (1, 0)"}, plugins=["filters = acme_plugin"])
    manager = PluginManager()
    assert [spec.id for spec in manager.readers()] == ["filters.raw"]
    assert manager.get_operator("filters.smooth")
    states = {info.distribution: info.state for info in manager.plugins()}
    assert states == {"lazyflow-ops-filters": "loaded", "acme": "broken"}
    assert "the namespace 'filters' belongs to lazyflow-ops-filters" in caplog.text
    assert "LAZYFLOW_DISABLE_PLUGINS=acme to silence" in caplog.text


# ---------------------------------------------------------------------------------------- readers that fail


@pytest.mark.parametrize(
    ("fails", "error", "says"),
    [
        (
            "open",
            PluginError,
            "{path}: good.raw (acme-good 1.0) failed: ZeroDivisionError: division by zero.",
        ),
        (
            "read",
            PluginError,
            "{path}: good.raw (acme-good 1.0) failed: ZeroDivisionError: division by zero.",
        ),
        ("meta", PluginError, "{path}: good.raw (acme-good 1.0) failed: AttributeError: "),
        ("disk", OSError, "{path}: good.raw (acme-good 1.0) cannot read it: FileNotFoundError: gone."),
    ],
)
def test_what_a_reader_raises_names_file_reader_and_plugin(site, tmp_path, fails, error, says):
    code = f"""
    from lazyflow_core import ArrayMeta

    class open_raw:
        meta = {"3" if fails == "meta" else "ArrayMeta((2, 2), 'uint8')"}

        def __init__(self, path, *, dataset):
            if {fails == "open"}:
                1 / 0
            if {fails == "disk"}:
                raise FileNotFoundError("gone")

        def read(self, roi, out):
            1 / 0

        def close(self):
            pass
    """
    site.install(
        "acme-good", modules={"good_ops": code, "good_plugin": PLUGIN}, plugins=["good = good_plugin"]
    )
    path = tmp_path / "x.raw"
    path.write_bytes(b"abcd")
    with pytest.raises(error) as caught:
        PluginManager().open_reader(path).read(None, None)
    assert str(caught.value).startswith(says.format(path=path))


def test_the_doctor_imports_what_reads_and_writes(good):
    checks = {check.name: check for check in PluginManager().doctor()}
    assert checks["reader good.raw"].ok is False
    assert "has no attribute 'open_raw'" in checks["reader good.raw"].detail
    assert checks["readers and writers"].detail == "0 of 1 can be imported"


def test_a_light_module_may_ask_for_an_operator_of_its_own(good):
    light = "from lazyflow_core import get_operator\nOpX = get_operator('acme.x')\nLAZYFLOW_API = (1, 0)\n"
    good.install(
        "acme",
        modules={"acme_plugin": light, "acme_ops": OPERATOR},
        plugins=["acme = acme_plugin"],
        operators=["acme.x = acme_ops:OpPass"],
    )
    default = PluginManager()
    set_default(default)
    try:
        assert default.get_operator("acme.x") is sys.modules["acme_plugin"].OpX
    finally:
        set_default(None)
