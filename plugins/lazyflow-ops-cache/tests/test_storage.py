"""Blocks packed, on disk, and in files: the same pixels, counted byte by byte, whatever fails."""

import errno
import gc
import json
import logging
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from cache_cases import OpCounting
from hypothesis import given
from hypothesis import strategies as st
from lazyflow_core import Graph, Roi
from lazyflow_core.errors import ExecuteError, FormatError, StorageError
from lazyflow_core.request import InlineScheduler, ThreadedScheduler
from lazyflow_core.utility import MemoryLedger, memory_ledger

from lazyflow_ops_cache import block_cache, storage
from lazyflow_ops_cache.block_cache import OpBlockCache
from lazyflow_ops_cache.memory import memory_manager
from lazyflow_ops_cache.storage import Packed, Spilled, SpillFile

WHOLE = (slice(None),) * 2


@pytest.fixture(params=["numcodecs", "zlib"])
def codec(request, monkeypatch):
    if request.param == "numcodecs":
        pytest.importorskip("numcodecs", reason="an optional codec")
    else:
        monkeypatch.setattr(storage, "_fast", storage._Zlib)


def make(side=40, graph=None, **options):
    pixels = np.add.outer(np.arange(side), np.arange(side)).astype(np.uint32) // 7
    source = OpCounting(graph=graph or Graph(), image=pixels)
    return pixels, source, OpBlockCache(graph=source.graph, image=source.output, block=(10, 10), **options)


@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "<i4", "f8", "c16", "S3", "f4,u1", "M8[s]"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_pixels_of_any_kind_are_packed_and_unpacked(codec, dtype, order):
    data = np.asfortranarray(np.zeros((7, 9), dtype)) if order == "F" else np.zeros((7, 9), dtype)
    data.view(np.uint8) if order == "C" else None
    data[2:4, 1:] = np.ones((), dtype)
    packed = Packed(data)
    assert packed[WHOLE].dtype == data.dtype
    assert np.array_equal(packed[WHOLE], data)
    assert np.array_equal(packed[1:3, 2:5], data[1:3, 2:5])
    spilled = Spilled.written(data, SpillFile(), MemoryLedger(10**6).account("a"), 0)
    spilled.cool()
    assert np.array_equal(spilled[WHOLE], data)


@pytest.mark.parametrize("kind", ["memory", "compressed", "disk"])
def test_whatever_the_storage_a_block_is_computed_once_and_goes_when_it_is_dirty(codec, kind, budget):
    pixels, source, cache = make(storage=kind)
    for _ in range(2):
        assert np.array_equal(cache.output.read(), pixels)
    assert len(source.executed) == 16
    assert (cache.disk_bytes > 0) == (kind == "disk")
    assert cache.used_bytes == memory_manager().used_bytes
    assert (cache.used_bytes < pixels.nbytes) == (kind == "compressed")
    pixels[3, 3] = 99
    source.image.mark_dirty(Roi((3, 3), (4, 4)))
    assert np.array_equal(cache.output.read(), pixels)
    assert len(source.executed) == 17
    with cache.graph.snapshot():
        before = pixels.copy()
    source.image.assign(pixels * 2)
    assert np.array_equal(cache.output.read(), before * 2)
    cache.close()
    gc.collect()
    assert memory_manager().used_bytes == 0


def test_blocks_on_disk_outlive_the_budget_and_are_read_back(codec, budget):
    pixels, source, cache = make(storage="disk")
    budget(1000)
    for _ in range(3):
        assert np.array_equal(cache.output.read(), pixels)
    assert len(source.executed) == 16
    assert cache.used_bytes <= 1000
    budget(0)
    assert np.array_equal(cache.output.read(), pixels)
    assert (cache.used_bytes, len(source.executed)) == (0, 16)
    budget(10**6)
    cache.output.read()
    assert cache.used_bytes == pixels.nbytes
    assert memory_ledger().account("cache.blocks").used_bytes == pixels.nbytes


def test_a_place_in_the_file_is_used_again_but_not_as_long_as_somebody_reads_it():
    pixels, source, cache = make(graph=Graph(InlineScheduler()), storage="disk")
    cache.output.read()
    file, size = cache.plan.file, cache.disk_bytes
    held = {key: block.data for key, block in cache.plan.store.blocks.items()}
    source.image.mark_dirty()
    cache.output.read()
    assert cache.disk_bytes == 2 * size
    memory_manager().ledger.relieve()
    for (a, b), data in held.items():
        assert np.array_equal(data[WHOLE], pixels[10 * a : 10 * a + 10, 10 * b : 10 * b + 10])
    del held, data
    gc.collect()
    assert cache.disk_bytes == size
    for _ in range(5):
        source.image.mark_dirty()
        cache.output.read()
    assert file._end <= 3 * size


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 300)), max_size=60))
def test_what_is_written_to_places_is_read_back_whatever_was_given_up_before(steps):
    file, model = SpillFile(), {}
    for key, size in steps:
        if key in model:
            data, place = model.pop(key)
            assert file.read(place) == data
            file.given_up.append(place)
        else:
            data = bytes([key + 1]) * size
            model[key] = data, file.write(data)
        assert file.nbytes == sum(len(data) for data, _ in model.values())
    assert all(file.read(place) == data for data, place in model.values())
    for _, place in model.values():
        file.given_up.append(place)
    assert (file.nbytes, file._end, file._free) == (0, 0, [])


@pytest.mark.parametrize("broken", ["pwrite", "TemporaryFile"])
def test_a_full_disk_leaves_blocks_in_memory_and_says_so_once(monkeypatch, caplog, broken):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pixels, source, cache = make(storage="disk")
    cache.output.read(Roi((0, 0), (10, 20)))
    monkeypatch.setattr(os if broken == "pwrite" else storage.tempfile, broken, full)
    if broken == "TemporaryFile":
        pixels, source, cache = make(storage="disk")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert np.array_equal(cache.output.read(), pixels)
    assert len(source.executed) == 16
    (record,) = caplog.records
    assert "No space left on device. They are kept in memory; LAZYFLOW_SPILL_FOLDER" in record.getMessage()
    assert cache.disk_bytes == (0 if broken == "TemporaryFile" else cache.disk_bytes)
    monkeypatch.undo()
    source.image.mark_dirty()
    assert np.array_equal(cache.output.read(), pixels)
    assert cache.disk_bytes > 0


def test_a_write_in_pieces_is_whole(monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data[:3]), at))
    file = SpillFile()
    first, second = file.write(b"0123456789"), file.write(b"abcdefg")
    assert (file.read(first), file.read(second)) == (b"0123456789", b"abcdefg")


def test_a_disk_that_does_not_give_back_is_an_error_with_words(monkeypatch, budget):
    _, _, cache = make(storage="disk")
    cache.output.read()
    budget(0)

    def broken(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", broken)
    words = r"OpBlockCache\.output.*cannot be read from the disk: .*Input/output error"
    with pytest.raises(ExecuteError, match=words):
        cache.output.read()
    monkeypatch.undo()
    cache.output.read()


def test_a_killed_process_leaves_no_file_behind(tmp_path):
    program = (
        "import os, signal, numpy as np\n"
        "from lazyflow_core import Graph\n"
        "from lazyflow_ops_cache.block_cache import OpBlockCache\n"
        "cache = OpBlockCache(graph=Graph(), image=np.zeros((40, 40)), block=(10, 10), storage='disk')\n"
        "cache.output.read()\n"
        "assert cache.disk_bytes > 0\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {storage.FOLDER_VARIABLE: str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=False)
    assert done.returncode == -9
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["memory", "compressed", "disk"])
@pytest.mark.parametrize("blocks", [1, 0.5])
def test_a_budget_of_one_block_or_of_half_a_block_is_slower_not_wrong(budget, kind, blocks):
    with ThreadedScheduler(2) as scheduler, Graph(scheduler) as graph:
        pixels, source, cache = make(graph=graph, storage=kind)
        budget(int(blocks * 400))
        assert np.array_equal(cache.output.read(), pixels)
        assert len(source.executed) == 16
        assert np.array_equal(cache.output.read(), pixels)
        assert cache.used_bytes <= int(blocks * 400)


def test_what_is_computed_counts_while_it_is(budget):
    seen = []

    class OpLooks(OpCounting):
        def execute(self, slot, roi, out):
            seen.append(memory_ledger().account("cache.computing").used_bytes)
            super().execute(slot, roi, out)

    source = OpLooks(graph=Graph(), image=np.zeros((20, 20), "u4"))
    cache = OpBlockCache(graph=source.graph, image=source.output, block=(10, 10))
    cache.output.read(Roi((0, 0), (1, 1)))
    assert seen == [400]
    source.failing = {Roi((10, 10), (20, 20))}
    with pytest.raises(ExecuteError):
        cache.output.read(Roi((10, 10), (11, 11)))
    assert memory_ledger().account("cache.computing").used_bytes == 0
    assert cache.used_bytes == 400


@pytest.mark.parametrize("nth", range(4))
def test_a_block_for_which_there_is_no_memory_is_tried_once_more_after_others_were_dropped(nth, monkeypatch):
    pixels, _, cache = make(20)
    _, _, other = make(20)
    other.output.read()
    calls, real = [], block_cache._BlockRequest._read

    def read(request):
        calls.append(request)
        if len(calls) == nth + 1:
            raise MemoryError("no room")
        return real(request)

    monkeypatch.setattr(block_cache._BlockRequest, "_read", read)
    assert np.array_equal(cache.output.read(), pixels)
    assert (len(calls), other.used_bytes) == (5, 0)


def test_memory_that_is_short_for_good_is_an_error_and_the_graph_goes_on(monkeypatch):
    class OpShort(OpCounting):
        short = True

        def execute(self, slot, roi, out):
            if self.short:
                raise MemoryError("no room")
            super().execute(slot, roi, out)

    source = OpShort(graph=Graph(), image=np.arange(12))
    cache = OpBlockCache(graph=source.graph, image=source.output, block=(5,))
    with pytest.raises(ExecuteError, match=r"OpShort\.output.*MemoryError"):
        cache.output.read()
    assert cache.used_bytes == 0
    source.short = False
    assert np.array_equal(cache.output.read(), np.arange(12))


def test_a_report_names_each_cache(budget):
    first, second = make()[2], make()[2]
    first.output.read()
    second.output.read(Roi((0, 0), (1, 1)))
    (blocks,) = [report for report in memory_ledger().report() if report.name == "cache.blocks"]
    parts = [(part.name, part.nbytes, part.holdings) for part in blocks.parts if part.nbytes]
    assert parts == [("OpBlockCache", 6400, 16), ("OpBlockCache", 400, 1)]
    assert blocks.nbytes == 6800


# ------------------------------------------------------------------------------------------- saved, restored


@pytest.mark.parametrize("kind", ["memory", "compressed", "disk"])
def test_clean_blocks_are_saved_and_restored_and_not_computed_again(tmp_path, kind, budget):
    pixels, source, cache = make(storage=kind)
    cache.output.read(Roi((5, 5), (25, 25)))
    source.image.mark_dirty(Roi((0, 0), (1, 1)))
    assert cache.save(tmp_path / "a.blocks", fingerprint="cells, sigma 2") == 8
    _, source, other = make(storage=kind)
    assert other.restore(tmp_path / "a.blocks", fingerprint="cells, sigma 2") == 8
    assert other.restore(tmp_path / "a.blocks", fingerprint="cells, sigma 2") == 8
    assert np.array_equal(other.output.read(), pixels)
    assert len(source.executed) == 8
    assert other.used_bytes == memory_manager().used_bytes - cache.used_bytes
    source.image.mark_dirty()
    assert np.array_equal(other.output.read(), pixels)
    assert len(source.executed) == 24
    assert os.listdir(tmp_path) == ["a.blocks"]


def test_restored_blocks_take_no_more_than_the_budget(tmp_path, budget):
    pixels, _, cache = make()
    cache.output.read()
    cache.save(tmp_path / "a")
    _, _, other = make()
    budget(1200)
    other.restore(tmp_path / "a")
    assert other.used_bytes <= 1200
    assert np.array_equal(other.output.read(), pixels)


def test_blocks_of_something_else_are_refused_with_what_differs(tmp_path):
    _, _, cache = make()
    cache.output.read()
    cache.save(tmp_path / "a", fingerprint="x")
    for other, text in (
        (make(41)[2], r"shape '\[40, 40\]'; this cache has \[41, 41\]"),
        (make()[2], "fingerprint 'x'; this cache has ''"),
    ):
        with pytest.raises(FormatError, match=text):
            other.restore(tmp_path / "a")
    other = make()[2]
    other.block.value = (20, 10)
    with pytest.raises(FormatError, match="block"):
        other.restore(tmp_path / "a", fingerprint="x")
    with pytest.raises(StorageError, match="cannot be read"):
        other.restore(tmp_path / "none")
    with pytest.raises(StorageError, match="cannot be written"):
        cache.save(tmp_path / "none" / "a")


@pytest.mark.parametrize(
    "spoil", ["cut", "text", "member", "size", "outside", "no header", "list", "bomb", "bit"]
)
def test_a_damaged_file_of_blocks_is_refused_in_a_sentence(tmp_path, spoil):
    _, _, cache = make()
    cache.output.read()
    path = tmp_path / "a"
    cache.save(path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("lazyflow-blocks.json"))
    if spoil == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif spoil == "text":
        path.write_text("no archive")
    elif spoil == "bit":
        where = content.index(b"lazyflow-blocks.json") + 400
        path.write_bytes(
            content[:where] + bytes(byte ^ 255 for byte in content[where : where + 9]) + content[where + 9 :]
        )
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            if spoil != "no header":
                archive.writestr("lazyflow-blocks.json", json.dumps([] if spoil == "list" else header))
            name = {"member": "../../x", "outside": "4.0"}.get(spoil, "0.0")
            size = {"size": 399, "bomb": 10**8}.get(spoil, 400)
            archive.writestr(name, bytes(size))
    other = make()[2]
    with pytest.raises(FormatError, match=r"a'"):
        other.restore(path)


def test_a_full_disk_while_saving_leaves_the_old_file(tmp_path, monkeypatch):
    _, _, cache = make()
    cache.output.read()
    path = tmp_path / "a"
    cache.save(path)
    before = path.read_bytes()

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, full)
        with pytest.raises(StorageError, match="No space left"):
            cache.save(path)
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["a"]
