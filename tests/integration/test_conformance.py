"""Whoever installed the operators of this project can try all of them, on the cases that the tests use."""

import json
import subprocess
import sys

import pytest

from lazyflow_core.plugins import default as manager
from lazyflow_core.plugins import list_operators

for _name in ("array", "cache", "filters", "io", "learning"):
    pytest.importorskip(f"lazyflow_ops_{_name}")
pytest.importorskip("lazyflow_cli")

# Here and not in a test: those of io.read open files, and zarr's threads stay.
CASES = {spec.id: manager().conformance_cases(spec.id) for spec in list_operators()}


@pytest.mark.parametrize("id", CASES)
def test_every_operator_ships_two_cases(id):
    assert len(CASES[id]) >= 2


def test_the_command_tries_every_installed_operator():
    command = ["lazyflow_cli", "operators", "check", "*", "--check", "loads", "--json"]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)["cases"]
    assert {case["operator"] for case in cases} == CASES.keys()
    checks = [check for case in cases for check in case["checks"]]
    assert all(c["status"] == "passed" or c["detail"] == "it has no array output" for c in checks)
