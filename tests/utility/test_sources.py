"""Files that are read are ordinary ones whose content is here; everything else is said in one sentence."""

import os
import socket

import pytest

from lazyflow_core.errors import StorageError
from lazyflow_core.sources import open_source

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 123456789\n"
KEY = b"SHA256E-s123456789--" + b"4d" * 32 + b".tif"


def refusal(path):
    with pytest.raises(StorageError) as caught:
        open_source(path)
    return str(caught.value)


def test_a_file_is_opened_at_its_beginning(tmp_path):
    for content in (b"", b"short", b"long" * 20_000):
        (tmp_path / "a").write_bytes(content)
        with open_source(tmp_path / "a") as file:
            assert file.read() == content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LFS, "Git LFS to a file that is not here yet; 'git lfs pull' fetches it"),
        (LFS.replace(b"\n", b"\r\n"), "Git LFS"),
        (LFS.replace(b"/v1\n", b"/v1\next-0-a sha256:00\n"), "Git LFS"),
        (b"version https://hawser.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"),
        (b"/annex/objects/" + KEY + b"\n", "git-annex to a file that is not here yet; 'git annex get'"),
        (b"../../.git/annex/objects/3k/Zx/" + KEY + b"/" + KEY, "git-annex"),
        (b".git/annex/objects/3k/Zx/" + KEY + b"/" + KEY, "git-annex"),
    ],
)
def test_what_stands_in_for_a_file_that_was_not_fetched_is_told(tmp_path, content, words):
    (tmp_path / "a.tif").write_bytes(content)
    sentence = refusal(tmp_path / "a.tif")
    assert "a.tif is a pointer of " in sentence
    assert words in sentence


@pytest.mark.parametrize(
    "content",
    [
        b"# see version https://git-lfs.github.com/spec/v1\n",
        b"/annex/objects/ are kept here",
        b"/annex/objects/key\nand more of it",
        LFS + b" " * 40_000,
    ],
)
def test_a_text_about_pointers_is_none(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    open_source(tmp_path / "a").close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_nothing_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a")
    (tmp_path / "b").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "c"))
        for name in "abc":
            assert refusal(tmp_path / name).endswith(f"{name} is no ordinary file but a pipe or a device.")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no file here that fails")
def test_a_read_that_fails_names_the_file():
    assert refusal("/proc/self/mem") == "/proc/self/mem cannot be read: Input/output error."


def test_what_is_no_file_is_said(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert "is a folder, not a file" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "none")
    assert "cannot be read: Too many levels" in refusal(tmp_path / "loop")
    assert "is an address" in refusal("https://example.org/a.tif")
    assert "is no path" in refusal("a\0b")
