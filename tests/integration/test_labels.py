"""What was painted, in files that others read and wrote, and whole whenever a process ends."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from lazyflow_ops_cache.labels import OpLabels
from lazyflow_ops_learning.ilastik.project import read_project

from lazyflow_core import Graph, open_reader
from lazyflow_core.errors import FormatError, GraphError, StorageError


@pytest.fixture(autouse=True)
def no_leaked_threads():
    """Instead of the fixture for all tests: zarr keeps threads for the process once it has read a file."""


DATA = Path(__file__).parents[2] / "plugins/lazyflow-ops-learning/tests/data"
SHAPE = (5, 70, 130)


def make(shape=SHAPE, axes="zyx"):
    op = OpLabels(graph=Graph())
    op.image.assign(np.zeros(shape, "uint8"), axes=axes)
    return op


def scribbled(op):
    op.image[2, 3:60, 5:9] = 1
    op.image[4, 60:70, 100:130] = 7
    op.image[0, 0, 0] = 200
    return op


@pytest.mark.parametrize("name", ["a.zarr", "a.h5", "a.tif", "a.npy"])
def test_labels_go_into_files_and_come_back(tmp_path, name):
    op = scribbled(make())
    path = tmp_path / name
    op.save(path)
    other = make()
    other.image[1, 1, 1] = 3
    other.load(path)
    assert np.array_equal(other.labels.read(), op.labels.read())
    assert other.counts.value == op.counts.value
    other.undo()
    assert other.counts.value == {3: 1}
    with open_reader(path) as reader:
        assert (reader.meta.shape, reader.meta.dtype) == (SHAPE, np.uint8)
    op.clear()
    op.save(path)
    other.load(path)
    assert other.boxes.value == ()
    with pytest.raises(StorageError):
        op.save(path, overwrite=False)


def test_a_dataset_of_labels_is_added_to_the_file_of_the_image(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.zeros(SHAPE, "uint8")
    op = scribbled(make())
    op.save(tmp_path / "a.h5", dataset="labels")
    with h5py.File(tmp_path / "a.h5") as file:
        assert sorted(file) == ["labels", "raw"]
    op.load(tmp_path / "a.h5", dataset="labels")
    assert not op.painted.value.undoable[3:]  # nothing was another label


def test_labels_of_another_shape_order_or_kind(tmp_path):
    op = scribbled(make())
    op.save(tmp_path / "a.h5")
    turned = make((130, 5, 70), "xzy")
    turned.load(tmp_path / "a.h5")
    assert np.array_equal(turned.labels.read(), op.labels.read().transpose(2, 0, 1))
    with pytest.raises(FormatError, match="labels for this image would have z=5, y=70, x=131"):
        make((5, 70, 131)).load(tmp_path / "a.h5")
    small = make()
    small.eraser.value = 9
    with pytest.raises(FormatError, match="has the label 200; classes are 1 to 8"):
        small.load(tmp_path / "a.h5")
    np.save(tmp_path / "f.npy", np.zeros(SHAPE, "float32"))
    with pytest.raises(FormatError, match="holds float32; labels are whole numbers"):
        small.load(tmp_path / "f.npy")
    assert small.painted.value.blocks == {}


@pytest.mark.parametrize("name", ["ovule3d", "in2d", "time2d", "channels2d"])
def test_the_labels_of_a_project_are_those_that_its_reader_finds(name, tmp_path):
    path = DATA / name / f"{name}.ilp"
    project = read_project(path)
    found = [block for block in project.stages[-1].labels if block.lane == 0]
    axes = found[0].axes
    stop = [max(block.start[i] + block.labels.shape[i] for block in found) for i in range(len(axes))]
    expected = np.zeros(stop, np.uint8)
    for block in found:
        place = tuple(slice(a, a + n) for a, n in zip(block.start, block.labels.shape, strict=True))
        np.copyto(expected[place], block.labels, where=block.labels != 0)
    op = make(stop, axes)
    op.load_ilastik(path)
    assert op.boxes.value
    assert np.array_equal(op.labels.read(), expected)
    # And into another project, where the reader finds them again.
    op.merge_classes(1, 2)
    (tmp_path / "new.ilp").write_bytes(path.read_bytes())
    op.save_ilastik(tmp_path / "new.ilp")
    again = make(stop, axes)
    again.load_ilastik(tmp_path / "new.ilp")
    assert np.array_equal(again.labels.read(), op.labels.read())
    changed = read_project(tmp_path / "new.ilp")
    assert {int(n) for b in changed.stages[-1].labels if b.lane == 0 for n in np.unique(b.labels)} <= set(
        range(2, 99)
    ) | {0}
    assert changed.label_names == project.label_names
    assert os.listdir(tmp_path) == ["new.ilp"]


def test_a_new_file_has_labels_of_any_lane_and_nothing_else(tmp_path):
    op = scribbled(make())
    op.save_ilastik(tmp_path / "a.ilp", lane=1)
    op.delete_class(1)
    op.save_ilastik(tmp_path / "a.ilp", lane=0)
    other = make()
    other.load_ilastik(tmp_path / "a.ilp", lane=1)
    assert sorted(other.counts.value) == [1, 7, 200]
    other.load_ilastik(tmp_path / "a.ilp", lane=0)
    assert sorted(other.counts.value) == [6, 199]
    with pytest.raises(FormatError, match="no group 'PixelClassification/LabelSets/labels002'"):
        other.load_ilastik(tmp_path / "a.ilp", lane=2)
    with pytest.raises(FormatError, match="outside of the image"):
        make((5, 70, 100)).load_ilastik(tmp_path / "a.ilp")
    with pytest.raises(StorageError, match=r"a\.none' cannot be read"):
        other.load_ilastik(tmp_path / "a.none")


def spoil(path, how):
    with h5py.File(path, "a") as file:
        group = file["PixelClassification/LabelSets/labels000"]
        block = group["block0000"]
        if how == "place":
            block.attrs["blockSlice"] = "[0:1, 2:x]"
        elif how == "no place":
            del block.attrs["blockSlice"]
        elif how == "shape":
            block.attrs["blockSlice"] = "[0:1,0:1,0:2,0:1]"
        elif how == "axes":
            block.attrs["axistags"] = '{"axes": 3}'
        elif how == "external":
            del group["block0000"]
            group["block0000"] = h5py.ExternalLink("other.h5", "/a")
        elif how == "external storage":
            del group["block0000"]
            group.create_dataset("block0000", (9,), "u1", external=[("/etc/hostname", 0, 9)])
        elif how == "bomb":
            del group["block0000"]
            group.create_dataset("block0000", (2**30,), "u1", chunks=(2**20,))
        elif how == "soft":
            group["block0009"] = h5py.SoftLink("/")
        elif how == "floats":
            data, attributes = block[()], dict(block.attrs)
            del group["block0000"]
            group["block0000"] = data.astype("f4")
            group["block0000"].attrs.update(attributes)


@pytest.mark.parametrize(
    "how", ["place", "no place", "shape", "axes", "external", "external storage", "bomb", "soft", "floats"]
)
def test_a_damaged_or_hostile_project_is_refused_in_a_sentence_and_nothing_is_painted(tmp_path, how):
    scribbled(make()).save_ilastik(tmp_path / "a.ilp")
    spoil(tmp_path / "a.ilp", how)
    op = make()
    with pytest.raises(FormatError, match=r"a\.ilp"):
        op.load_ilastik(tmp_path / "a.ilp")
    assert op.painted.value.blocks == {}
    with pytest.raises(GraphError, match="nothing to undo"):
        op.undo()
    (tmp_path / "text.ilp").write_text("no project")
    with pytest.raises(StorageError):
        op.load_ilastik(tmp_path / "text.ilp")


# ------------------------------------------------------------------------------------ ends at any moment

KILLED = textwrap.dedent(
    """
    import os, sys
    import numpy as np
    from lazyflow_core import Graph
    from lazyflow_core.request import InlineScheduler
    from lazyflow_ops_cache.labels import OpLabels

    STEPS = "mkdir rename replace link unlink rmdir open write pwrite fsync close".split()
    path, method = sys.argv[1:3]

    def make():
        op = OpLabels(graph=Graph(InlineScheduler()))
        op.image.assign(np.zeros((3, 40), "uint8"), axes="yx")
        return op

    def save(number, step=None):
        op = make()
        op.image[1, 3:30] = number
        count = 0

        def dies(real):
            def call(*arguments, **options):
                nonlocal count
                count += 1
                if count > step:
                    os._exit(9)
                return real(*arguments, **options)
            return call

        if step is not None:
            for name in STEPS:
                setattr(os, name, dies(getattr(os, name)))
        getattr(op, method)(path)

    def load():
        op = make()
        getattr(op, method.replace("save", "load"))(path)
        return op.counts.value

    save(1)
    step, alive = 0, 0
    while True:
        child = os.fork()
        if child == 0:
            try:
                save(2, step)
                os._exit(0)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9), code
        assert load() in ({1: 27}, {2: 27}), (step, load())
        if code == 0:
            break
        if load() == {2: 27}:
            save(1)
        step += 1
    assert step > 5, step
    save(2)
    assert load() == {2: 27}
    print(step, sorted(os.listdir(os.path.dirname(path))))
    """
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="ends a child at a chosen moment")
@pytest.mark.parametrize(("name", "method"), [("a.ilp", "save_ilastik"), ("a.zarr", "save")])
def test_a_saved_store_is_whole_whenever_the_process_ends(tmp_path, name, method):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / name), method],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[1].strip() == f"['{name}']"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
@pytest.mark.parametrize(("name", "method"), [("a.ilp", "save_ilastik")])
def test_a_store_of_a_process_that_is_killed_while_it_saves_again_and_again_is_whole(tmp_path, name, method):
    program = KILLED.partition("save(1)\nstep")[0] + textwrap.dedent(
        """
        import itertools
        for number in itertools.count():
            save(1 + number % 9)
            print(number, flush=True)
        """
    )
    for saves in (1, 3):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / name), method], stdout=subprocess.PIPE, text=True
        )
        for _ in range(saves):
            assert process.stdout.readline()
        process.kill()
        process.stdout.close()
        process.wait()
        op = make((3, 40), "yx")
        getattr(op, method.replace("save", "load"))(tmp_path / name)
        assert list(op.counts.value.values()) == [27]
    op.image[0, 0] = 9
    getattr(op, method)(tmp_path / name)
    assert os.listdir(tmp_path) == [name]
