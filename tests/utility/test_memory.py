import pytest

from lazyflow_core.utility import available_memory, format_bytes, memory, parse_bytes, peak_memory


def test_there_is_memory_and_some_of_it_is_taken():
    assert available_memory() > 0
    assert 10 * 2**20 < peak_memory() < 2**50


@pytest.mark.parametrize("text", ["", "much", "1 XB", "-3 MB", "1e3", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is no size in bytes"):
        parse_bytes(text)


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 10**6, 3 * 2**40])
def test_a_size_in_words_is_the_size_within_a_twentieth(count):
    assert parse_bytes(format_bytes(count)) == pytest.approx(count, rel=0.05)


def group(root, path, **files):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n", "ascii")


@pytest.mark.parametrize(
    ("membership", "expected"),
    [
        ("0::/user.slice/job\n", [700, 50]),  # its own limit, and that of the slice around it
        ("0::/user.slice\n", [50]),
        ("0::/nowhere/at/all\n", []),
        ("4:memory:/batch/7\n2:cpu,cpuacct:/\n0::/\n", [90, 400]),
        ("4:cpu,memory:/batch\n", [400]),
        ("", []),
        ("no line of the kernel\n0::/../../etc\n", []),
    ],
)
def test_the_limits_of_all_control_groups_around_the_process_count(tmp_path, membership, expected):
    root = tmp_path / "cgroup"
    group(root, "user.slice", memory__max=1000, memory__current=950)
    group(
        root, "user.slice/job", memory__max=900, memory__current=500, memory__stat="anon 3\ninactive_file 300"
    )
    group(root, "user.slice/free", memory__max="max", memory__current=500)
    group(root, "memory/batch", memory__limit_in_bytes=1000, memory__usage_in_bytes=600)
    group(root, "memory/batch/7", memory__limit_in_bytes=100, memory__usage_in_bytes=30)
    (root / "memory/batch/7/memory.stat").write_text("inactive_file 7\ntotal_inactive_file 20\n", "ascii")
    (tmp_path / "self").write_text(membership, "utf-8")
    assert memory._from_cgroups(str(root), str(tmp_path / "self")) == expected


def test_in_a_container_the_group_that_is_mounted_counts(tmp_path):
    group(tmp_path, "", memory__max=1000, memory__current=400)
    (tmp_path / "self").write_text("0::/docker/0123\n", "utf-8")
    assert memory._from_cgroups(str(tmp_path), str(tmp_path / "self")) == [600]
    assert memory._from_cgroups(str(tmp_path / "none"), str(tmp_path / "none")) == []
