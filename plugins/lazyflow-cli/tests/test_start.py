"""What the command imports before it knows what it is asked for."""

import json

import pytest


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "--help"], ["operators", "check", "--help"]])
def test_help_imports_no_numpy_and_no_plugin(start, arguments):
    code = (
        "import json, sys\n"
        "from lazyflow_cli.main import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    out, err = start(python=("-c", code)).communicate(timeout=60)
    modules = set(json.loads(out.splitlines()[-1]))
    assert not {"numpy", "greenlet", "pluggy", "importlib_metadata", "lazyflow_of_tests"} & modules, err
