"""What needs imagecodecs or hdf5plugin is read with them; the environment `codecs` of tox has both."""

from __future__ import annotations

import numpy as np
import pytest

imagecodecs = pytest.importorskip("imagecodecs", reason="in the environment `codecs` of tox")
hdf5plugin = pytest.importorskip("hdf5plugin", reason="in the environment `codecs` of tox")

import h5py  # noqa: E402 - after the skips
import tifffile  # noqa: E402
from lazyflow_ops_io.hdf5_reader import open_hdf5  # noqa: E402
from lazyflow_ops_io.tiff_reader import open_tiff  # noqa: E402

from lazyflow_core.errors import FormatError  # noqa: E402


def read(opener, path):
    with opener(str(path)) as reader:
        out = np.empty(reader.meta.shape, reader.meta.dtype)
        reader.read(reader.meta.roi, out)
        return out


COLOURS = (np.indices((70, 90)).sum(0)[..., np.newaxis] + np.array([0, 40, 80])).astype(np.uint8)
LOSSY = {"jpeg", "webp", "jpegxr"}


@pytest.mark.parametrize(
    "layout", [{}, {"tile": (32, 32)}, {"rowsperstrip": 16}], ids=["one", "tiles", "strips"]
)
@pytest.mark.parametrize(
    "codec",
    ["lzw", "packbits", "zstd", "lzma", "jpeg", "jpeg2000", "webp", "png", "jpegxl", "jpegxr", "lerc"],
)
def test_compressions_of_images_are_read_as_tifffile_reads_them(tmp_path, codec, layout):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COLOURS, photometric="rgb", compression=codec, **layout)
    found = read(open_tiff, path)
    np.testing.assert_array_equal(found, tifffile.imread(path))
    if codec not in LOSSY:
        np.testing.assert_array_equal(found, COLOURS)


@pytest.mark.parametrize("codec", ["lzw", "jpeg", "jpeg2000", "webp", "png", "jpegxl", "lerc"])
def test_an_image_that_is_larger_than_its_tile_is_refused(tmp_path, codec):
    with tifffile.TiffWriter(tmp_path / "large.tif") as tif:
        tif.write(
            np.zeros((2048, 2048, 3), np.uint8), photometric="rgb", compression=codec, tile=(2048, 2048)
        )
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(np.zeros((64, 64, 3), np.uint8), photometric="rgb", compression=codec, tile=(64, 64))
    with tifffile.TiffFile(tmp_path / "large.tif") as tif:
        page = tif.pages[0]
        tif.filehandle.seek(page.dataoffsets[0])
        packed = tif.filehandle.read(page.databytecounts[0])
    offset = (tmp_path / "a.tif").stat().st_size
    with open(tmp_path / "a.tif", "ab") as file:
        file.write(packed)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        tif.pages[0].tags["TileOffsets"].overwrite(offset)
        tif.pages[0].tags["TileByteCounts"].overwrite(len(packed))
    if codec == "lzw":  # which is not unpacked further than needed
        assert not read(open_tiff, tmp_path / "a.tif").any()
    else:
        with pytest.raises(FormatError, match=r"a\.tif"):
            read(open_tiff, tmp_path / "a.tif")


PLUGINS = {
    "blosc": hdf5plugin.Blosc(), "blosc2": hdf5plugin.Blosc2(), "bitshuffle": hdf5plugin.Bitshuffle(),
    "lz4": hdf5plugin.LZ4(), "zstd": hdf5plugin.Zstd(), "bzip2": hdf5plugin.BZip2(),
    "zfp": hdf5plugin.Zfp(reversible=True),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["u2", "f4", "i8"])
@pytest.mark.parametrize("name", PLUGINS)
def test_filters_of_hdf5plugin_are_read(tmp_path, name, dtype):
    data = np.random.default_rng(0).integers(0, 50, (21, 33)).astype("i4" if name == "zfp" else dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=data, chunks=(10, 16), **PLUGINS[name])
    np.testing.assert_array_equal(read(open_hdf5, tmp_path / "a.h5"), data)
