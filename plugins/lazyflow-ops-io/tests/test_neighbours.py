"""An array that is written to a file or store that has others: they stay, whatever happens."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import zarr
from lazyflow_ops_io.hdf5_reader import open_hdf5
from lazyflow_ops_io.hdf5_writer import create_hdf5
from lazyflow_ops_io.zarr_reader import open_zarr
from lazyflow_ops_io.zarr_writer import create_zarr

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.errors import FormatError, StorageError, TargetExistsError
from lazyflow_core.meta import ArrayMeta

META = ArrayMeta((4, 5, 6), "uint8", "zyx")
OLD = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
NEW = OLD[::-1].copy()


def put(create, path, data=NEW, axes="zyx", **options):
    with create(str(path), ArrayMeta(data.shape, data.dtype, axes), **options) as writer:
        writer.write(writer.meta.roi, data)
        return writer.commit()


def get(opener, path, dataset=None):
    with opener(str(path), dataset=dataset) as reader:
        out = np.empty(reader.meta.shape, reader.meta.dtype)
        reader.read(reader.meta.roi, out)
        return out


def names_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


# ---------------------------------------------------------------------------------------------------- HDF5


@pytest.fixture
def h5(tmp_path):
    """A file as other programs write it: several datasets, attributes, links, text."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["made by"] = "somebody"
        file.create_dataset("raw", data=OLD, chunks=(2, 5, 6), compression="gzip", shuffle=True)
        file["raw"].attrs["note"] = "precious"
        file.create_dataset("deep/er/labels", data=OLD * 2)
        file["deep"].attrs["x"] = 1
        file["notes"] = "years of work"
        file["soft"] = h5py.SoftLink("/raw")
        file["outside"] = h5py.ExternalLink("b.h5", "/x")
    return path


def check_the_rest(path, *without):
    with h5py.File(path) as file:
        assert file.attrs["made by"] == "somebody"
        assert file["raw"].attrs["note"] == "precious"
        assert file["deep"].attrs["x"] == 1
        assert file["notes"].asstr()[()] == "years of work"
        assert isinstance(file.get("outside", getlink=True), h5py.ExternalLink)
        for name, data in {"raw": OLD, "deep/er/labels": OLD * 2, "soft": OLD}.items():
            if name not in without:
                np.testing.assert_array_equal(file[name][...], data)


@pytest.mark.parametrize("name", ["mask", "deep/mask", "deep/er/mask", "new/group/mask"])
def test_a_named_dataset_is_added_to_a_file_that_is_there(h5, name):
    put(create_hdf5, h5, dataset=name)
    check_the_rest(h5)
    np.testing.assert_array_equal(get(open_hdf5, h5, name), NEW)
    assert names_in(h5.parent) == ["a.h5"]
    with pytest.raises(TargetExistsError, match=rf"holds '{name}' already"):
        create_hdf5(str(h5), META, dataset=name)
    put(create_hdf5, h5, OLD, dataset=name, overwrite=True)
    check_the_rest(h5)
    np.testing.assert_array_equal(get(open_hdf5, h5, name), OLD)


@pytest.mark.parametrize("name", ["deep/er/labels", "soft"])
def test_overwriting_a_dataset_keeps_the_others(h5, name):
    put(create_hdf5, h5, dataset=name, overwrite=True)
    check_the_rest(h5, name)
    np.testing.assert_array_equal(get(open_hdf5, h5, name), NEW)


def test_overwriting_without_naming_a_dataset_keeps_the_others_too(h5):
    with pytest.raises(TargetExistsError, match=r"a.h5' exists already"):
        create_hdf5(str(h5), META)
    put(create_hdf5, h5, overwrite=True)
    check_the_rest(h5)
    np.testing.assert_array_equal(get(open_hdf5, h5, "data"), NEW)


@pytest.mark.parametrize("name", ["raw/x", "deep", "deep/er", "outside/x", "soft/x"])
def test_what_has_another_place_is_not_written_over(h5, name):
    before = h5.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(StorageError, match=r"choose another dataset"):
            create_hdf5(str(h5), META, dataset=name, overwrite=overwrite)
    assert (names_in(h5.parent), h5.read_bytes()) == (["a.h5"], before)


def test_two_datasets_of_one_file_are_written_at_once(tmp_path):
    path = str(tmp_path / "a.h5")
    with create_hdf5(path, META, dataset="a") as a, create_hdf5(path, META, dataset="b/c") as b:
        with pytest.raises(StorageError, match="being written already"):
            create_hdf5(path, META, dataset="a")
        with pytest.raises(StorageError, match="being written already"):
            create_hdf5(path, META)
        b.write(META.roi, NEW)
        a.write(META.roi, OLD)
        a.commit()
        b.commit()
    np.testing.assert_array_equal(get(open_hdf5, path, "a"), OLD)
    np.testing.assert_array_equal(get(open_hdf5, path, "b/c"), NEW)
    assert names_in(tmp_path) == ["a.h5"]


def test_what_others_added_meanwhile_stays(h5, monkeypatch):
    writer = create_hdf5(str(h5), META, dataset="mask")
    writer.write(META.roi, NEW)
    add, calls = writer._target._finish, []

    def add_while_somebody_else_does(file, new):
        calls.append(file)
        both = add(file, new)
        if len(calls) == 1:  # after it was copied, before the copy has the name
            with h5py.File(h5, "r+") as other:
                other["theirs"] = 7
        return both

    monkeypatch.setattr(writer._target, "_finish", add_while_somebody_else_does)
    writer.commit()
    assert len(calls) == 2
    check_the_rest(h5)
    with h5py.File(h5) as file:
        assert file["theirs"][()] == 7
    assert names_in(h5.parent) == ["a.h5"]


def test_a_dataset_that_appears_meanwhile_is_left_alone(h5):
    with create_hdf5(str(h5), META, dataset="mask") as writer:
        writer.write(META.roi, NEW)
        with h5py.File(h5, "r+") as other:
            other["mask"] = 7
        with pytest.raises(TargetExistsError, match="holds 'mask' already"):
            writer.commit()
    with h5py.File(h5) as file:
        assert file["mask"][()] == 7
    assert names_in(h5.parent) == ["a.h5"]


def test_a_damaged_file_gets_no_dataset(h5):
    h5.write_bytes(h5.read_bytes()[:999])
    with pytest.raises(StorageError, match=r"cannot add 'mask'.*damaged"):
        create_hdf5(str(h5), META, dataset="mask", overwrite=True)
    put(create_hdf5, h5, overwrite=True)  # but it can be replaced as a whole
    np.testing.assert_array_equal(get(open_hdf5, h5), NEW)


@pytest.mark.parametrize("named", [True, False])
def test_what_stands_in_for_a_file_that_was_not_fetched_gets_no_dataset(tmp_path, named):
    """What else is in that file would be lost."""
    path = tmp_path / "a.h5"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(StorageError, match="'git lfs pull' fetches it"):
        create_hdf5(str(path), META, dataset="new" if named else None, overwrite=True)


def test_a_file_that_is_open_for_writing_gets_no_dataset(h5):
    with h5py.File(h5, "r+"), pytest.raises(StorageError, match="being written by another program"):
        create_hdf5(str(h5), META, dataset="mask")
    check_the_rest(h5)


def test_a_dataset_is_added_to_the_file_behind_a_link(h5):
    link = h5.with_name("link.h5")
    link.symlink_to(h5.name)
    put(create_hdf5, link, dataset="mask")
    assert link.is_symlink()
    check_the_rest(h5)
    np.testing.assert_array_equal(get(open_hdf5, h5, "mask"), NEW)
    put(create_hdf5, link, overwrite=True)  # but who names no dataset means the link
    assert not link.is_symlink()
    check_the_rest(h5)


def test_a_copy_that_does_not_fit_is_refused_at_once(h5, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(StorageError, match=r"0 bytes left, and the file of \d+ bytes is copied"):
        create_hdf5(str(h5), META, dataset="mask")


# -------------------------------------------------------------------------------------- what is being read


def test_nothing_that_is_being_read_is_written_over(storage, tmp_path):
    path = tmp_path / f"a{storage.suffix}"
    storage.write(path, OLD)
    os.symlink(path.name, tmp_path / f"b{storage.suffix}")
    reader = storage.open(str(path))
    before = names_in(tmp_path)
    for name in (f"a{storage.suffix}", f"b{storage.suffix}"):
        with pytest.raises(StorageError, match=r"which is being read; choose another name"):
            storage.create(str(tmp_path / name), META, **storage.options, overwrite=True)
    assert names_in(tmp_path) == before
    reader.close()
    storage.write(path, NEW, overwrite=True)
    np.testing.assert_array_equal(storage.read(path)[0], NEW)


def test_nothing_in_or_around_a_store_that_is_read_is_written(tmp_path):
    put(create_zarr, tmp_path / "p.zarr", dataset="raw")
    put(create_zarr, tmp_path / "p.zarr" / "inner.zarr")
    for read, written in (
        ("p.zarr", "p.zarr/x.h5"),
        ("p.zarr/raw", "p.zarr"),
        ("p.zarr", "p.zarr/inner.zarr"),
    ):
        with open_zarr(str(tmp_path / read)), pytest.raises(StorageError, match="being read"):
            create = create_hdf5 if written.endswith("h5") else create_zarr
            create(str(tmp_path / written), META, overwrite=True)


# ----------------------------------------------------------------------------------------- ends at any moment


STEPS = ("mkdir", "rename", "replace", "link", "unlink", "rmdir", "symlink", "open", "write", "pwrite")


def killed_at(step: int, begin) -> bool:
    """Commit a writer in a process that ends at its n-th call to the system; return whether it did."""
    child = os.fork()
    if child == 0:  # pragma: no cover  # another process
        try:
            writer = begin()
            writer.write(META.roi, NEW)
            count = 0

            def dies(real):
                def call(*arguments, **options):
                    nonlocal count
                    count += 1
                    if count > step:
                        os._exit(9)
                    return real(*arguments, **options)

                return call

            for name in STEPS:
                setattr(os, name, dies(getattr(os, name)))
            from lazyflow_ops_io import _target

            _target._exchange = dies(_target._exchange)
            writer.commit()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def old_or_new(read, *, old, new):
    try:
        found = read()
    except FormatError:
        found = None
    assert any(found is None if wanted is None else np.array_equal(found, wanted) for wanted in (old, new))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="ends a child at a chosen moment")
@pytest.mark.parametrize(("name", "old"), [("mask", None), ("deep/er/labels", OLD * 2)])
def test_a_file_that_gets_a_dataset_is_whole_whenever_the_process_ends(h5, name, old):
    step = 0
    original = h5.read_bytes()
    while killed_at(step, lambda: create_hdf5(str(h5), META, dataset=name, overwrite=True)):
        check_the_rest(h5, name)
        old_or_new(lambda: get(open_hdf5, h5, name), old=old, new=NEW)
        if h5.read_bytes() != original:
            h5.write_bytes(original)
        step += 1
    assert step > 10
    check_the_rest(h5, name)
    assert names_in(h5.parent) == ["a.h5"]  # and each removed what the last one left


# ---------------------------------------------------------------------------------------------------- Zarr


@pytest.fixture(params=[2, 3])
def store(request, tmp_path):
    """A folder as other programs write it: a pyramid, labels, a table of another kind, notes, a link."""
    version = request.param
    path = tmp_path / "p.zarr"
    image = {
        "axes": [{"name": k, "type": "space", "unit": "micrometer"} for k in "zyx"],
        "datasets": [
            {"path": level, "coordinateTransformations": [{"type": "scale", "scale": [2.0, s, s]}]}
            for level, s in (("s0", 1.0), ("s1", 2.0))
        ],
    }
    content = {"multiscales": [{"version": "0.4", **image}], "omero": {"channels": [{"label": "DAPI"}]}}
    attributes = {"note": "precious"}
    attributes |= content if version == 2 else {"ome": {"version": "0.5", **content}}
    root = zarr.create_group(path, zarr_format=version, attributes=attributes)
    for name, data in {"s0": OLD, "s1": OLD[:, ::2, ::2], "raw": OLD, "labels/nuclei/0": OLD * 2}.items():
        root.create_array(name, shape=data.shape, dtype=data.dtype, chunks=(2, 3, 3))[...] = data
    root["raw"].attrs["note"] = "precious"
    (path / "notes.txt").write_text("years of work")
    (path / "tables").mkdir()
    (path / "tables" / "a.csv").write_text("1,2")
    (path / "link").symlink_to("raw")
    return path


def check_the_store(path, *without):
    root = zarr.open_group(path, mode="r", use_consolidated=False)
    assert root.attrs["note"] == "precious"
    assert (path / "notes.txt").read_text() == "years of work"
    assert (path / "tables" / "a.csv").read_text() == "1,2"
    assert os.readlink(path / "link") == "raw"
    for name, data in {"s0": OLD, "s1": OLD[:, ::2, ::2], "raw": OLD, "labels/nuclei/0": OLD * 2}.items():
        if name not in without:
            np.testing.assert_array_equal(root[name][...], data)
    if "raw" not in without:
        assert root["raw"].attrs["note"] == "precious"


@pytest.mark.parametrize("name", ["mask", "labels/mask", "labels/mask/0", "new/group/mask"])
def test_a_named_array_is_added_to_a_store_that_is_there(store, name):
    if (store / ".zgroup").exists():
        (store / ".zmetadata").write_text(
            '{"zarr_consolidated_format": 1, "metadata": {".zgroup": {"zarr_format": 2}}}'
        )
    else:
        document = json.loads((store / "zarr.json").read_text())
        document["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": {}}
        (store / "zarr.json").write_text(json.dumps(document))
    axes = Axes(
        [Axis("z", unit="micrometer", resolution=2.0), "y", Axis("x", resolution=0.5, translation=3.0)]
    )
    put(create_zarr, store, axes=axes, dataset=name)
    check_the_store(store)
    np.testing.assert_array_equal(get(open_zarr, store, name), NEW)
    np.testing.assert_array_equal(zarr.open_group(store, mode="r")[name][...], NEW)
    with open_zarr(str(store), dataset=name) as reader:
        assert reader.meta.axes == axes
    np.testing.assert_array_equal(get(open_zarr, store), OLD)  # the image is the same
    assert [p.name for p in store.parent.iterdir()] == ["p.zarr"]
    with pytest.raises(TargetExistsError, match=rf"holds '{name}' already"):
        create_zarr(str(store), META, dataset=name)
    put(create_zarr, store, OLD, dataset=name, overwrite=True)
    check_the_store(store)
    np.testing.assert_array_equal(get(open_zarr, store, name), OLD)


@pytest.mark.parametrize(
    ("name", "gone"), [("raw", ["raw"]), ("labels/nuclei/0", ["labels/nuclei/0"]), ("s0", ["s0", "s1"])]
)
def test_overwriting_an_array_keeps_what_is_no_level_of_it(store, name, gone):
    put(create_zarr, store, dataset=name, overwrite=True)
    check_the_store(store, *gone)
    np.testing.assert_array_equal(get(open_zarr, store, name), NEW)
    assert not (store / "s1").exists() or name != "s0"
    assert [p.name for p in store.parent.iterdir()] == ["p.zarr"]


def labels_in(store, group="labels"):
    """Return the list of label images as zarr-python reads it."""
    attributes = zarr.open_group(store, mode="r", use_consolidated=False)[group].attrs.asdict()
    return attributes.get("ome", attributes).get("labels")


def test_label_images_are_listed_in_the_group_they_are_written_to(store):
    put(create_zarr, store, axes="zyx", dataset="labels/cells/0")
    assert labels_in(store) == ["cells"]
    put(create_zarr, store, axes="zyx", dataset="labels/deep/er/0")
    put(create_zarr, store, axes="zyx", dataset="labels/cells/0", overwrite=True)
    put(create_zarr, store, NEW.astype("f4"), axes="zyx", dataset="labels/probabilities/0")  # no labels
    assert labels_in(store) == ["cells", "deep/er"]
    put(create_zarr, store, axes="zyx", dataset="well/labels/nuclei/0")
    assert labels_in(store, "well/labels") == ["nuclei"]
    check_the_store(store)


@pytest.mark.parametrize("version", [2, 3])
def test_a_new_store_of_labels_lists_them(tmp_path, version):
    put(create_zarr, tmp_path / "a.zarr", axes="zyx", dataset="labels/cells/0", zarr_format=version)
    assert labels_in(tmp_path / "a.zarr") == ["cells"]
    with open_zarr(str(tmp_path / "a.zarr"), dataset="labels/cells") as reader:
        assert reader.meta.axes.keys == "zyx"


def test_label_images_that_are_written_at_once_are_all_listed(store):
    names = [f"labels/{letter}/0" for letter in "abcdef"]
    put(create_zarr, store, axes="zyx", dataset="labels/first/0")

    def write(name):
        put(create_zarr, store, axes="zyx", dataset=name)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, names))
    assert sorted(labels_in(store)) == ["a", "b", "c", "d", "e", "f", "first"]


def test_overwriting_without_naming_an_array_makes_another_image_the_first(store):
    with pytest.raises(TargetExistsError, match=r"p.zarr' exists already"):
        create_zarr(str(store), META)
    axes = Axes([Axis(k, unit="micrometer", resolution=0.5) for k in "zyx"])
    put(create_zarr, store, axes=axes, overwrite=True)
    check_the_store(store)
    with open_zarr(str(store)) as reader:
        assert (reader.meta.axes, reader.meta.channel_names) == (axes, ())
    np.testing.assert_array_equal(get(open_zarr, store), NEW)
    with open_zarr(str(store), dataset="s1") as reader:  # listed still
        assert [a.resolution for a in reader.meta.axes] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("name", ["raw/x", "labels", "labels/nuclei", "notes.txt", "notes.txt/x", "tables"])
def test_what_has_another_place_in_a_store_is_not_written_over(store, name):
    before = names_in(store)
    with pytest.raises(StorageError, match=r"choose another dataset"):
        create_zarr(str(store), META, dataset=name, overwrite=True)
    assert names_in(store) == before


def test_a_store_does_not_become_one_array_while_it_holds_others(store):
    with pytest.raises(StorageError, match=r"it holds others"):
        create_zarr(str(store), META, dataset="/", overwrite=True)
    check_the_store(store)


def test_what_is_added_has_the_format_of_the_store(store):
    other = 5 - (2 if (store / ".zgroup").exists() else 3)
    with pytest.raises(StorageError, match=rf"in Zarr format {other}: the store has format {5 - other}"):
        create_zarr(str(store), META, dataset="mask", zarr_format=other)
    put(create_zarr, store, dataset="mask", zarr_format=5 - other)
    check_the_store(store)


def test_an_array_becomes_an_image_and_back_without_its_old_chunks(tmp_path):
    path = tmp_path / "a.zarr"
    for version in (2, 3):
        put(create_zarr, path, dataset="/", zarr_format=version, overwrite=True, chunks=2)
        (path / "notes.txt").write_text("years of work")
        zeros = np.zeros_like(OLD)
        put(create_zarr, path, zeros, dataset="/", zarr_format=version, overwrite=True, chunks=2)
        np.testing.assert_array_equal(get(open_zarr, path), zeros)
        put(create_zarr, path, overwrite=True, chunks=2)
        np.testing.assert_array_equal(get(open_zarr, path), NEW)
        assert (path / "notes.txt").read_text() == "years of work"
        assert {p.name for p in path.iterdir()} <= {"0", "notes.txt", "zarr.json", ".zgroup", ".zattrs"}
        put(create_zarr, path, zeros, dataset="/", overwrite=True, chunks=2)
        np.testing.assert_array_equal(get(open_zarr, path), zeros)


def test_two_arrays_of_one_store_are_written_at_once(tmp_path):
    path = str(tmp_path / "p.zarr")
    put(create_zarr, path, dataset="first")
    b = create_zarr(path, META, dataset="first", overwrite=True)
    with b, create_zarr(path, META, dataset="a") as a:
        with pytest.raises(StorageError, match="being written already"):
            create_zarr(path, META, dataset="a")
        with pytest.raises(StorageError, match="being written already"):
            create_zarr(path, META, overwrite=True)
        b.write(META.roi, OLD)
        a.write(META.roi, NEW)
        a.commit()
        b.commit()
    np.testing.assert_array_equal(get(open_zarr, path, "a"), NEW)
    np.testing.assert_array_equal(get(open_zarr, path, "first"), OLD)
    assert [p.name for p in tmp_path.iterdir()] == ["p.zarr"]


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b/c"), ("b/c", "a"), ("b/c", "b/d"), ("b/c", "b/d/e")])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("is_there", [False, True])
def test_arrays_that_are_added_at_once_all_stay(tmp_path, names, version, is_there):
    path = str(tmp_path / "p.zarr")
    if is_there:
        put(create_zarr, path, dataset="first", zarr_format=version)
    wanted = {}
    writers = []
    for number, name in enumerate(names, 1):
        wanted[name] = Axes([Axis(k, unit="micrometer", resolution=0.5 * number) for k in "zyx"])
        writers.append(create_zarr(path, META.replace(axes=wanted[name]), dataset=name, zarr_format=version))
    for number, writer in enumerate(writers, 1):
        writer.write(META.roi, NEW + np.uint8(number))
        writer.commit()
    for number, (name, axes) in enumerate(wanted.items(), 1):
        np.testing.assert_array_equal(get(open_zarr, path, name), NEW + np.uint8(number))
        with open_zarr(path, dataset=name) as reader:
            assert reader.meta.axes == axes
    assert [p.name for p in tmp_path.iterdir()] == ["p.zarr"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="ends a child at a chosen moment")
@pytest.mark.parametrize(
    ("name", "gone", "old", "every"),
    [
        ("mask", [], None, 1),
        ("s0", ["s0", "s1"], OLD, 7),
        pytest.param("s0", ["s0", "s1"], OLD, 1, marks=pytest.mark.stress),
        pytest.param("labels/mask/0", [], None, 1, marks=pytest.mark.stress),
        pytest.param("raw", ["raw"], OLD, 1, marks=pytest.mark.stress),
    ],
)
def test_a_store_that_gets_an_array_is_whole_whenever_the_process_ends(store, name, gone, old, every):
    step = 0
    while killed_at(step, lambda: create_zarr(str(store), META, dataset=name, overwrite=True)):
        check_the_store(store, *gone)
        old_or_new(lambda: get(open_zarr, store, name), old=old, new=NEW)
        step += every
    assert step > 10
    check_the_store(store, *gone)
    np.testing.assert_array_equal(get(open_zarr, store, name), NEW)
    assert [p.name for p in store.parent.iterdir()] == ["p.zarr"]
