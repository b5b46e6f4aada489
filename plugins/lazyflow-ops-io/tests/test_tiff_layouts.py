"""TIFF files in every layout are read as tifffile reads them, and unpacked within bounds."""

from __future__ import annotations

import io
import itertools
import lzma
import random
import struct
import zlib

import numcodecs
import numpy as np
import pytest
import tifffile
from lazyflow_ops_io import _tiff_decode, tiff_reader
from lazyflow_ops_io._tiff_decode import _look_at_jpeg, _look_at_jpeg2k
from lazyflow_ops_io.tiff_reader import open_tiff

from lazyflow_core.errors import FormatError
from lazyflow_core.roi import Roi


def read(path, roi=None, **options):
    with open_tiff(str(path), **options) as reader:
        roi = roi or reader.meta.roi
        out = np.empty(roi.shape, reader.meta.dtype)
        reader.read(roi, out)
        return out


def refusal(path, **options):
    with pytest.raises(FormatError) as caught:
        read(path, **options)
    assert path.name in str(caught.value)
    return str(caught.value)


def layout_of(seed):
    """Return an array, what tifffile is to write it with, and the letters of its dimensions."""
    rng = random.Random(seed)
    dtype = rng.choice(["u1", "u2", "i2", "u4", "f4", "f8", "i8", "u8", "?"])
    side = lambda: rng.choice([1, 2, 16, 33, 50])  # noqa: E731
    kind = rng.choice(["plain", "plain", "ome", "imagej", "shaped"])
    if kind == "imagej":
        dtype = rng.choice(["u1", "u2", "f4"])
    if kind == "ome" and dtype in ("i8", "u8"):
        dtype = "u2"
    letters = rng.choice(["YX", "ZYX", "TYX", "CYX", "TZYX", "TCYX"] + (["ZCYX"] if kind == "imagej" else []))
    shape = [rng.choice([1, 2, 3]) for _ in letters[:-2]] + [side(), side()]
    options = {"photometric": "minisblack", "metadata": {"axes": letters}}
    if rng.random() < 0.25 and dtype in ("u1", "u2"):
        if rng.random() < 0.5 or kind == "imagej":
            shape, letters, options["planarconfig"] = [*shape, 3], letters + "S", "contig"
        else:
            shape, options["planarconfig"] = [*shape[:-2], 3, *shape[-2:]], "separate"
            letters = letters[:-2] + "SYX"
        options |= {"photometric": "rgb", "metadata": {"axes": letters}}
    if kind == "plain":
        options["metadata"] = None
    elif kind != "shaped":
        options[kind] = True
    if kind != "imagej":
        options["bigtiff"] = rng.random() < 0.3
        options["byteorder"] = rng.choice("<>")
        if rng.random() < 0.5:
            options["tile"] = rng.choice([(16, 16), (32, 16), (64, 48)])
    else:
        options["byteorder"] = ">"
    if "tile" not in options and rng.random() < 0.6:
        options["rowsperstrip"] = rng.choice([1, 5, 16, 100])
    options["compression"] = rng.choice([None, "deflate", "adobe_deflate" if kind == "plain" else "lzma"])
    if options["compression"] and np.dtype(dtype).kind in "iu" and rng.random() < 0.4:
        options["predictor"] = 2
    data = np.random.default_rng(seed).integers(0, 2 if dtype == "?" else 99, shape)
    return data.astype(dtype), options


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_layouts_are_read_as_tifffile_reads_them(tmp_path, first):
    path = tmp_path / "a.tif"
    read_ones = 0
    for seed in range(first, first + 20):
        data, options = layout_of(seed)
        try:
            tifffile.imwrite(path, data, **options)
        except (ValueError, TypeError, KeyError, NotImplementedError):
            continue  # tifffile writes no such file
        with tifffile.TiffFile(path) as tif:
            series = len(tif.series)
            try:
                expected = tif.series[0].asarray()
            except IndexError:  # ImageJ files of single pixels, which tifffile writes and does not read
                refusal(path)
                continue
        found = read(path, dataset="0" if series > 1 else None)
        np.testing.assert_array_equal(found.squeeze(), expected.squeeze(), err_msg=f"{seed} {options}")
        if series == 1:
            np.testing.assert_array_equal(found.ravel(), data.ravel(), err_msg=f"{seed} {options}")
        roi = Roi([n // 3 for n in found.shape], [n - n // 4 for n in found.shape])
        part = read(path, roi, dataset="0" if series > 1 else None)
        np.testing.assert_array_equal(part, found[roi.slicing], err_msg=f"{seed} {options}")
        read_ones += 1
    assert read_ones >= 10


def test_a_pyramid_gives_its_finest_level(tmp_path):
    data = np.arange(128 * 96, dtype=np.uint16).reshape(128, 96)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", bigtiff=True) as tif:
        common = {"tile": (32, 32), "compression": "deflate", "photometric": "minisblack"}
        tif.write(data, subifds=2, metadata={"axes": "YX"}, **common)
        tif.write(data[::2, ::2], subfiletype=1, **common)
        tif.write(data[::4, ::4], subfiletype=1, **common)
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tif"), data)


# ------------------------------------------------------------------------------- written here, tag by tag


def write_tiff(path, strips, width, length, *, order="<", bits=8, compression=1, rows=None, dtype=1, **more):
    """Write a TIFF file of one page of packed strips; more tags by number, e.g. ``_317=2``."""
    tags = {
        256: width, 257: length, 258: bits, 259: compression, 262: 1, 277: 1, 278: rows or length, 339: dtype,
        **{int(k[1:]): v for k, v in more.items()},
    }  # fmt: skip
    begin, offsets = 8, []
    for strip in strips:
        offsets.append(begin)
        begin += len(strip)
    lists = begin
    begin += 8 * len(strips)
    entries = {tag: struct.pack(f"{order}HHIHxx", tag, 3, 1, value) for tag, value in tags.items()}
    counts = [len(s) for s in strips]
    for tag, place, single in ((273, lists, offsets[0]), (279, lists + 4 * len(strips), counts[0])):
        value = single if len(strips) == 1 else place
        entries[tag] = struct.pack(f"{order}HHII", tag, 4, len(strips), value)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries[t] for t in sorted(entries))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, begin)
    listed = struct.pack(f"{order}{2 * len(strips)}I", *offsets, *counts)
    path.write_bytes(head + b"".join(strips) + listed + directory + bytes(4))
    return path


PIXELS = (np.arange(30 * 20).reshape(30, 20) % 251).astype("u1")
STRIPS = [PIXELS[i : i + 8].tobytes() for i in range(0, 30, 8)]


def packbits(data):
    """Pack bytes as runs and literals by turns."""
    out = bytearray()
    for _, group in itertools.groupby(enumerate(data), lambda item: item[0] // 5):
        run = bytes(value for _, value in group)
        out += bytes([len(run) - 1]) + run if len(set(run)) > 1 else bytes([257 - len(run), run[0]])
    return bytes(out) + b"\x80"


def stream_of_zstd(data):
    """Return a frame of one raw block that does not say its size, as libtiff writes them."""
    return b"\x28\xb5\x2f\xfd\x00\x58" + (len(data) << 3 | 1).to_bytes(3, "little") + data


COMPRESSIONS = {
    "packbits": (32773, packbits),
    "lzma": (34925, lzma.compress),
    "zstd": (50000, numcodecs.Zstd().encode),
    "zstd of libtiff": (50000, stream_of_zstd),
    "deflate": (32946, zlib.compress),
}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_bytes_are_unpacked_without_imagecodecs(tmp_path, name, monkeypatch):
    monkeypatch.setattr(_tiff_decode, "_imagecodecs", lambda: None)
    number, pack = COMPRESSIONS[name]
    path = write_tiff(tmp_path / "a.tif", map_(pack, STRIPS), 20, 30, compression=number, rows=8)
    np.testing.assert_array_equal(read(path), PIXELS)
    if name != "zstd of libtiff":  # which has to fit exactly
        padded = [*STRIPS[:3], STRIPS[3] + bytes(40)]  # some programs fill the last strip
        path = write_tiff(tmp_path / "b.tif", map_(pack, padded), 20, 30, compression=number, rows=8)
        np.testing.assert_array_equal(read(path), PIXELS)
    for length in (100, 50_000):
        wrong = map_(pack, [bytes(length)] * 4)
        path = write_tiff(tmp_path / "c.tif", wrong, 20, 30, compression=number, rows=8)
        if (name, length) == ("packbits", 50_000):  # which is not unpacked further than needed
            assert not read(path).any()
        else:
            refusal(path)


def map_(function, items):
    return [function(item) for item in items]


@pytest.mark.parametrize("number", [2, 4, 5, 7, 34712, 34887, 50001])
def test_what_needs_imagecodecs_is_refused_when_opening_and_says_so(tmp_path, number, monkeypatch):
    monkeypatch.setattr(_tiff_decode, "_imagecodecs", lambda: None)
    path = write_tiff(tmp_path / "a.tif", STRIPS, 20, 30, compression=number, rows=8)
    with pytest.raises(FormatError, match=r"a\.tif.*pip install lazyflow-ops-io\[codecs\]"):
        open_tiff(str(path))


def test_unknown_compressions_bits_and_predictors_are_refused_when_opening(tmp_path):
    path = write_tiff(tmp_path / "a.tif", STRIPS, 20, 30, compression=65001, rows=8)
    with pytest.raises(FormatError, match="method 65001"):
        open_tiff(str(path))
    path = write_tiff(tmp_path / "a.tif", [zlib.compress(PIXELS)], 20, 30, compression=8, _317=9)
    with pytest.raises(FormatError, match="predictor 9"):
        open_tiff(str(path))
    path = write_tiff(tmp_path / "a.tif", [bytes(3 * 600)], 20, 30, bits=24, dtype=3)
    with pytest.raises(FormatError, match="24 bits"):
        open_tiff(str(path))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4, 5, 10, 12, 14, 24])
def test_packed_bits_are_unpacked(tmp_path, bits, order):
    data = np.random.default_rng(bits).integers(0, 2**bits, (9, 13))
    rows = b""
    for row in data:
        text = "".join(format(value, f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        rows += bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    for compression, pack in ((1, bytes), (8, zlib.compress)):
        path = write_tiff(
            tmp_path / "a.tif", [pack(rows)], 13, 9, order=order, bits=bits, compression=compression
        )
        np.testing.assert_array_equal(read(path), data)


def test_bits_in_the_other_order_are_turned(tmp_path):
    mirrored = bytes(int(format(b, "08b")[::-1], 2) for b in PIXELS.tobytes())
    path = write_tiff(tmp_path / "a.tif", [zlib.compress(mirrored)], 20, 30, compression=8, _266=2)
    with pytest.raises(FormatError):  # the packed bytes are the ones to turn
        read(path)
    packed = bytes(int(format(b, "08b")[::-1], 2) for b in zlib.compress(PIXELS))
    path = write_tiff(tmp_path / "a.tif", [packed], 20, 30, compression=8, _266=2)
    np.testing.assert_array_equal(read(path), PIXELS)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [16, 32, 64])
def test_the_predictor_of_floats_is_undone(tmp_path, bits, order):
    data = np.random.default_rng(bits).normal(size=(6, 11)).astype(f">f{bits // 8}")
    planes = data.view("u1").reshape(6, 11, -1).transpose(0, 2, 1).reshape(6, -1)
    differences = np.diff(planes, axis=1, prepend=np.zeros((6, 1), "u1"))
    path = write_tiff(
        tmp_path / "a.tif", [zlib.compress(differences)], 11, 6, order=order, bits=bits, compression=8,
        dtype=3, _317=3,
    )  # fmt: skip
    np.testing.assert_array_equal(read(path), data)


def test_images_in_strips_that_declare_more_than_their_strip_are_refused():
    frame = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0" + struct.pack(">HBHHB", 8, 8, 60000, 60000, 3)
    with pytest.raises(ValueError, match="10800000000 bytes"):
        _look_at_jpeg(frame, 10_000)
    _look_at_jpeg(frame, 2**40)
    siz = b"\xff\x4f\xff\x51" + struct.pack(">HHIIIIIIIIH", 41, 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0, 3)
    with pytest.raises(ValueError, match="10800000000 bytes"):
        _look_at_jpeg2k(b"jp2 " + siz, 10_000)
    _look_at_jpeg2k(siz, 2**40)
    with pytest.raises(ValueError, match="no header"):
        _look_at_jpeg2k(b"nothing", 2**40)


# --------------------------------------------------------------------------------------------------- hostile


def test_a_page_without_an_image_is_refused_however_many_follow(tmp_path):
    with open(tmp_path / "a.tif", "wb") as file:
        file.write(b"II*\0" + struct.pack("<I", 8))
        for i in range(1000):
            following = 8 + 18 * (i + 1) if i < 999 else 0
            file.write(struct.pack("<HHHIII", 1, 256, 3, 1, 1, following))
    assert "page 1 is no image" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("place", [10**6, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_page_beyond_the_end_of_a_big_file_is_refused_in_words(tmp_path, place):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, bigtiff=True)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    struct.pack_into("<Q", data, 8, place)
    (tmp_path / "a.tif").write_bytes(data)
    assert "page 1 is described beyond its end" in refusal(tmp_path / "a.tif")


def test_an_image_that_is_larger_than_its_file_is_refused_in_words(tmp_path):
    path = write_tiff(tmp_path / "a.tif", [PIXELS.tobytes()], 60000, 60000)
    assert "expected 3600000008" in refusal(path) or "beyond its end" in refusal(path)


def test_tags_that_claim_the_file_again_and_again_are_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", STRIPS, 20, 30, rows=8)
    data = path.read_bytes()
    place = len(data)
    tags = [struct.pack("<HHII", 40000 + i, 1, 2**20, 8) for i in range(100)]
    directory = data[struct.unpack_from("<I", data, 4)[0] + 2 : -4]
    count = len(directory) // 12 + len(tags)
    data = data[:4] + struct.pack("<I", place) + data[8:]
    path.write_bytes(data + struct.pack("<H", count) + directory + b"".join(tags) + bytes(2**20))
    assert "tags up to page 1 claim 104857632 bytes" in refusal(path)


def described(path, text):
    tifffile.imwrite(path, PIXELS, description=text, metadata=None)
    return path


OME = (
    '<?xml version="1.0"?>{}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{}<Image '
    'ID="Image:0" Name="{}"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="20" SizeY="30" '
    'SizeZ="1" SizeC="1" SizeT="1"><TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
)


def test_xml_that_defines_entities_or_never_ends_is_refused(tmp_path):
    assert (read(described(tmp_path / "a.tif", OME.format("", "", "a"))) == PIXELS).all()
    (tmp_path / "secret").write_text("secret")
    entity = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>'
    assert "document type" in refusal(described(tmp_path / "a.tif", OME.format(entity, "", "&e;")))
    more = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    laughs = f'<!DOCTYPE x [<!ENTITY l0 "lol">{more}]>'
    assert "document type" in refusal(described(tmp_path / "a.tif", OME.format(laughs, "", "&l11;")))
    deep = "<a>" * 100_000 + "</a>" * 100_000
    assert "nested deeper" in refusal(described(tmp_path / "a.tif", OME.format("", deep, "")))


def test_smaller_levels_that_name_their_own_page_end(tmp_path):
    path = write_tiff(tmp_path / "a.tif", [PIXELS.tobytes()], 20, 30)
    data = bytearray(path.read_bytes())
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    entry = struct.pack("<HHII", 330, 4, 1, place)
    at = place + 2 + 12 * (count - 1)  # before tag 339
    data[place : place + 2] = struct.pack("<H", count + 1)
    data[at:at] = entry
    path.write_bytes(data)
    np.testing.assert_array_equal(read(path), PIXELS)


def test_a_stream_reads_like_a_file(tmp_path):
    from lazyflow_ops_io._reader import PreadFile, PreadStream

    path = write_tiff(tmp_path / "a.tif", STRIPS, 20, 30, rows=8)
    with PreadFile(path) as raw, open(path, "rb") as file:
        ours = io.BufferedReader(PreadStream(raw))
        for place, whence, count in ((0, 0, 5), (-7, 2, 100), (3, 0, -1), (10**6, 0, 3)):
            assert ours.seek(place, whence) == file.seek(place, whence)
            assert ours.read(count) == file.read(count)


# ------------------------------------------------------------------------------------------------- many pages


def many_pages_of(seed):
    """Return pages, and what tifffile is to write each of them with."""
    rng = random.Random(seed)
    dtype = rng.choice(["u1", "u2", "i2", "f4", "u8", "?"])
    shape = [rng.randint(16, 40), rng.choice([1, 8, 33]), rng.choice([1, 16, 50])]
    options = {"photometric": "minisblack", "metadata": None, "contiguous": False}
    if rng.random() < 0.2 and dtype == "u1":
        shape, options["photometric"] = [*shape, 3], "rgb"
    options["compression"] = rng.choice([None, "deflate", "lzma"])
    if rng.random() < 0.4:
        options["tile"] = rng.choice([(16, 16), (32, 16)])
    elif rng.random() < 0.6:
        options["rowsperstrip"] = rng.choice([1, 5])
    if rng.random() < 0.4:
        options |= {
            "description": rng.choice(["page", "a page of many"]),
            "software": "s" * rng.randint(1, 9),
        }
    if rng.random() < 0.2 and not options["compression"] and "tile" not in options:
        options["contiguous"] = True
    data = np.random.default_rng(seed).integers(0, 2 if dtype == "?" else 99, shape).astype(dtype)
    return data, options, {"bigtiff": rng.random() < 0.3, "byteorder": rng.choice("<>")}


@pytest.mark.parametrize("first", range(0, 24, 8))
def test_many_pages_that_are_alike_are_read_as_tifffile_reads_them(tmp_path, first):
    path = tmp_path / "a.tif"
    for seed in range(first, first + 8):
        data, options, order = many_pages_of(seed)
        with tifffile.TiffWriter(path, **order) as tif:
            for number, page in enumerate(data):
                tif.write(page, **{**options, "extratags": [(297, 3, 2, (number, len(data)), True)]})
        expected = tifffile.imread(path)
        np.testing.assert_array_equal(read(path).squeeze(), expected.squeeze(), err_msg=f"{seed} {options}")


def test_pages_that_are_alike_are_not_parsed_one_by_one(tmp_path, monkeypatch):
    """tifffile takes a quarter of a minute for 200 000 of them."""
    path, data = tmp_path / "a.tif", np.arange(200 * 16 * 16, dtype=np.uint16).reshape(200, 16, 16)
    with tifffile.TiffWriter(path) as tif:
        for page in data:
            tif.write(page, contiguous=False, compression="deflate", metadata=None, description="one of many")
    parsed = []
    for kind in (tifffile.TiffPage, tifffile.TiffFrame):
        original = kind.__init__
        monkeypatch.setattr(
            kind, "__init__", lambda self, *a, _o=original, **k: (parsed.append(1), _o(self, *a, **k))[1]
        )
    np.testing.assert_array_equal(read(path), data)
    assert len(parsed) == 1


@pytest.mark.parametrize("differs", ["length", "dtype", "compression", "colors"])
def test_a_page_that_is_not_like_the_others_is_no_part_of_their_series(tmp_path, differs):
    path, pages = tmp_path / "a.tif", [np.full((8, 16), i, np.uint8) for i in range(40)]
    options = [{} for _ in pages]
    if differs == "length":
        pages[20] = np.zeros((9, 16), np.uint8)
    elif differs == "dtype":
        pages[20] = np.zeros((8, 16), np.uint16)
    elif differs == "compression":
        options[20] = {"compression": "deflate"}
    else:
        pages[20], options[20] = np.zeros((8, 16, 3), np.uint8), {"photometric": "rgb"}
    with tifffile.TiffWriter(path) as tif:
        for page, more in zip(pages, options, strict=True):
            tif.write(page, contiguous=False, metadata=None, **{"photometric": "minisblack", **more})
    assert "holds 2 series" in refusal(path)  # tifffile itself looks at three pages and takes them for one
    np.testing.assert_array_equal(read(path, dataset="0"), np.stack(pages[:20] + pages[21:]))
    np.testing.assert_array_equal(read(path, dataset="1"), pages[20])


def test_so_many_pages_that_are_not_alike_are_refused(tmp_path, monkeypatch):
    """Each would take 10 kB."""
    monkeypatch.setattr(tiff_reader, "_MOST_UNLIKE", 30)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for i in range(40):
            tif.write(np.zeros((8 + (i == 20), 16), np.uint8), contiguous=False, metadata=None)
    assert "has 40 pages that are not all alike" in refusal(path)
    tifffile.imwrite(path, np.zeros((40, 8, 16), np.uint8), ome=True, compression="deflate")
    assert read(path).shape == (40, 8, 16)


def test_a_first_page_without_byte_counts_is_read_as_tifffile_reads_it(tmp_path):
    path, pages = tmp_path / "a.tif", [np.full((8, 16), i, np.uint8) for i in range(20)]
    with tifffile.TiffWriter(path) as tif:
        for page in pages:
            tif.write(page, contiguous=False, metadata=None)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].tags[279].offset
    data = bytearray(path.read_bytes())
    data[at : at + 2] = struct.pack("<H", 281)  # another tag in its place
    path.write_bytes(data)
    np.testing.assert_array_equal(read(path), np.stack(pages))


@pytest.mark.parametrize("tag", ["places", "list"])
def test_a_page_of_many_that_lies_beyond_the_end_is_refused(tmp_path, tag):
    path, data = tmp_path / "a.tif", np.arange(20 * 16 * 16, dtype=np.uint8).reshape(20, 16, 16)
    with tifffile.TiffWriter(path) as tif:
        for page in data:
            tif.write(page, contiguous=False, rowsperstrip=16 if tag == "places" else 4, metadata=None)
    with tifffile.TiffFile(path) as tif:
        entry = tif.pages[17].aspage().tags[273]
        at = entry.offset + 8
    damaged = bytearray(path.read_bytes())
    damaged[at : at + 4] = struct.pack("<I", 2**31)
    path.write_bytes(damaged)
    assert "beyond its end" in refusal(path) or "it ends at byte" in refusal(path)
