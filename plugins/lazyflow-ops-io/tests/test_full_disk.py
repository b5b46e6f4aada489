"""A full disk is one sentence: no crash, not even when the interpreter ends, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUFFIXES = {"hdf5": ".h5", "zarr": ".zarr", "tiff": ".tif", "npy": ".npy"}


def run(name, folder, limit):
    path = folder / f"a{SUFFIXES[name]}"
    script = Path(__file__).with_name("disk_full.py")
    done = subprocess.run(
        [sys.executable, script, name, path, str(limit)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-2000:])
    assert done.stderr == ""
    assert list(folder.iterdir()) == []
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE")
@pytest.mark.parametrize("limit", [1, 500, 3_000, 20_000, 300_000, 1_500_000])
@pytest.mark.parametrize("name", SUFFIXES)
def test_a_file_that_may_not_grow_ends_in_one_sentence(tmp_path, name, limit):
    if name == "zarr" and limit > 20_000:
        limit = 25_000  # its files are the chunks, of 32 KiB
    assert "File too large" in run(name, tmp_path, limit)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one mebibyte; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root"
)
@pytest.mark.parametrize("name", SUFFIXES)
def test_a_full_disk_ends_in_one_sentence(small_disk, name):
    assert "No space left on device" in run(name, small_disk, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("name", SUFFIXES)
def test_a_killed_process_leaves_the_target_as_it_was(tmp_path, name):
    path = tmp_path / f"a{SUFFIXES[name]}"
    script = Path(__file__).with_name("disk_full.py")
    done = subprocess.run(
        [sys.executable, script, name, path, "-1"], capture_output=True, timeout=100, check=False
    )
    assert done.returncode == -9
    assert [p.suffix for p in tmp_path.iterdir()] == [".partial"]
