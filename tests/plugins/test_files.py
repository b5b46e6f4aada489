import os
import socket

import pytest

from lazyflow_core.errors import FormatError, NoReaderError, PluginError, StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.plugins.files import explain_reader, open_reader, open_writer
from lazyflow_core.plugins.specs import ReaderSpec, WriterSpec

HERE = __name__


def opened(path, *, dataset=None):
    return ("opened", path, dataset)


def created(path, meta, *, dataset=None, overwrite=False, **options):
    return ("created", path, meta, dataset, overwrite, options)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Targets are strings; make this module importable under a name."""
    import sys

    monkeypatch.setitem(sys.modules, "files_under_test", sys.modules[HERE])


H5 = ReaderSpec("io.hdf5", "files_under_test:opened", patterns=("*.h5",), magic=((0, b"\x89HDF"),))
RAW = ReaderSpec("io.raw", "files_under_test:opened", patterns=("*.raw", "*.big.raw"))
DIR = ReaderSpec("io.zarr", "files_under_test:opened", directory=True, marker=("zarr.json",))
READERS = [H5, RAW, DIR]
ZARR = WriterSpec("io.zarr", "files_under_test:created", patterns=("*.zarr",), options=("chunks",))
META = ArrayMeta((2, 2), "uint8")


def write(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


def test_what_a_file_begins_with_counts_more_than_its_name(tmp_path):
    path = write(tmp_path, "image.raw", b"\x89HDF....")
    assert [v.spec.id for v in explain_reader(READERS, path)][:2] == ["io.hdf5", "io.raw"]
    assert open_reader(READERS, path, dataset="a") == ("opened", path, "a")


def test_names_are_compared_without_case(tmp_path):
    assert open_reader(READERS, write(tmp_path, "X.RAW", b"...."))


def test_a_folder_is_known_by_what_is_in_it(tmp_path):
    (tmp_path / "zarr.json").write_text("{}")
    assert open_reader(READERS, str(tmp_path))


def test_the_more_special_and_then_the_preferred_reader_wins(tmp_path):
    special = ReaderSpec("a.special", "files_under_test:opened", patterns=("*.big.raw",), priority=1)
    path = write(tmp_path, "x.big.raw", b"....")
    assert explain_reader([*READERS, special], path)[0].spec.id == "a.special"


def test_an_explicit_format_overrules_everything(tmp_path):
    path = write(tmp_path, "x.bin", b"....")
    assert open_reader(READERS, path, format="raw")
    assert open_reader(READERS, path, format="io.hdf5")
    with pytest.raises(PluginError) as caught:
        open_reader(READERS, path, format="hdf")
    assert str(caught.value) == (
        "nothing installed can read the format 'hdf'; did you mean 'hdf5'? Possible: hdf5, raw, zarr."
    )


def test_a_file_that_nobody_reads_is_told_with_every_reason(tmp_path):
    path = write(tmp_path, "x.czi", b"ZISRAW")
    magic = ReaderSpec("acme.tiff", "files_under_test:opened", magic=((0, b"II"),))
    with pytest.raises(NoReaderError) as caught:
        open_reader([*READERS, magic], path)
    assert str(caught.value) == (
        f"nothing installed opens {path!r} "
        "(asked: acme.tiff by magic no, io.hdf5 by pattern no, io.raw by pattern no, io.zarr by kind no). "
        "Readable are acme.tiff, io.hdf5 (*.h5), io.raw (*.raw, *.big.raw), io.zarr."
    )
    assert isinstance(caught.value, FormatError)


def test_a_file_of_a_kind_that_we_publish_says_what_to_install(tmp_path):
    path = write(tmp_path, "x.h5", b"\x89HDF")
    with pytest.raises(NoReaderError) as caught:
        open_reader([], path)
    assert str(caught.value) == (
        f"nothing installed opens {path!r} (asked: nobody). Known: .h5 -> pip install lazyflow-ops-io"
    )


def test_an_empty_path_is_refused_as_such():
    with pytest.raises(StorageError) as caught:
        open_reader(READERS, "")
    assert str(caught.value) == "The path is empty; give the name of a file or folder."


def test_an_empty_file_is_refused_by_its_contents(tmp_path):
    path = write(tmp_path, "x.h5", b"")
    with pytest.raises(NoReaderError) as caught:
        open_reader([H5], path)
    assert str(caught.value) == (
        f"nothing installed opens {path!r} (asked: io.hdf5 by magic no). The file is empty."
    )
    assert {v.reason for v in explain_reader([H5], path)} == {"the file is empty"}


@pytest.mark.parametrize("format", [None, "hdf5"])
def test_a_missing_file_is_missing_whatever_its_format(tmp_path, format):
    path = str(tmp_path / "missing.h5")
    with pytest.raises(StorageError) as caught:
        open_reader(READERS, path, format=format)
    assert str(caught.value) == f"{path} does not exist."


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("format", [None, "raw"])
def test_a_pipe_or_a_device_is_refused_without_waiting_for_it(tmp_path, format):
    os.mkfifo(tmp_path / "a.raw")
    (tmp_path / "b.raw").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "c.raw"))
        for name in "abc":
            with pytest.raises(StorageError, match=rf"{name}\.raw is no ordinary file"):
                open_reader(READERS, str(tmp_path / f"{name}.raw"), format=format)


def test_an_address_is_no_file():
    for address in ("https://example.org/a.zarr", "s3://bucket/a.zarr", "file:///a.h5"):
        with pytest.raises(StorageError, match=r"is an address.*download it"):
            open_reader(READERS, address)


def test_a_link_to_nothing_says_where_it_leads(tmp_path):
    (tmp_path / "a.raw").symlink_to("gone.raw")
    (tmp_path / "b.raw").symlink_to("../.git/annex/objects/3k/Zx/MD5E-s5--aa.raw/MD5E-s5--aa.raw")
    with pytest.raises(StorageError, match=r"a\.raw is a link to 'gone\.raw', which does not exist"):
        open_reader(READERS, str(tmp_path / "a.raw"))
    with pytest.raises(StorageError, match=r"b\.raw is a link of git-annex.*git annex get"):
        open_reader(READERS, str(tmp_path / "b.raw"))


def test_a_name_that_is_no_path_is_refused():
    with pytest.raises(StorageError, match="is no path"):
        open_reader(READERS, "a\0b.h5")


def test_a_writer_is_chosen_by_name_or_format():
    assert open_writer([ZARR], "a.zarr/", META, chunks=(1, 1))[-1] == {"chunks": (1, 1)}
    assert open_writer([ZARR], "a", META, format="zarr", overwrite=True)[4] is True
    with pytest.raises(FormatError, match=r"nothing installed writes a\.png \(io\.zarr \(\*\.zarr\)\)"):
        open_writer([ZARR], "a.png", META)
    with pytest.raises(PluginError, match=r"io\.zarr has no option 'chunk'; it has chunks"):
        open_writer([ZARR], "a.zarr", META, chunk=3)
