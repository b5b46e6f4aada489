"""`io.read` brings a file into a graph."""

from __future__ import annotations

import gc
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import zarr
from lazyflow_ops_io.hdf5_reader import Hdf5Reader
from lazyflow_ops_io.read import OpRead

from lazyflow_core import Graph, get_operator
from lazyflow_core.axes import Axes, Axis
from lazyflow_core.errors import LazyflowError, SetupError


@pytest.fixture
def graph():
    with Graph() as graph:
        yield graph


def test_the_sample_volume_is_read_with_its_axes_and_pixel_sizes(graph, ovule):
    volume = OpRead(graph=graph, path=str(ovule), dataset="raw").output
    assert volume.meta.shape == (32, 128, 128)
    assert volume.meta.dtype == np.uint8
    assert volume.meta.preferred_block == (8, 32, 64)
    um = {"unit": "micrometer"}
    assert volume.meta.axes == Axes(
        [
            Axis("z", resolution=0.235, **um),
            Axis("y", resolution=0.15, **um),
            Axis("x", resolution=0.15, **um),
        ]
    )
    with h5py.File(ovule) as file:
        expected = file["raw"][3:20, 60:128, 7:9]
    np.testing.assert_array_equal(volume[3:20, 60:128, 7:9].wait(), expected)


def test_it_is_found_by_its_id(graph, ovule):
    assert get_operator("io.read") is OpRead


def test_every_format_is_recognized_by_its_contents(graph, storage, tmp_path, volume):
    path = tmp_path / "a file without a telling name"
    storage.write(path, volume, "zyx")
    np.testing.assert_array_equal(OpRead(graph=graph, path=str(path)).output[...].wait(), volume)


def test_only_the_chunks_a_region_touches_are_read(graph, tmp_path, volume, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=volume, chunks=(4, 8, 16), compression="gzip")
    output = OpRead(graph=graph, path=str(tmp_path / "a.h5")).output
    loaded = []
    original = Hdf5Reader._load
    monkeypatch.setattr(
        Hdf5Reader, "_load", lambda self, index, *more: loaded.append(index) or original(self, index, *more)
    )
    output[3:5, 8:16, 30:33].wait()
    assert sorted(loaded) == [(0, 1, 1), (0, 1, 2), (1, 1, 1), (1, 1, 2)]


def test_a_new_path_makes_everything_dirty_and_closes_the_old_file(graph, tmp_path, volume, storage):
    one, two = tmp_path / f"one{storage.suffix}", tmp_path / f"two{storage.suffix}"
    storage.write(one, volume, "zyx")
    storage.write(two, volume[:5] + 1, "zyx")
    read = OpRead(graph=graph, path=str(one))
    old = read.plan
    heard = []
    read.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    read.path.value = str(two)
    assert read.output.meta.shape == (5, 23, 37)
    np.testing.assert_array_equal(read.output[...].wait(), volume[:5] + 1)
    assert heard
    with pytest.raises(LazyflowError, match="closed"):
        old.read(old.meta.roi, np.empty(old.meta.shape, old.meta.dtype))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "nowhere.h5"}, "nowhere.h5"),
        ({"dataset": "nix"}, "it holds /label, /raw"),
        ({"dataset": ""}, "2 datasets: /label, /raw"),
        ({"format": "tiff"}, "is no TIFF file"),
        ({"format": "hdf"}, "did you mean 'hdf5'"),
        ({"axes": "yx"}, "names 2 axes"),
        ({"axes": "zzx"}, "twice"),
    ],
)
def test_a_change_that_cannot_be_leaves_the_old_file_readable(graph, ovule, changes, words):
    read = OpRead(graph=graph, path=str(ovule), dataset="raw")
    before = read.output[0, 0].wait()
    ((name, value),) = changes.items()
    with pytest.raises(SetupError, match=words):
        getattr(read, name).value = value
    np.testing.assert_array_equal(read.output[0, 0].wait(), before)


def test_axes_can_be_named_where_the_file_is_wrong(graph, ovule):
    read = OpRead(graph=graph, path=str(ovule), dataset="raw", axes="tyx")
    t, y, _ = read.output.meta.axes
    assert (t.key, t.kind, t.resolution) == ("t", "time", None)
    assert (y.key, y.resolution) == ("y", 0.15)
    read.axes.value = "xyz"
    assert [a.resolution for a in read.output.meta.axes] == [0.235, 0.15, 0.15]
    read.axes.value = ""
    assert read.output.meta.axes.keys == "zyx"


def test_the_slot_says_which_reader_of_which_version_opened_the_file(graph, ovule):
    read = OpRead(graph=graph, path=str(ovule), dataset="raw")
    by = read.output.meta.extra["lazyflow.reader"]
    assert re.fullmatch(r"io\.hdf5 \(lazyflow-ops-io \d+\.\d+\.\d+\)", by)


def test_closing_the_operator_closes_the_file(graph, ovule):
    read = OpRead(graph=graph, path=str(ovule), dataset="raw")
    reader = read.plan
    read.close()
    with pytest.raises(LazyflowError, match="closed"):
        reader.read(reader.meta.roi, np.empty(reader.meta.shape, reader.meta.dtype))


def test_an_operator_that_could_not_be_made_leaves_no_file_open(graph, ovule):
    gc.collect()
    before = len(h5py.h5f.get_obj_ids(types=h5py.h5f.OBJ_FILE))
    with pytest.raises(SetupError):
        OpRead(graph=graph, path=str(ovule), dataset="raw", axes="yx")
    gc.collect()
    assert len(h5py.h5f.get_obj_ids(types=h5py.h5f.OBJ_FILE)) == before


def test_the_code_of_the_documentation_runs(ovule, tmp_path, monkeypatch, capsys):
    page = (ovule.parents[2] / "docs" / "io.md").read_text(encoding="utf-8")
    (tmp_path / "examples" / "data").mkdir(parents=True)
    shutil.copy(ovule, tmp_path / "examples" / "data")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    names["graph"].close()
    assert len(blocks) == 2
    assert capsys.readouterr().out == "z=32, y=128, x=128 uint8\n"
    assert (tmp_path / "result.zarr" / "0" / "zarr.json").exists()


def test_asking_what_is_offered_imports_nothing_heavy():
    code = (
        "import sys, lazyflow_ops_io.plugin as p\n"
        "assert p.lazyflow_reader_specs() and p.lazyflow_writer_specs()\n"
        "heavy = {'numpy', 'h5py', 'zarr', 'tifffile', 'numcodecs', 'isal'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_image_beside_the_coordinates_of_its_axes_needs_no_name(graph, tmp_path):
    for zarr_format in (2, 3):
        group = zarr.open_group(tmp_path / f"{zarr_format}.zarr", mode="w", zarr_format=zarr_format)
        for name, dimensions, data in (("im", "tyx", np.zeros((4, 5, 6), "u2")), ("t", "t", np.arange(4.0))):
            if zarr_format == 2:
                array = group.create_array(name, shape=data.shape, dtype=data.dtype)
                array.attrs["_ARRAY_DIMENSIONS"] = list(dimensions)
            else:
                group.create_array(name, shape=data.shape, dtype=data.dtype, dimension_names=list(dimensions))
        output = OpRead(graph=graph, path=str(tmp_path / f"{zarr_format}.zarr")).output
        assert output.meta.extra["io.dataset"] == "/im"
        assert output.meta.axes.keys == "tyx"
