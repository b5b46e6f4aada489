"""Two names of one place are known for what they are."""

import os
import shutil
import subprocess
import sys

import pytest

from lazyflow_core.utility import overlap


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A folder with a Zarr-like folder and a file in it, as the current directory."""
    (tmp_path / "p.zarr" / "raw").mkdir(parents=True)
    (tmp_path / "a.h5").write_text("a")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a.h5", "a.h5", "is"),
        ("./other/../a.h5", "a.h5", "is"),
        ("p.zarr", "p.zarr/raw", "contains"),
        ("p.zarr/", "p.zarr/raw/", "contains"),
        ("p.zarr/raw", "p.zarr", "is inside"),
        ("p.zarr/raw/new/deep.zarr", "p.zarr", "is inside"),
        ("p.zarr/new", "p.zarr/raw", None),
        ("p.zar", "p.zarr", None),
        ("new.h5", "a.h5", None),
        ("new.h5", "other/../new.h5", "is"),
        ("new.zarr", "new.zarr/raw", "contains"),
        ("new.zarr/raw", "new.zarr", "is inside"),
        ("new.zarr/a", "new.zarr/b", None),
    ],
)
def test_paths_are_compared_as_places(there, one, other, expected):
    assert overlap(one, other) == expected
    assert overlap(there / one, other) == expected
    swapped = {"contains": "is inside", "is inside": "contains"}
    assert overlap(other, one) == swapped.get(expected, expected)


def test_links_lead_to_the_same_place(there):
    os.symlink("a.h5", "soft.h5")
    os.link("a.h5", "hard.h5")
    os.symlink("p.zarr/raw", "raw.zarr")
    os.symlink("other", "elsewhere")
    assert overlap("soft.h5", "a.h5") == overlap("hard.h5", "a.h5") == overlap("hard.h5", "soft.h5") == "is"
    assert overlap("p.zarr", "raw.zarr") == "contains"
    assert overlap("raw.zarr/new", "p.zarr") == "is inside"
    assert overlap("elsewhere/new.h5", "other/new.h5") == "is"
    os.symlink("nowhere", "dangling")
    assert overlap("dangling", "nowhere") == "is"
    os.symlink("loop", "loop")
    assert overlap("loop", "a.h5") is None


def test_what_is_no_path_is_nowhere(there):
    assert overlap("a\0b", "a.h5") is None


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("unshare"), reason="mounts of Linux")
def test_a_folder_mounted_elsewhere_is_the_same_place(there):
    (there / "mount point").mkdir()
    (there / "over").mkdir()
    code = (
        "from lazyflow_core.utility import overlap\n"
        "print(overlap('p.zarr', 'mount point'), overlap('mount point/new.zarr', 'p.zarr'), "
        "overlap('over/raw', 'p.zarr/raw'), overlap('over/x', 'mount point'), sep='|')"
    )
    script = 'mount --bind p.zarr/raw "mount point" && mount --bind p.zarr over && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=there, timeout=60, check=False)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no mounts may be made here: {done.stderr.strip()}")
    assert done.stdout.strip() == "contains|is inside|is|None", done.stderr
