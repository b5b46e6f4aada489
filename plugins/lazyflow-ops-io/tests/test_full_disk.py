"""A full disk, or a death, is no disaster: one sentence, no crash at the end, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

SUFFIXES = {"hdf5": ".h5", "zarr": ".zarr", "tiff": ".tif", "npy": ".npy"}
REFUSED, WRITTEN = 0, 4

posix = pytest.mark.skipif(sys.platform == "win32", reason="limits and signals of POSIX")
root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root"
)


def run(name, path, how, number=0, *, ends=REFUSED):
    """Run the program, look how it ends and return what it says."""
    script = Path(__file__).with_name("disk_full.py")
    done = subprocess.run(
        [sys.executable, script, name, path, how, str(number)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == ends, (done.returncode, done.stdout, done.stderr[-2000:])
    assert done.stderr == ""
    return done.stdout


@posix
@pytest.mark.parametrize("limit", [1, 500, 3_000, 20_000, 300_000, 1_500_000])
@pytest.mark.parametrize("name", SUFFIXES)
def test_a_file_that_may_not_grow_ends_in_one_sentence(tmp_path, name, limit):
    if name == "zarr" and limit > 20_000:
        limit = 25_000  # its files are the chunks, of 32 KiB
    assert "File too large" in run(name, tmp_path / f"a{SUFFIXES[name]}", "size", limit)
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("limit", [300_000, 600_000, 2_150_000, 2_400_000, 2_600_000])
def test_a_dataset_that_does_not_fit_beside_others_ends_in_one_sentence(tmp_path, limit):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["old"] = np.random.default_rng(0).integers(0, 256, 500_000, np.uint8)
    before = path.read_bytes()
    assert "File too large" in run("hdf5", path, "add", limit)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before
    run("hdf5", path, "add", 3_000_000, ends=WRITTEN)
    with h5py.File(path) as file:
        assert (file["old"].shape, file["added"].shape) == ((500_000,), (128,) * 3)


@pytest.fixture
def small_disk(tmp_path, request):
    """A disk with the options that the test is parametrized with; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@root
@pytest.mark.parametrize("small_disk", ["size=1m"], indirect=True)
@pytest.mark.parametrize("name", SUFFIXES)
def test_a_full_disk_ends_in_one_sentence(small_disk, name):
    assert "No space left on device" in run(name, small_disk / f"a{SUFFIXES[name]}", "nothing")
    assert list(small_disk.iterdir()) == []


@root
@pytest.mark.parametrize("small_disk", ["nr_inodes=1", "nr_inodes=2", "nr_inodes=12"], indirect=True)
def test_a_disk_that_takes_no_more_files_ends_in_one_sentence(small_disk):
    assert "No space left on device" in run("zarr", small_disk / "a.zarr", "nothing")
    assert list(small_disk.iterdir()) == []


@posix
@pytest.mark.parametrize("name", SUFFIXES)
def test_too_many_open_files_end_in_one_sentence(tmp_path, name):
    path = tmp_path / f"a{SUFFIXES[name]}"
    # With two and more, the event loop that zarr-python cannot make complains by itself.
    for more in (0, 1):
        assert "Too many open files" in run(name, path, "files", more)
        assert list(tmp_path.iterdir()) == []
    run(name, path, "files", 20, ends=WRITTEN)


@posix
@pytest.mark.parametrize("name", SUFFIXES)
def test_a_killed_process_leaves_the_target_as_it_was_and_the_next_one_removes_the_rest(tmp_path, name):
    path = tmp_path / f"a{SUFFIXES[name]}"
    other = tmp_path / f"other{SUFFIXES[name]}"
    for target in (path, other, path):
        run(name, target, "die", 3, ends=-signal.SIGKILL)
    # The second that wrote `path` removed what the first had left.
    assert [p.suffix for p in tmp_path.iterdir()] == [".partial"] * 2
    run(name, path, "nothing", ends=WRITTEN)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == sorted([".partial", SUFFIXES[name]])


@posix
@pytest.mark.parametrize("name", SUFFIXES)
def test_death_at_any_moment_leaves_the_whole_or_nothing_and_no_rest_after_the_next_run(tmp_path, name):
    path = tmp_path / f"a{SUFFIXES[name]}"
    said = run(name, path, "die-everywhere", ends=WRITTEN)
    assert int(said.split()[0]) > 5  # places where it died
    assert list(tmp_path.iterdir()) == [path]
