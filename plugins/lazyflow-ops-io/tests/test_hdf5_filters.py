"""Chunks of HDF5 are unpacked here where we know their filters; what goes to HDF5 is looked at before."""

from __future__ import annotations

import base64
import contextlib
import struct
import sys
import types
import zlib

import h5py
import numpy as np
import pytest
from lazyflow_ops_io import _hdf5_filters
from lazyflow_ops_io.hdf5_reader import open_hdf5

from lazyflow_core.errors import FormatError, StorageError

DATA = (np.arange(203) // 8 * 5).astype("<u2")

#: DATA as the filters of hdf5plugin 7.1 pack it: number of the filter, its values, the chunk.
PACKED = {
    "blosc": (32001, (2, 2, 2, 406, 5, 1, 1),
        "0s$ccmH_|&mH_|&lK=n!6aWAKYybcN6954K69oYP6AA$U6Au9Z6BGde6Bz*j6CMEo6C(it6DR=y6D<J%6EXn+6E^_>6FdO`6"
        "F~t06Gj056H5UA6HoyF6IB5K6IuZP6JG%U6J!AZ6KMee6K(+j6LSFouy}ZQczAetczu0+3jhEB9{>RWvQPj30000"
    ),
    "blosc-zlib": (32001, (2, 2, 2, 406, 5, 2, 4),
        "0s&+KmH_|&mH_|&b^rhX6aWAKD*ylhcwS>*Kn1L5kP8j+qd^fgD2WE;(4aCJ)Ifu}XwV1^nxjD*1Ox#6nG3lu0001ZUSqIfu"
        "wigSgKlWh8x01a!B8|9g$Co%U<w+{M1y%~uow+iput)&1OW8oB%l"
    ),
    "zstd": (32015, (19,),
        "D77#BV3q(y0RZ>_1qu%o86G1jEiyMeK}JhZRa#$UX>N0PeE@v`eE=C`0pQ0BL@N"
    ),
    "lz4": (32004, (0,),
        "000000004&0004&0001M8vp?S8wCOY8wvsd8xH~i8x#Tn8yNxs8y*4x8zTY$8z=$*8!Z9=8!`d_8#e*~8$1F48$kj98%6>E8"
        "%qKJ8&CoO8&v`T8(IPY8(#td8)O0i8)*Un8*Tys8*>5x8+ZZ$V0{360DS-"
    ),
    "lz4-blocks": (32004, (256,),
        "000000004&000310000+8vp?S8wCOY8wvsd8xH~i8x#Tn8yNxs8y*4x8zTY$8z=$*8!Z9=8!`d_8#e*~8$1F48$kj98%6>E7"
        "E1yEPykB+O8@`>04yp{00ICTRRRDTS^@wYUjhIdWC8#iX#xNnZUO)sa{>Sxcme=meE@v`eE<"
    ),
    "bitshuffle": (32008, (0, 4, 2, 128, 0),
        "0RI600RI600RI600RI60009600096000960009600RI60{{a600RI60{{a60009600RR60|Nj60{{R6000000|Ns9000960{"
        "{R300000000030|NsC0{{R300000000000000000RR900000000000000000000000000000000000000000000000000000"
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "000000000000000000000000000000000RI600RI6000030{{R60{{R600RR60{{R300RR60|Nj90|NsC000030{{R300RR9"
        "0|NsC0|NsC0|Ns9000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00000000000000000000eE@v`eE<"
    ),
    "bitshuffle-lz4": (32008, (0, 4, 2, 0, 2),
        "000000004&001BW00016F981n00d6}0RR6400aOU000~S3kU!KE&u`p022TM009jE089WN0RK(^1_l5C6aWDd000625&r=I0"
        "15yCBLD>q00II401*HL0ssOM01pBH!%zSK0001e0DS;`00"
    ),
    "bitshuffle-zstd": (32008, (0, 4, 2, 64, 3, 3),
        "000000004&0001h0000fD77#BAb<q{06+l$0RR90000UA1&{y-mjwW!#bCvPmqC`mcB7TKHUIzsDk!xt{UCr10RTV%{{a900"
        "RI3A00k0U3~&c44WtO(jG!3~rLf&-Wv&eX001i}wJ-f3fE57%Pyqh`|Ns90{{R3A0E9yV9KZs~Iv@-)*q1?;z;>gRxi$a*02"
        "wH?Fa018fdBvi00960|Nj60000000001e0DS;`00"
    ),
    "bzip2": (307, (9,),
        "LRx4!F+o`-Q&|e8i$nkb0RMnO6oerNLJ))@2tp8qAqYYs0B}=AfHVLARV0}*U;vvXB^3{m6-vSMS}q@j;{k}sW;7a&hU0<A="
        "ypGk1jQmIl_wAp=)00B!i0cTG+H1"
    ),
}  # fmt: skip


def read(path, **options):
    with open_hdf5(str(path), **options) as reader:
        out = np.empty(reader.meta.shape, reader.meta.dtype)
        reader.read(reader.meta.roi, out)
        return out


def refusal(path, **options):
    with pytest.raises(FormatError) as caught:
        read(path, **options)
    assert path.name in str(caught.value)
    return str(caught.value)


def write_packed(path, chunk, *filters, shape=DATA.shape, dtype=DATA.dtype, mask=0, **options):
    """Write a dataset of one chunk that is packed already, with filters that need not be there."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(shape)
    for code, values in filters:
        plist.set_filter(code, h5py.h5z.FLAG_OPTIONAL, values)
    type_ = dtype if isinstance(dtype, h5py.h5t.TypeID) else h5py.h5t.py_create(np.dtype(dtype))
    with h5py.File(path, "w", **options) as file:
        dataset = h5py.h5d.create(file.id, b"a", type_, h5py.h5s.create_simple(shape), plist)
        dataset.write_direct_chunk((0,) * len(shape), chunk, mask)
    return path


@pytest.mark.parametrize("name", PACKED)
def test_filters_of_other_programs_are_undone_without_their_plugins(tmp_path, name):
    code, values, text = PACKED[name]
    chunk = base64.b85decode(text)
    path = write_packed(tmp_path / "a.h5", chunk, (code, values))
    np.testing.assert_array_equal(read(path), DATA)
    # Damaged everywhere, it gives other pixels or a sentence.
    for at in range(0, len(chunk), 7):
        write_packed(path, chunk[:at] + bytes([chunk[at] ^ 0xFF]) + chunk[at + 1 :], (code, values))
        with contextlib.suppress(FormatError):
            read(path)
    for cut in (0, 5, 11, 13, 17, len(chunk) // 2, len(chunk) - 1):
        refusal(write_packed(path, chunk[:cut] or b"\0", (code, values)))


@pytest.mark.parametrize("name", [n for n in PACKED if n != "bitshuffle"])
def test_a_chunk_is_not_unpacked_beyond_its_size_by_any_filter(tmp_path, name):
    code, values, text = PACKED[name]
    path = write_packed(tmp_path / "a.h5", base64.b85decode(text), (code, values), shape=(100,))
    assert "expected 200" in refusal(path)


def test_filters_in_any_order_are_undone(tmp_path):
    shuffled = DATA.view("u1").reshape(-1, 2).T.tobytes()
    packed = zlib.compress(shuffled)
    path = write_packed(tmp_path / "a.h5", packed, (2, (2,)), (1, (6,)))
    np.testing.assert_array_equal(read(path), DATA)
    packed = zlib.compress(DATA.tobytes())
    packed = packed[0::2][: len(packed) // 2] + packed[1::2] + packed[len(packed) // 2 * 2 :]
    path = write_packed(tmp_path / "b.h5", packed, (1, (6,)), (2, (2,)))
    np.testing.assert_array_equal(read(path), DATA)
    path = write_packed(tmp_path / "c.h5", zlib.compress(zlib.compress(DATA.tobytes())), (1, (6,)), (1, (6,)))
    np.testing.assert_array_equal(read(path), DATA)
    path = write_packed(tmp_path / "d.h5", zlib.compress(DATA.tobytes()), (1, (6,)), (1, (6,)), mask=2)
    np.testing.assert_array_equal(read(path), DATA)


def test_a_filter_that_is_not_there_is_refused_when_opening(tmp_path, monkeypatch):
    path = write_packed(tmp_path / "a.h5", b"packed", (32013, (1, 2)))
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)  # as if it were not installed
    _hdf5_filters._of_hdf5plugin.cache_clear()
    with pytest.raises(FormatError, match=r"a\.h5.*filter 32013 \(zfp\).*pip install hdf5plugin"):
        open_hdf5(str(path))
    path = write_packed(tmp_path / "b.h5", b"packed", (444, ()))
    with pytest.raises(FormatError, match=r"filter 444 \(without a name\)"):
        open_hdf5(str(path))
    plugin = types.SimpleNamespace(
        FILTERS={"zfp": 32013}, get_config=lambda: types.SimpleNamespace(registered_filters={"zfp": ""})
    )
    monkeypatch.setitem(sys.modules, "hdf5plugin", plugin)
    _hdf5_filters._of_hdf5plugin.cache_clear()
    open_hdf5(str(tmp_path / "a.h5")).close()
    _hdf5_filters._of_hdf5plugin.cache_clear()


# ------------------------------------------------------------------------------------- what goes to HDF5


def bomb():
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(50)) + packer.flush()


@pytest.mark.parametrize("second", [(6, (2, 0)), (32000, ()), (5, ())], ids=["scale-offset", "lzf", "n-bit"])
def test_what_hdf5_would_unpack_without_end_is_unpacked_here_before(tmp_path, second, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((16, 16))
        plist.set_filter(second[0], h5py.h5z.FLAG_OPTIONAL, second[1])
        plist.set_deflate(4)
        type_ = h5py.h5t.NATIVE_UINT16.copy()
        type_.set_precision(12)
        dataset = h5py.h5d.create(file.id, b"a", type_, h5py.h5s.create_simple((16, 16)), plist)
        data = np.arange(256, dtype="u2").reshape(16, 16) // 9
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, data)
    np.testing.assert_array_equal(read(tmp_path / "a.h5"), data)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["a"].id.write_direct_chunk((0, 0), bomb())
    asked = []
    original = h5py.Dataset.read_direct
    monkeypatch.setattr(h5py.Dataset, "read_direct", lambda *a, **k: asked.append(1) or original(*a, **k))
    refusal(tmp_path / "a.h5")
    assert not asked


def test_a_chunk_that_is_too_short_for_its_bits_never_reaches_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", data=np.arange(256, dtype="i4"), chunks=(256,), scaleoffset=0)
        _, packed = dataset.id.read_direct_chunk((0,))
        dataset.id.write_direct_chunk((0,), packed[: len(packed) // 2])
    assert "cannot be" in refusal(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["a"].id.write_direct_chunk((0,), struct.pack("<I", 2**31) + packed[4:])
    assert "2147483648 bits" in refusal(tmp_path / "a.h5")


def test_szip_that_says_another_size_never_reaches_hdf5(tmp_path):
    path = write_packed(tmp_path / "a.h5", struct.pack("<I", 2**32 - 1) + bytes(50), (4, (141, 16, 16, 203)))
    assert "szip says it holds 4294967295 bytes" in refusal(path)


def test_chunks_are_found_one_by_one_where_there_are_too_many_to_list(tmp_path, monkeypatch):
    from lazyflow_ops_io import hdf5_reader

    monkeypatch.setattr(hdf5_reader, "_MOST_INDEXED_CHUNKS", 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", (203,), "u2", chunks=(10,), compression="gzip", fillvalue=8)
        dataset[:150] = DATA[:150]
    expected = np.where(np.arange(203) < 150, DATA, 8)
    np.testing.assert_array_equal(read(tmp_path / "a.h5"), expected)


@pytest.mark.parametrize("block", [512, 4096])
@pytest.mark.parametrize("options", [{}, {"chunks": (50,)}, {"chunks": (50,), "compression": "lzf"}])
def test_positions_count_from_the_end_of_a_user_block(tmp_path, block, options):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=block) as file:
        file.create_dataset("a", data=DATA, **options)
    with open(tmp_path / "a.h5", "r+b") as file:
        file.write(b"#!/bin/sh")
    np.testing.assert_array_equal(read(tmp_path / "a.h5"), DATA)


# ------------------------------------------------------------------------------------------------ structure


def test_one_image_beside_texts_numbers_and_scales_needs_no_name(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["note"] = "measured on Monday"
        file["version"] = 5
        file["times"] = np.arange(3.0)
        file["raw"] = np.zeros((3, 4, 5), "u1")
        file["z"] = np.arange(3.0)
        file["z"].make_scale("z")
        file["raw"].dims[0].attach_scale(file["z"])
    with open_hdf5(str(tmp_path / "a.h5")) as reader:
        assert reader.meta.extra["io.dataset"] == "/raw"
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["other"] = np.zeros((3, 4), "u1")
    assert "3 datasets: /other, /raw, /times; give one" in refusal(tmp_path / "a.h5")


def test_a_virtual_dataset_says_where_its_pixels_are(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["src"] = np.arange(5)
        for name, source in (("inside", "."), ("outside", "other.h5")):
            layout = h5py.VirtualLayout((5,), "i8")
            layout[:] = h5py.VirtualSource(source, "src", (5,))
            file.create_virtual_dataset(name, layout)
    assert "in other datasets, 'src'; open those" in refusal(tmp_path / "a.h5", dataset="inside")
    assert "in other files, 'other.h5'; open those" in refusal(tmp_path / "a.h5", dataset="outside")


def test_locking_can_be_switched_off_as_for_hdf5_itself(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = DATA
        file.flush()
        with pytest.raises(StorageError, match="being written"):
            open_hdf5(str(tmp_path / "a.h5"))
        monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
        with contextlib.suppress(FormatError):  # HDF5 may see in the file itself that it is being written
            read(tmp_path / "a.h5")


def test_a_heap_of_links_that_is_packed_by_filters_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        for i in range(40):
            file[f"group/a rather long name of a dataset {i}"] = i
    data = bytearray((tmp_path / "a.h5").read_bytes())
    heap = data.index(b"FRHP")
    struct.pack_into("<H", data, heap + 7, 20)
    (tmp_path / "a.h5").write_bytes(data)
    assert "packed by filters" in refusal(
        tmp_path / "a.h5", dataset="group/a rather long name of a dataset 3"
    )
