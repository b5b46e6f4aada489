"""A target is there whole or not at all, and nothing of the user's is replaced unasked."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from lazyflow_ops_io import zarr_writer
from lazyflow_ops_io._target import DiskFile
from lazyflow_ops_io._target import fcntl as _target_fcntl

from lazyflow_core.errors import ResultError, RoiError, StorageError, TargetExistsError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.request import Request, ThreadedScheduler
from lazyflow_core.roi import Roi

META = ArrayMeta((4, 5, 6), "uint8", "zyx")
WHOLE = META.roi
DATA = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)


def begin(storage, path, **options):
    return storage.create(str(path), META, **storage.options, **options)


def listing(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_nothing_has_the_name_before_commit(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    writer = begin(storage, path)
    writer.write(WHOLE, DATA)
    assert not path.exists()
    (temporary,) = tmp_path.iterdir()
    assert temporary.name.endswith(".partial")
    writer.commit()
    assert list(tmp_path.iterdir()) == [path]


def test_abort_leaves_nothing_and_may_be_repeated(storage, tmp_path):
    writer = begin(storage, tmp_path / f"a{storage.suffix}")
    writer.write(WHOLE, DATA)
    writer.abort()
    writer.abort()
    assert listing(tmp_path) == []
    with pytest.raises(StorageError, match="aborted"):
        writer.write(WHOLE, DATA)
    with pytest.raises(StorageError, match="cannot commit"):
        writer.commit()


def test_abort_after_commit_keeps_the_result(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    writer = begin(storage, path)
    writer.write(WHOLE, DATA)
    writer.commit()
    writer.abort()
    np.testing.assert_array_equal(storage.read(path)[0], DATA)


def test_a_writer_as_context_manager_aborts_what_was_not_committed(storage, tmp_path):
    with pytest.raises(ZeroDivisionError), begin(storage, tmp_path / f"a{storage.suffix}"):
        1 / 0  # noqa: B018
    assert listing(tmp_path) == []


def test_missing_blocks_refuse_the_commit_and_leave_nothing(storage, tmp_path):
    writer = begin(storage, tmp_path / f"a{storage.suffix}")
    with pytest.raises(StorageError, match="0 of 120 pixels"):
        writer.commit()
    assert listing(tmp_path) == []


def test_a_block_may_be_written_twice(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    writer = begin(storage, path)
    writer.write(WHOLE, np.zeros_like(DATA))
    writer.write(WHOLE, DATA)
    writer.commit()
    np.testing.assert_array_equal(storage.read(path)[0], DATA)


def test_blocks_of_another_kind_are_refused(storage, tmp_path):
    with begin(storage, tmp_path / f"a{storage.suffix}") as writer:
        with pytest.raises(ResultError, match="float32"):
            writer.write(WHOLE, DATA.astype(np.float32))
        with pytest.raises(ResultError, match="shape"):
            writer.write(WHOLE, DATA[:2])
        with pytest.raises(RoiError, match="outside"):
            writer.write(Roi((0, 0, 0), (4, 5, 7)), np.zeros((4, 5, 7), np.uint8))
        writer.write(Roi((0, 0, 0), (0, 5, 6)), DATA[:0])


@pytest.mark.parametrize("name", ["hdf5", "zarr3"])
def test_blocks_that_would_share_a_chunk_are_refused(name, tmp_path):
    from lazyflow_ops_io.hdf5_writer import create_hdf5
    from lazyflow_ops_io.zarr_writer import create_zarr

    create = {"hdf5": create_hdf5, "zarr3": create_zarr}[name]
    with create(str(tmp_path / "a"), META, chunks=(2, 2, 2)) as writer:
        for roi in (Roi((1, 0, 0), (4, 5, 6)), Roi((0, 0, 0), (3, 5, 6)), Roi((0, 0, 0), (4, 3, 6))):
            with pytest.raises(RoiError, match="multiples"):
                writer.write(roi, DATA[roi.slicing])


@pytest.mark.parametrize("dtype", [object, "U4", "M8[s]", "V3", [("a", "f4")]])
def test_values_that_no_reader_gives_back_are_refused(storage, tmp_path, dtype):
    meta = ArrayMeta((4, 5, 6), np.dtype(dtype), "zyx")
    with pytest.raises(StorageError, match="cannot be written; cast"):
        storage.create(str(tmp_path / f"a{storage.suffix}"), meta, **storage.options)
    assert listing(tmp_path) == []


def test_an_array_without_axes_is_refused(storage, tmp_path):
    with pytest.raises(StorageError, match="without axes"):
        storage.create(str(tmp_path / f"a{storage.suffix}"), ArrayMeta((), "u1", ""), **storage.options)
    assert listing(tmp_path) == []


def test_a_path_may_be_an_object(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    with storage.create(path, META, **storage.options) as writer:
        writer.write(WHOLE, DATA)
        writer.commit()
    np.testing.assert_array_equal(storage.read(path)[0], DATA)


@pytest.mark.parametrize("chunks", [(2, 2), (0, 2, 2), (2.0, 2, 2), ("a", 2, 2), "abc", True, -1])
@pytest.mark.parametrize("name", ["hdf5", "zarr3"])
def test_chunks_that_cannot_be_are_refused(name, formats, tmp_path, chunks):
    with pytest.raises(StorageError, match="integer >= 1 per axis"):
        formats[name].create(str(tmp_path / "a"), META, chunks=chunks)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("name", ["hdf5", "zarr3"])
def test_one_number_for_chunks_stands_for_all_axes(name, formats, tmp_path):
    with formats[name].create(str(tmp_path / "a"), META, chunks=5) as writer:
        assert writer.step == (4, 5, 5)


# --------------------------------------------------------------------------------------------- overwriting


def test_an_existing_target_is_refused_before_anything_is_written(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, DATA)
    before = listing(tmp_path)
    with pytest.raises(TargetExistsError, match="exists already"):
        begin(storage, path)
    assert listing(tmp_path) == before


def test_overwriting_replaces_the_old_only_at_commit(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, DATA)
    new = DATA[::-1].copy()
    writer = begin(storage, path, overwrite=True)
    writer.write(WHOLE, new)
    np.testing.assert_array_equal(storage.read(path)[0], DATA)
    writer.commit()
    np.testing.assert_array_equal(storage.read(path)[0], new)
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_replaced_where_names_cannot_be_swapped(formats, tmp_path, monkeypatch):
    path = tmp_path / "a.zarr"
    formats["zarr3"].write(path, DATA)
    monkeypatch.setattr("lazyflow_ops_io._target._exchange", lambda one, other: False)
    formats["zarr3"].write(path, DATA[::-1].copy(), overwrite=True)
    np.testing.assert_array_equal(formats["zarr3"].read(path)[0], DATA[::-1])
    assert list(tmp_path.iterdir()) == [path]


def test_overwriting_that_is_aborted_keeps_the_old(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, DATA)
    begin(storage, path, overwrite=True).abort()
    np.testing.assert_array_equal(storage.read(path)[0], DATA)
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_old_result_can_be_overwritten(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, DATA)
    victim = (
        path / "zarr.json" if (path / "zarr.json").exists() else path / ".zgroup" if path.is_dir() else path
    )
    victim.write_bytes(victim.read_bytes()[:7])
    storage.write(path, DATA, overwrite=True)
    np.testing.assert_array_equal(storage.read(path)[0], DATA)


def test_what_appears_meanwhile_is_left_alone(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    writer = begin(storage, path)
    writer.write(WHOLE, DATA)
    storage.write(tmp_path / f"b{storage.suffix}", DATA[::-1].copy())
    (tmp_path / f"b{storage.suffix}").rename(path)
    with pytest.raises(TargetExistsError, match="meanwhile"):
        writer.commit()
    np.testing.assert_array_equal(storage.read(path)[0], DATA[::-1])
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_of_the_user_is_never_replaced(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(StorageError, match=r"exists already|cannot overwrite"):
            begin(storage, path, overwrite=overwrite)
    assert listing(path) == ["thesis.txt"]


def test_a_file_is_no_zarr_folder_to_be_replaced(tmp_path, storage):
    path = tmp_path / f"a{storage.suffix}"
    path.write_text("hello")
    if storage.suffix == ".zarr":
        with pytest.raises(StorageError, match="not a folder of this format"):
            begin(storage, path, overwrite=True)
        assert path.read_text() == "hello"
    else:
        storage.write(path, DATA, overwrite=True)


def test_a_symbolic_link_is_replaced_and_what_it_names_is_not(tmp_path, storage):
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    path = tmp_path / f"a{storage.suffix}"
    path.symlink_to(precious)
    with pytest.raises(TargetExistsError):
        begin(storage, path)
    if storage.suffix != ".zarr":
        storage.write(path, DATA, overwrite=True)
        assert not path.is_symlink()
    assert precious.read_text() == "years of work"


def test_what_is_being_written_is_refused_to_a_second_writer(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    with begin(storage, path) as writer:
        for overwrite in (False, True):
            with pytest.raises(StorageError, match=rf"a{storage.suffix}'.*being written already.*partial"):
                begin(storage, path, overwrite=overwrite)
        begin(storage, tmp_path / f"b{storage.suffix}").abort()
        writer.write(WHOLE, DATA)
        writer.commit()
    storage.write(path, DATA, overwrite=True)
    assert list(tmp_path.iterdir()) == [path]


class FirstLock:
    """The system's locks; something happens before the first one of something in a folder."""

    def __init__(self, folder, before):
        self.folder, self.before = folder, before

    def __getattr__(self, name):
        return getattr(_target_fcntl, name)

    def flock(self, fd, how):
        if self.before is not None and not os.path.samestat(os.fstat(fd), self.folder.stat()):
            before, self.before = self.before, None
            before(fd)
        return _target_fcntl.flock(fd, how)


def _remove_all(folder):
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_taken():
    raise BlockingIOError(errno.EAGAIN, "taken")


@pytest.mark.skipif(_target_fcntl is None, reason="there are no such locks")
@pytest.mark.parametrize("how", ["removed", "locked"])
def test_what_others_took_for_left_behind_is_begun_anew(storage, tmp_path, monkeypatch, how):
    """Between making a temporary and locking it, a cleaner of another process may take it."""
    lock = FirstLock(tmp_path, lambda fd: _remove_all(tmp_path) if how == "removed" else _is_taken())
    monkeypatch.setattr("lazyflow_ops_io._target.fcntl", lock)
    path = tmp_path / f"a{storage.suffix}"
    with begin(storage, path) as writer:
        assert lock.before is None
        with pytest.raises(StorageError, match="being written already"):
            begin(storage, path)
        writer.write(WHOLE, DATA)
        writer.commit()
    np.testing.assert_array_equal(storage.read(path)[0], DATA)


@pytest.mark.skipif(_target_fcntl is None, reason="there are no such locks")
def test_a_folder_that_somebody_keeps_locked_is_not_waited_for(storage, tmp_path, monkeypatch):
    """As the child does of a process that forked in the moment it held the lock."""
    monkeypatch.setattr("lazyflow_ops_io._target._PATIENCE_S", 0.0)
    fd = os.open(tmp_path, os.O_RDONLY)
    _target_fcntl.flock(fd, _target_fcntl.LOCK_EX)
    path = tmp_path / f"a{storage.suffix}"
    try:
        storage.write(path, DATA)
        with begin(storage, path, overwrite=True), pytest.raises(StorageError, match="written already"):
            begin(storage, path, overwrite=True)
    finally:
        os.close(fd)
    np.testing.assert_array_equal(storage.read(path)[0], DATA)


@pytest.mark.skipif(_target_fcntl is None, reason="there are no such locks")
def test_what_is_always_taken_is_refused(storage, tmp_path, monkeypatch):
    real = _target_fcntl.flock

    def flock(fd, how):
        of_folder = os.path.samestat(os.fstat(fd), tmp_path.stat())
        return real(fd, how) if of_folder else _is_taken()

    monkeypatch.setattr(_target_fcntl, "flock", flock)
    with pytest.raises(StorageError, match="removed by another program"):
        begin(storage, tmp_path / f"a{storage.suffix}")


def test_a_folder_whose_replacement_was_killed_gets_its_name_back(tmp_path, monkeypatch, formats):
    """Where names cannot be swapped, there is a moment in which the old one has another name only."""
    storage, path = formats["zarr3"], tmp_path / "a.zarr"
    storage.write(path, DATA)
    monkeypatch.setattr("lazyflow_ops_io._target._exchange", lambda one, other: False)
    writer = begin(storage, path, overwrite=True)
    writer.write(WHOLE, DATA[::-1].copy())
    real, names = os.rename, []

    def rename(old, new):
        names.append(new)
        if len(names) > 1:
            raise OSError(errno.EIO, "the process ends here")
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(StorageError):
        writer.commit()
    monkeypatch.undo()
    assert not path.exists()
    with pytest.raises(TargetExistsError):
        begin(storage, path)
    np.testing.assert_array_equal(storage.read(path)[0], DATA)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["zarr3", "zarr2"])
@pytest.mark.parametrize("moment", ["before", "between", "while"])
def test_a_zarr_that_is_replaced_while_it_is_read_is_never_read_mixed(
    name, moment, formats, tmp_path, monkeypatch
):
    storage, path, other = formats[name], tmp_path / "a.zarr", tmp_path / "b.zarr"
    storage.write(path, DATA, chunks=3)
    storage.write(other, DATA + np.uint8(100), chunks=3)

    def replace():  # as another process does it
        path.rename(tmp_path / "old.zarr")
        other.rename(path)
        shutil.rmtree(tmp_path / "old.zarr")

    with storage.open(str(path)) as reader:
        calls, real = [], reader._store.open

        def opened(key):
            calls.append(key)
            if moment == "between" and len(calls) == 3:
                replace()
            file = real(key)
            if moment == "while" and len(calls) == 3:
                replace()
            return file

        monkeypatch.setattr(reader._store, "open", opened)
        if moment == "before":
            replace()
        out = np.zeros_like(DATA)
        with pytest.raises(StorageError, match="was replaced meanwhile; open it again"):
            reader.read(WHOLE, out)
    np.testing.assert_array_equal(storage.read(path)[0], DATA + np.uint8(100))


def test_a_zarr_that_is_gone_is_no_array_of_zeros(formats, tmp_path):
    formats["zarr3"].write(tmp_path / "a.zarr", DATA)
    with formats["zarr3"].open(str(tmp_path / "a.zarr")) as reader:
        shutil.rmtree(tmp_path / "a.zarr")
        with pytest.raises(StorageError, match="removed or renamed"):
            reader.read(WHOLE, np.empty_like(DATA))


def test_names_that_only_begin_alike_are_no_others_business(storage, tmp_path):
    with begin(storage, tmp_path / ("a" * 60 + "1" + storage.suffix)):
        begin(storage, tmp_path / ("a" * 60 + "2" + storage.suffix)).abort()


def test_contents_reach_the_disk_before_the_name_does(storage, tmp_path, monkeypatch):
    path = tmp_path / f"a{storage.suffix}"
    writer = begin(storage, path)
    writer.write(WHOLE, DATA)
    steps = []
    for name in ("fsync", "link", "rename", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (steps.append(name), real(*a))[1])
    writer.commit()
    named = next(i for i, step in enumerate(steps) if step != "fsync")
    files = sum(f.is_file() for f in path.rglob("*")) if path.is_dir() else 1
    assert steps[:named] == ["fsync"] * files
    assert steps[named + 1 :] == ["fsync"]  # of the folder


# --------------------------------------------------------------------------------------- where nothing can be


def test_a_missing_folder_is_named(storage, tmp_path):
    with pytest.raises(StorageError, match=r"nowhere.*does not exist"):
        begin(storage, tmp_path / "nowhere" / f"a{storage.suffix}")


def test_a_folder_that_is_a_file_is_named(storage, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="is not a folder"):
        begin(storage, tmp_path / "file" / f"a{storage.suffix}")


def test_a_read_only_target_is_refused(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, DATA)
    mode = path.stat().st_mode
    path.chmod(mode & ~0o222)
    try:
        with pytest.raises(StorageError, match="read-only"):
            begin(storage, path, overwrite=True)
    finally:
        path.chmod(mode)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_a_folder_that_may_not_be_written_to_is_refused(storage, tmp_path):
    tmp_path.chmod(0o555)
    me = os.geteuid()
    try:
        if me == 0:
            os.seteuid(65534)  # root may write anywhere
        with pytest.raises(StorageError, match="Permission denied"):
            begin(storage, tmp_path / f"a{storage.suffix}")
    finally:
        os.seteuid(me)
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("name", ["", "a\0b", "a" * 300, "/"])
def test_names_no_file_can_have_are_refused(storage, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match="cannot write"):
        begin(storage, name)
    assert listing(tmp_path) == []


def test_long_and_unusual_names_work(storage, tmp_path):
    path = tmp_path / ("ÄΩ 𝛼\n'" * 16 + storage.suffix)
    storage.write(path, DATA)
    assert storage.read(path)[1].shape == DATA.shape
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------------------------------- threads


def test_blocks_from_several_threads_all_arrive(variant, tmp_path):
    data = np.random.default_rng(3).integers(0, 999, (30, 40, 50)).astype(np.uint16)
    path = tmp_path / f"a{variant.suffix}"
    variant.write(path, data, "zyx")
    np.testing.assert_array_equal(variant.read(path)[0], data)


def test_abort_during_a_write_ends_clean(storage, tmp_path):
    writer = begin(storage, tmp_path / f"a{storage.suffix}")
    inside, go_on = threading.Event(), threading.Event()
    original = writer._write

    def slow(roi, data):
        inside.set()
        go_on.wait(20)
        original(roi, data)

    writer._write = slow
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(writer.write, WHOLE, DATA)
        inside.wait(20)
        writer.abort()
        go_on.set()
        assert written.exception() is None
    assert listing(tmp_path) == []


counts_open_files = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="open files are listed in /proc"
)


@counts_open_files
def test_no_file_stays_open(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, DATA)
    storage.read(path)
    before = len(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            storage.write(path, DATA, overwrite=True)
            storage.read(path)
            begin(storage, path, overwrite=True).abort()
            with pytest.raises(Exception, match="nix"):
                storage.open(str(path), dataset="nix")
    assert len(os.listdir("/proc/self/fd")) == before


@counts_open_files
def test_a_reader_that_is_dropped_closes_its_file(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, DATA)
    storage.read(path)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    storage.open(str(path)).read(WHOLE, np.empty_like(DATA))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_of_very_many_files_arrives_whole(tmp_path):
    from lazyflow_ops_io.zarr_reader import open_zarr
    from lazyflow_ops_io.zarr_writer import create_zarr

    writer = create_zarr(
        str(tmp_path / "a.zarr"), META.replace(shape=(12, 12, 12)), chunks=(1, 1, 12), compression=None
    )
    data = np.random.default_rng(0).integers(1, 99, (12, 12, 12), np.uint8)
    writer.write(writer.meta.roi, data)
    for number in range(1000):
        (writer._target.temporary / str(number)).touch()
    size = writer.commit()
    assert size == sum(f.stat().st_size for f in (tmp_path / "a.zarr").rglob("*") if f.is_file())
    with open_zarr(str(tmp_path / "a.zarr")) as reader:
        out = np.empty_like(data)
        reader.read(reader.meta.roi, out)
    np.testing.assert_array_equal(out, data)


def test_a_write_that_is_cancelled_stops_before_the_next_piece(storage, tmp_path, monkeypatch):
    shape, block, pieces = (16, 16, 16), Roi((0, 0, 0), (16, 8, 16)), []
    chunks = {"chunks": (1, 8, 16)} if storage.name in ("hdf5", "zarr2", "zarr3") else {}
    writer = storage.create(
        str(tmp_path / f"a{storage.suffix}"), ArrayMeta(shape, "uint8", "zyx"), **storage.options, **chunks
    )

    def write():
        writer.write(block, np.ones(block.shape, np.uint8))

    def cancelling(original):
        def write_piece(*arguments):
            pieces.append(arguments)
            request.cancel()
            return original(*arguments)

        return write_piece

    monkeypatch.setattr(DiskFile, "write_at", cancelling(DiskFile.write_at))
    monkeypatch.setattr(zarr_writer, "write_file", cancelling(zarr_writer.write_file))
    with ThreadedScheduler(1) as scheduler:
        request = Request(write, scheduler=scheduler)
        is_cancelled = threading.Event()  # whoever waited for it would keep it alive
        request.on_cancelled(is_cancelled.set)
        request.submit()
        assert is_cancelled.wait(20)
    assert len(pieces) <= 2  # HDF5 itself may note where the first chunk is
    writer.abort()
    assert list(tmp_path.iterdir()) == []
