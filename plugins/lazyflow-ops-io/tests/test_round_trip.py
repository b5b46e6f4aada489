"""What is written comes back: pixels, dtype, shape, axes, units, pixel sizes, origin."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.errors import ResultError, RoiBoundsError, StorageError
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.roi import Roi

DTYPES = [
    "bool",
    "uint8",
    "int16",
    ">u2",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    ">f8",
    "complex64",
]


def test_pixels_and_axes_come_back(variant, tmp_path, volume, axes):
    path = tmp_path / f"a{variant.suffix}"
    stored = variant.write(path, volume, axes)
    found, meta = variant.read(path)
    np.testing.assert_array_equal(found, volume)
    assert stored == sum(f.stat().st_size for f in [path, *path.rglob("*")] if f.is_file())
    expected = axes if variant.keeps_axes else Axes("zyx")
    if not variant.keeps_translation:
        expected = Axes(replace(a, translation=0.0) for a in expected)
    assert meta.axes == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_in_native_order(storage, tmp_path, volume, dtype):
    data = (volume % 251).astype(dtype)
    path = tmp_path / f"a{storage.suffix}"
    if not storage.every_type and np.dtype(dtype).name in ("bool", "int64", "uint64", "float16"):
        with pytest.raises(StorageError, match=r"has no (bool|u?int64|float16); cast"):
            storage.write(path, data, "zyx")
        assert not list(tmp_path.iterdir())
        return
    storage.write(path, data, "zyx")
    found, meta = storage.read(path)
    assert meta.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found, data)


@pytest.mark.parametrize("keys", ["yx", "zyxc", "czyx", "tzyx", "tczyx", "tzyxc"])
def test_axes_of_every_usual_order_come_back(storage, tmp_path, keys):
    shape = tuple({"t": 2, "c": 3, "z": 4, "y": 5, "x": 6}[k] for k in keys)
    data = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    axes = Axes(
        [
            Axis("t", None, "second", 2.5) if k == "t" else Axis(k, None, UM, 0.5) if k != "c" else "c"
            for k in keys
        ]
    )
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, data, axes)
    found, meta = storage.read(path)
    np.testing.assert_array_equal(found, data)
    assert not storage.keeps_axes or meta.axes == axes


@pytest.mark.parametrize("name", ["zarr3", "zarr2"])
def test_labels_stay_labels_in_zarr(name, formats, tmp_path):
    meta = ArrayMeta((4, 5), "uint32", "yx", semantics="labels")
    with formats[name].create(str(tmp_path / "a"), meta) as writer:
        writer.write(meta.roi, np.zeros((4, 5), np.uint32))
        writer.commit()
    assert formats[name].read(tmp_path / "a")[1].semantics == "labels"


def test_the_range_of_values_stays_in_hdf5(formats, tmp_path):
    meta = ArrayMeta((4, 5), "float32", "yx", value_range=(0.0, 1.0))
    with formats["hdf5"].create(str(tmp_path / "a"), meta) as writer:
        writer.write(meta.roi, np.zeros((4, 5), np.float32))
        writer.commit()
    assert formats["hdf5"].read(tmp_path / "a")[1].value_range == (0.0, 1.0)


def test_unknown_pixel_sizes_stay_unknown(storage, tmp_path, volume):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, volume, "zyx")
    assert storage.read(path)[1].axes == Axes("zyx")


@pytest.mark.parametrize("name", ["hdf5", "zarr3", "zarr2"])
def test_axes_of_other_keys_come_back_from_hdf5_and_zarr(name, formats, tmp_path):
    storage = formats[name]
    axes = Axes([Axis("angle", None, "degree", 3.0, 1.0), Axis("x", None, UM, 0.5), "c"])
    data = np.arange(24.0).reshape(2, 4, 3)
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, data, axes)
    assert storage.read(path)[1].axes == axes


@st.composite
def stored_arrays(draw):
    shape = tuple(draw(st.lists(st.integers(1, 13), min_size=3, max_size=3)))
    chunks = tuple(draw(st.integers(1, n + 2)) for n in shape)
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(draw(st.integers(a, n)) for a, n in zip(start, shape, strict=True))
    return shape, chunks, Roi(start, stop), draw(st.sampled_from(["uint8", "float32"]))


@given(case=stored_arrays())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_region_equals_the_slice_of_the_array(variant, case):
    shape, chunks, roi, dtype = case
    data = np.arange(1, np.prod(shape) + 1).reshape(shape).astype(dtype)
    options = {"chunks": chunks} if variant.name.startswith(("hdf5", "zarr")) else {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{variant.suffix}")
        variant.write(path, data, "zyx", **options)
        with variant.open(str(path)) as reader:
            assert reader.meta.shape == shape
            everything = np.zeros(tuple(2 * n for n in roi.shape), dtype)
            out = everything[tuple(slice(None, None, 2) for _ in roi.shape)]  # not contiguous
            reader.read(roi, out)
            np.testing.assert_array_equal(out, data[roi.slicing])


def test_several_threads_read_at_once(variant, tmp_path, volume):
    path = tmp_path / f"a{variant.suffix}"
    variant.write(path, volume, "zyx")
    rois = [Roi((a, b, 3), (a + 4, b + 9, 31)) for a in range(7) for b in range(0, 14, 3)] * 4

    def read(roi):
        out = np.empty(roi.shape, reader.meta.dtype)
        reader.read(roi, out)
        return np.array_equal(out, volume[roi.slicing])

    with variant.open(str(path)) as reader, ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, rois))


@pytest.mark.parametrize("name", ["hdf5", "zarr3", "zarr2"])
def test_chunks_are_the_preferred_block(name, formats, tmp_path, volume):
    formats[name].write(tmp_path / "a", volume, "zyx", chunks=(5, 7, 16))
    assert formats[name].read(tmp_path / "a")[1].preferred_block == (5, 7, 16)


def test_a_reader_refuses_regions_outside_and_other_shapes(storage, tmp_path, volume):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, volume, "zyx")
    with storage.open(str(path)) as reader:
        with pytest.raises(RoiBoundsError, match="asked for"):
            reader.read(Roi((0, 0, 0), (1, 1, 38)), np.empty((1, 1, 38), "uint16"))
        with pytest.raises(ResultError, match="shape"):
            reader.read(Roi((0, 0, 0), (1, 1, 3)), np.empty((1, 1, 4), "uint16"))
        reader.read(Roi((2, 2, 2), (2, 3, 3)), np.empty((0, 1, 1), "uint16"))


def test_a_closed_reader_says_so(storage, tmp_path, volume):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, volume, "zyx")
    reader = storage.open(str(path))
    reader.close()
    reader.close()
    with pytest.raises(StorageError, match="closed"):
        reader.read(Roi((0, 0, 0), (1, 1, 1)), np.empty((1, 1, 1), "uint16"))


@pytest.mark.parametrize("name", ["hdf5", "zarr3", "zarr2", "npy"])
def test_an_array_without_pixels_comes_back(name, formats, tmp_path):
    storage = formats[name]
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, np.zeros((3, 0, 5), np.float32), "zyx")
    assert storage.read(path)[1].shape == (3, 0, 5)


@pytest.mark.parametrize("name", ["hdf5", "zarr3", "zarr2"])
def test_chunks_of_about_a_mebibyte_hold_one_time_and_one_channel(name, formats, tmp_path):
    writer = formats[name].create(str(tmp_path / "a"), ArrayMeta((9, 3, 500, 500), "float32", "tcyx"))
    assert writer.step[:2] == (1, 1)
    assert 2**18 <= np.prod(writer.step) * 4 <= 2**21
    writer.abort()


UM = "micrometer"


@pytest.mark.parametrize("code", "qQlLbBhHiI")
def test_every_integer_type_of_c_is_written_and_read(variant, tmp_path, code):
    data = np.arange(60).reshape(3, 4, 5).astype(code)
    if data.dtype.itemsize == 8 and not variant.every_type:
        with pytest.raises(StorageError):
            variant.write(tmp_path / f"a{variant.suffix}", data, "zyx")
        return
    variant.write(tmp_path / f"a{variant.suffix}", data, "zyx")
    found, meta = variant.read(tmp_path / f"a{variant.suffix}")
    np.testing.assert_array_equal(found, data)
    assert meta.dtype == data.dtype
