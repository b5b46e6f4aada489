"""The command as a process: signals, pipes, and what it does not import."""

import signal
import sys

import pytest

LIGHT = ("numpy", "rich", "PIL", "lazyflow_of_tests")


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """A shell's background jobs ignore Ctrl-C, and so would their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def imported_by(start, *arguments, folder):
    """Return the modules in `LIGHT` that a command line imports."""
    code = (
        "import sys\n"
        "from lazyflow_cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        f"finally:\n    print(sorted(set({LIGHT!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    process = start(*arguments, python=("-c", code), cwd=folder)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["operators", "list"]])
def test_light_commands_import_neither_numpy_nor_plugins(start, folder, arguments):
    code, out, imported = imported_by(start, *arguments, folder=folder)
    assert (code, imported) == (0, "[]")
    assert out


def test_a_process_answers_like_the_function(start, folder):
    process = start("run", "p.toml", "--set", "scale.factor=0", cwd=folder)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "lazyflow: p.toml, override scale.factor: factor: 0 is zero.\n"


def gated(start, folder, operator="test.gate"):
    """Start a run that stands in the middle of a block, and return the process."""
    (folder / "scaled.npy").write_text("precious")
    process = start(
        "run",
        "p.toml",
        *("--memory", "20000", "--overwrite"),  # one plane at a time
        *("--set", f"scale.operator={operator}"),
        cwd=folder,
    )
    for line in process.stderr:
        if "at the gate" in line:
            return process
    raise AssertionError(f"the run ended with {process.wait()} before its gate")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_stops_the_run_and_leaves_nothing_behind(start, folder, name, code):
    process = gated(start, folder)
    process.send_signal(getattr(signal, name))
    # The other worker may reach its gate at any time.
    lines = [line for line in process.stderr.read().splitlines() if line != "at the gate"]
    assert (process.wait(timeout=10), process.stdout.read()) == (code, "")
    assert lines[-2:] == [
        "stopping; again to leave at once",
        f"lazyflow: stopped by {name}; nothing was written.",
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["p.toml", "scaled.npy", "volume.npy"]
    assert (folder / "scaled.npy").read_text() == "precious"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_who_asks_twice_is_let_go_at_once(start, folder):
    process = gated(start, folder, "test.stuck")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) in (130, 143)  # which of the two is seen first is up to the system
    assert (folder / "scaled.npy").read_text() == "precious"
    assert sorted(path.name for path in folder.iterdir()) == ["p.toml", "scaled.npy", "volume.npy"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize(
    "module", ["lazyflow_cli.main", "click", "lazyflow_cli._single", "lazyflow_core.pipeline"]
)
def test_a_signal_while_the_command_is_imported_ends_in_one_sentence(start, folder, name, code, module):
    program = (
        "import builtins, os, signal\n"
        "import lazyflow_cli.__main__ as command\n"
        "real = builtins.__import__\n"
        "def stop_at(name, *rest):\n"
        f"    if name == {module!r}:\n"
        "        builtins.__import__ = real\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = stop_at\n"
        "command.main()\n"
    )
    process = start("run", "p.toml", python=("-c", program), cwd=folder)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert err in (
        f"lazyflow: stopped by {name}.\n",
        f"stopping; again to leave at once\nlazyflow: stopped by {name}; nothing was written.\n",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes")
def test_a_reader_that_goes_away_is_no_error_message(start, folder):
    process = start("operators", "show", "test.scale", cwd=folder)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=60) in (0, 1)
    assert err == ""


@pytest.mark.stress
@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("repeat", range(60))
def test_a_signal_is_heard_whatever_the_main_thread_is_about_to_do(start, folder, repeat):
    """Before there was somebody to knock, one in ten was lost on its way into a wait."""
    process = gated(start, folder)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
