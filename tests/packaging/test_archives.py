"""Wheels and source archives hold what they should, and nothing else."""

import os
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import PurePosixPath

import pytest

from .distributions import ALL, CORE, tracked

#: Distributions with native code, and what their library is called.
NATIVE = {"lazyflow-ops-filters": "lazyflow_filters", "lazyflow-ops-learning": "lazyflow_learning"}


@pytest.mark.parametrize("distribution", ALL, ids=str)
def test_a_wheel_holds_the_package_and_nothing_else(distribution, built):
    info = f"{distribution.package}-{distribution.project['version']}.dist-info"
    with zipfile.ZipFile(built.wheel(distribution)) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
    expected = {path.as_posix() for path in distribution.sources()}
    expected |= {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")}
    if distribution.entry_points:
        expected.add(f"{info}/entry_points.txt")
    # Code in C++ is in the wheel where there was a compiler.
    stem = NATIVE.get(distribution.name)
    native = {name for name in names - expected if stem and PurePosixPath(name).stem.startswith(stem)}
    assert names - native == expected
    assert len(native) <= 1


@pytest.mark.parametrize("distribution", ALL, ids=str)
def test_a_wheel_says_what_it_is(distribution, built):
    wheel = built.wheel(distribution)
    info = f"{distribution.package}-{distribution.project['version']}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        about = message_from_string(archive.read(f"{info}/METADATA").decode())
    assert about["License-Expression"] == "BSD-3-Clause"
    assert about["License-File"] == "LICENSE"
    assert about["Requires-Python"] == ">=3.11"
    assert about["Description-Content-Type"] == "text/markdown"
    assert about.get_payload().startswith(f"# {distribution.name}")
    assert "-py3-none-" in wheel.name, "one wheel serves every Python 3"


@pytest.mark.parametrize("distribution", ALL, ids=str)
def test_a_source_archive_holds_what_is_needed_to_build_and_test(distribution, built):
    top = f"{distribution.package}-{distribution.project['version']}"
    with tarfile.open(built.sdist(distribution)) as archive:
        names = {str(PurePosixPath(member.name).relative_to(top)) for member in archive if member.isfile()}
    known = {path.as_posix() for path in tracked(distribution.folder)}
    assert names - known <= {"PKG-INFO", ".gitignore"}
    if distribution is CORE:
        rooms = ("lazyflow_core", "tests")
        known = {
            name
            for name in known
            if name.split("/")[0] in rooms
            or name in {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
        }
    assert known - names <= {".gitignore"}


@pytest.mark.parametrize("name", NATIVE)
def test_without_a_compiler_a_distribution_is_built_without_its_code_in_c(name, tmp_path):
    (distribution,) = (one for one in ALL if one.name == name)
    nowhere = dict.fromkeys(("CC", "CXX"), str(tmp_path / "no compiler"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            tmp_path,
            distribution.folder,
        ],
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert not [
            file for file in wheel.namelist() if PurePosixPath(file).stem == NATIVE[distribution.name]
        ]
