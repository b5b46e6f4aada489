"""The table of files in the documentation: each is made, read, compared with what was put in, and listed.

python plugins/lazyflow-ops-io/tests/test_table_of_files.py     # writes the table anew
"""

# ruff: noqa: E501  # a file is a line

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.plugins import open_reader
from lazyflow_core.plugins.files import AXES_GUESSED

PAGE = Path(__file__).parents[3] / "docs" / "io.md"
BEGIN, END = "<!-- table of files: made by a test -->", "<!-- end of the table -->"

PLANE = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50)
STACK = np.arange(3 * 40 * 50, dtype=np.uint8).reshape(3, 40, 50)
FIVE = np.arange(1 * 2 * 3 * 8 * 9, dtype=np.float32).reshape(1, 2, 3, 8, 9)


def tiff(data: np.ndarray, **options: Any) -> Callable[[Path], Any]:
    return lambda path: tifffile.imwrite(path, data, **options)


def imagej(lines: str) -> Callable[[Path], Any]:
    text = f"ImageJ=1.54f\nimages=3\n{lines}\nhyperstack=true\nmode=grayscale\n"
    options = {"resolution": (2, 4), "resolutionunit": 1, "photometric": "minisblack", "metadata": None}
    return tiff(STACK, description=text, **options)


def pyramid(path: Path) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(PLANE, subifds=1, tile=(16, 16), compression="deflate", metadata=metadata)
        tif.write(PLANE[::2, ::2], subfiletype=1, tile=(16, 16), compression="deflate")


def image(version: str, keys: str, scale: list[float]) -> dict[str, Any]:
    kinds = {"t": "time", "c": "channel"}
    axes: dict[str, Any] = {"axes": list(keys)}
    if version >= "0.4":
        axes = {"axes": [{"name": k, "type": kinds.get(k, "space")} for k in keys]}
        for axis in axes["axes"]:
            axis |= {"unit": "micrometer"} if axis["type"] == "space" else {}
    elif version < "0.3":
        axes = {}
    levels = [{"path": "0"}, {"path": "1"}]
    if version >= "0.4":
        for level, factor in zip(levels, (1, 2), strict=True):
            steps = [{"type": "scale", "scale": [*scale[:-2], *(factor * s for s in scale[-2:])]}]
            level["coordinateTransformations"] = steps
    return {"version": version, **axes, "datasets": levels}


def put_image(root: Path, key: str, version: str, data: np.ndarray, keys: str, **more: Any) -> None:
    content = {
        "multiscales": [image(version, keys, [1.0] * (data.ndim - 3) + [2.0, 0.5, 0.5][-data.ndim :])],
        **more,
    }
    form = 3 if version == "0.5" else 2
    attributes = {"ome": {"version": version, **content}} if form == 3 else content
    group = zarr.create_group(root, path=key, zarr_format=form, attributes=attributes)
    for level, pixels in (("0", data), ("1", data[..., ::2, ::2])):
        # In two steps for the oldest zarr-python that is promised.
        group.create_array(level, shape=pixels.shape, dtype=pixels.dtype, chunks=pixels.shape)[...] = pixels


def ome_zarr(version: str, *, labels: bool = False) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        put_image(path, "", version, FIVE, "tczyx")
        if labels:
            put_image(path, "labels/cells", version, FIVE[0, 0], "zyx", **{"image-label": {}})

    return make


def plate(version: str, *, rows: bool) -> Callable[[Path], None]:
    """Return what makes a plate; without ``rows`` its folders of rows are no groups, as some programs leave them."""

    def make(path: Path) -> None:
        put_image(path, "B/03/0", version, FIVE[0], "czyx")
        if not rows:
            for name in ("zarr.json", ".zgroup", ".zattrs"):
                (path / "B" / name).unlink(missing_ok=True)

    return make


def hdf5(**attributes: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("raw", data=STACK, chunks=(2, 16, 16), compression="gzip", shuffle=True)
            file["raw"].attrs.update(attributes)
            file["notes"] = "text beside it"

    return make


def shards(path: Path) -> None:
    options = {"shape": STACK.shape, "dtype": STACK.dtype, "chunks": (1, 10, 25), "shards": (2, 20, 50)}
    zarr.create_array(path, **options)[...] = (
        STACK  # zarr 3.0 writes torn shards where it gets the data at once
    )


def hdf5_packed(userblock: int = 0, **options: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with h5py.File(path, "w", userblock_size=userblock) as file:
            file.create_dataset("raw", data=STACK, chunks=(2, 16, 16), **options)

    return make


TAGS = Axes(["t", Axis("y", resolution=0.5), Axis("x", resolution=0.5)]).to_axistags()
IMAGES = {"tiles": {"tile": (16, 16)}, "deflate": {"compression": "deflate", "rowsperstrip": 7}}
OME = {"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "in"}}

#: What it is, the name of the file, what makes it, what is opened (a path in it, a dataset), and its pixels.
CASES: list[tuple[str, str, Callable[[Path], Any], str, str | None, np.ndarray]] = [
    ("TIFF, pages of strips", "a.tif", tiff(STACK, photometric="minisblack"), "", None, STACK),
    ("TIFF, deflated strips", "a.tif", tiff(PLANE, **IMAGES["deflate"]), "", None, PLANE),
    ("TIFF, tiles", "a.tif", tiff(STACK, photometric="minisblack", **IMAGES["tiles"]), "", None, STACK),
    ("TIFF, one row of tiles", "a.tif", tiff(PLANE[:1], **IMAGES["tiles"]), "", None, PLANE[:1]),
    ("TIFF, tiles of 16 × 16 × 16", "a.tif", tiff(STACK, photometric="minisblack", tile=(16, 16, 16), volumetric=True), "", None, STACK),
    ("TIFF, colors in planes", "a.tif", tiff(STACK, photometric="rgb", planarconfig="separate"), "", None, STACK),
    ("TIFF, int64", "a.tif", tiff(PLANE.astype("int64")), "", None, PLANE.astype("int64")),
    ("TIFF, 20 000 pixels per cm", "a.tif", tiff(PLANE, resolution=(2e4, 2e4), resolutionunit=3), "", None, PLANE),
    ("OME-TIFF, one plane, deflated, inches", "a.ome.tif", tiff(PLANE, **OME, **IMAGES["deflate"]), "", None, PLANE),
    ("OME-TIFF, one plane, tiles, inches", "a.ome.tif", tiff(PLANE, **OME, **IMAGES["tiles"]), "", None, PLANE),
    ("OME-TIFF, pyramid of tiles", "a.ome.tif", pyramid, "", None, PLANE),
    ("ImageJ, z and y with units of their own", "a.tif",
     imagej("slices=3\nspacing=-3\nunit=\\u03BCm\nyunit=nm\nzunit=mm"), "", None, STACK),
    ("ImageJ, movie in msec", "a.tif", imagej("frames=3\nunit=um\nfinterval=10\ntunit=msec"), "", None, STACK),
    ("ImageJ, movie in frames", "a.tif", imagej("frames=3\nunit=pixel\nfinterval=10\ntunit=frames"), "", None, STACK),
    *((f"OME-Zarr {v}", "a.zarr", ome_zarr(v), "", None, FIVE) for v in ("0.1", "0.2", "0.3", "0.4", "0.5")),
    ("OME-Zarr 0.4, the second level", "a.zarr", ome_zarr("0.4"), "", "1", FIVE[..., ::2, ::2]),
    *((f"OME-Zarr {v}, a level by its path", "a.zarr", ome_zarr(v), "0", None, FIVE) for v in ("0.1", "0.4", "0.5")),
    *((f"OME-Zarr {v}, labels", "a.zarr", ome_zarr(v, labels=True), "", "labels/cells", FIVE[0, 0])
      for v in ("0.4", "0.5")),
    ("OME-Zarr 0.5, a level of labels by its path", "a.zarr", ome_zarr("0.5", labels=True), "labels/cells/1", None,
     FIVE[0, 0, ..., ::2, ::2]),
    *((f"OME-Zarr {v}, a field of a plate", "a.zarr", plate(v, rows=True), "", "B/03/0", FIVE[0])
      for v in ("0.4", "0.5")),
    *((f"OME-Zarr {v}, a plate whose rows are no groups", "a.zarr", plate(v, rows=False), "", "B/03/0", FIVE[0])
      for v in ("0.4", "0.5")),
    ("OME-Zarr 0.4, a level of a field by its path", "a.zarr", plate("0.4", rows=False), "B/03/0/0", None, FIVE[0]),
    ("Zarr, names of dimensions", "a.zarr",
     lambda p: zarr.create_array(p, data=STACK, dimension_names=["t", "y", "x"]), "", None, STACK),
    ("Zarr, nothing said", "a.zarr", lambda p: zarr.create_array(p, data=STACK), "", None, STACK),
    ("Zarr, shards", "a.zarr", shards, "", None, STACK),
    ("Zarr 2, delta and LZ4", "a.zarr", lambda p: zarr.create_array(
        p, data=STACK, zarr_format=2, filters=[numcodecs.Delta("|u1")], compressors=numcodecs.LZ4()), "", None, STACK),
    ("HDF5, lzf after a user block", "a.h5", hdf5_packed(userblock=512, compression="lzf"), "", None, STACK),
    ("HDF5, scale-offset and gzip", "a.h5", hdf5_packed(scaleoffset=0, compression="gzip"), "", None, STACK),
    ("HDF5, ilastik", "a.h5", hdf5(axistags=TAGS, axis_units=json.dumps({"y": "um", "x": "um"})), "", None, STACK),
    ("HDF5, PlantSeg", "a.h5", hdf5(element_size_um=(0.235, 0.15, 0.15)), "", None, STACK),
    ("HDF5, labels of dimensions", "a.h5", hdf5(DIMENSION_LABELS=np.array([b"t", b"y", b"x"])), "", None, STACK),
    ("HDF5, nothing said", "a.h5", hdf5(), "", None, STACK),
    ("NPY", "a.npy", lambda path: np.save(path, STACK), "", None, STACK),
]  # fmt: skip


def read(case: Any, folder: Path) -> tuple[np.ndarray, str]:
    """Make a file and return its pixels and its row of the table."""
    what, name, make, inside, dataset, _ = case
    make(folder / name)
    with open_reader(str(folder / name / inside if inside else folder / name), dataset=dataset) as reader:
        pixels = np.empty(reader.meta.shape, reader.meta.dtype)
        reader.read(reader.meta.roi, pixels)
        meta = reader.meta
    opened = "/".join(filter(None, [name, inside])) + (f" `dataset={dataset!r}`" if dataset else "")
    guessed = ", guessed" if AXES_GUESSED in meta.extra else ""
    return pixels, f"| {what} | {opened} | {meta.axes}{guessed} |"


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_a_file_of_the_table_is_read_as_it_was_made(case, tmp_path):
    pixels, row = read(case, tmp_path)
    np.testing.assert_array_equal(pixels, case[-1])
    if PAGE.exists():  # the distribution of this plugin alone has no documentation
        assert row in PAGE.read_text(encoding="utf-8").splitlines()


def rows() -> Iterator[str]:
    yield from ("| file | opened | axes |", "|---|---|---|")
    for case in CASES:
        folder = Path(tempfile.mkdtemp())
        yield read(case, folder)[1]
        shutil.rmtree(folder)


@pytest.mark.skipif(
    not PAGE.exists(), reason="the documentation is not part of the plugin's own distribution"
)
def test_the_table_has_no_other_rows():
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index(BEGIN) : text.index(END)].strip().splitlines()
    assert [line.split(" |")[0].lstrip("| ") for line in table[4:]] == [case[0] for case in CASES]


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    table = "\n".join(rows())
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    sys.stdout.write(table + "\n")
