import random
from pathlib import Path

import h5py
import numpy as np
import pytest
from lazyflow_core.errors import FormatError, LazyflowError, StorageError
from projects import write_project

from lazyflow_ops_learning.ilastik.project import read_project

DATA = Path(__file__).parent / "data"
PIXEL_PROJECTS = ("ovule3d", "nuclei3d", "nuclei3d_vigra", "channels2d", "time2d")


@pytest.mark.parametrize("name", PIXEL_PROJECTS)
def test_the_forest_of_a_project_gives_on_ilastiks_features_ilastiks_probabilities(name):
    expected = np.load(DATA / name / "expected.npz")
    crop, probabilities = expected["feature_crop"], expected["probabilities"]
    box = tuple(slice(start, stop) for start, stop in expected["feature_crop_box"][:-1])
    forest = read_project(DATA / name / f"{name}.ilp").stages[0].forest
    features = np.ascontiguousarray(crop.reshape(-1, crop.shape[-1]).T)
    got = forest.predict(features).T.reshape(probabilities[box].shape)
    assert np.abs(got - probabilities[box]).max() <= 1e-7


@pytest.mark.parametrize("name", PIXEL_PROJECTS)
def test_the_strokes_of_a_project_are_those_that_were_painted(name):
    expected = np.load(DATA / name / "expected.npz")
    labels = np.zeros_like(expected["labels"])
    for block in read_project(DATA / name / f"{name}.ilp").stages[0].labels:
        assert block.axes == str(expected["label_axes"])
        box = tuple(slice(a, a + n) for a, n in zip(block.start, block.labels.shape, strict=True))
        labels[box] = np.maximum(labels[box], block.labels)
    assert np.array_equal(labels, expected["labels"])


def test_a_project_says_what_is_in_it():
    project = read_project(DATA / "in2d" / "in2d.ilp")
    assert (project.version, project.workflow) == ("1.4.2", "Pixel Classification")
    (lane,) = project.lanes
    assert (lane.axes, lane.path, lane.dataset, lane.shape) == ("zyx", "in2d.h5", "data", (16, 72, 72))
    assert project.label_names == ("membrane", "cell", "outside")
    assert ("gaussian_smoothing", 1.0, "2d") in project.stages[0].selection
    inside = read_project(DATA / "channels2d" / "channels2d.ilp").lanes[0]
    assert inside.path == ""
    assert inside.dataset.startswith("Input Data/local_data/")
    autocontext = read_project(DATA / "autocontext" / "autocontext.ilp")
    assert autocontext.workflow == "Autocontext (2-stage)"
    assert [stage.forest.feature_count for stage in autocontext.stages] == [13, 18]


@pytest.mark.parametrize("version", ["1.2.0rc10", "1.3.3post1", "1.4.0b11", "1.4.2"])
def test_layouts_of_older_versions_are_read(version, tmp_path):
    path = write_project(tmp_path / "old.ilp", version=version, selected=[(0, 2), (4, 3)])
    project = read_project(path)
    assert project.stages[0].selection == (("gaussian_smoothing", 1.0), ("structure_tensor_eigenvalues", 1.6))
    (block,) = project.stages[0].labels
    assert (block.axes, block.start, block.labels.shape) == ("yx", (0, 0), (20, 30))
    assert project.lanes[0].shape == ((20, 30) if version >= "1.3" else ())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"workflow": "Tracking"}, "project of the workflow 'Tracking'. Workflows that run: Pixel"),
        ({"workflow": None}, "names no workflow"),
        ({"version": None}, "does not say which ilastik wrote it"),
        ({"version": 0.5}, "by an ilastik before 1.0"),
    ],
)
def test_a_project_that_is_not_known_is_told_what_it_is(changes, sentence, tmp_path):
    path = write_project(tmp_path / "a.ilp", **changes)
    with pytest.raises(FormatError, match=rf"a\.ilp.*{sentence}"):
        read_project(path)


def test_what_is_no_project_is_said(tmp_path):
    (tmp_path / "text.ilp").write_text("hello")
    with pytest.raises(FormatError, match="no ilastik project: it is no HDF5 file"):
        read_project(tmp_path / "text.ilp")
    with pytest.raises(StorageError, match="does not exist"):
        read_project(tmp_path / "none.ilp")
    (tmp_path / "pointer.ilp").write_text("/annex/objects/MD5E-s9--0.ilp\n")
    with pytest.raises(StorageError, match="'git annex get' fetches it"):
        read_project(tmp_path / "pointer.ilp")
    h5py.File(tmp_path / "empty.ilp", "w").close()
    with pytest.raises(FormatError, match="does not say which ilastik"):
        read_project(tmp_path / "empty.ilp")


EXT = "PixelClassification/ClassifierForests/Forest0000/_ext_param"


def replaced(path, name, data, **options):
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_dataset(name, data=data, **options)


def link_out(path, secret):
    with h5py.File(path, "r+") as file:
        del file["PixelClassification"]
        file["PixelClassification"] = h5py.ExternalLink(str(secret), "/PixelClassification")


def soft_link(path, secret):
    with h5py.File(path, "r+") as file:
        file["elsewhere"] = file["FeatureSelections/Scales"]
        del file["FeatureSelections/Scales"]
        file["FeatureSelections/Scales"] = h5py.SoftLink("/elsewhere")


def external_storage(path, secret):
    with h5py.File(path, "r+") as file:
        del file["FeatureSelections/Scales"]
        file.create_dataset("FeatureSelections/Scales", (7,), "f8", external=[(str(secret), 0, 56)])


def virtual(path, secret):
    layout = h5py.VirtualLayout((7,), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "FeatureSelections/Scales", (7,))
    with h5py.File(path, "r+") as file:
        del file["FeatureSelections/Scales"]
        file.create_virtual_dataset("FeatureSelections/Scales", layout)


def a_bomb(path, secret):
    with h5py.File(path, "r+") as file:
        del file["FeatureSelections/SelectionMatrix"]
        file.create_dataset(
            "FeatureSelections/SelectionMatrix", (2**20, 2**20), bool, chunks=(64, 64), compression=1
        )


def another_filter(path, secret):
    replaced(path, "FeatureSelections/Scales", np.zeros(7), compression="lzf")


def the_same_text_a_thousand_times(path, secret):
    name = "PixelClassification/LabelNames"
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_dataset(name, (1000,), h5py.string_dtype())[0] = "x" * 10_000
        place = file[name].id.get_offset()
    data = bytearray(path.read_bytes())
    data[place : place + 16_000] = data[place : place + 16] * 1000  # ten megabytes in the memory
    path.write_bytes(data)


def two_thousand_million_features(path, secret):
    replaced(path, f"{EXT}/column_count_", [2**31 - 1])


def two_thousand_million_classes_without_names(path, secret):
    with h5py.File(path, "r+") as file:
        del file["PixelClassification/LabelNames"]
    replaced(path, f"{EXT}/labels", [1, 2**31 - 1])


@pytest.mark.parametrize(
    "attack",
    [
        link_out,
        soft_link,
        external_storage,
        virtual,
        a_bomb,
        another_filter,
        the_same_text_a_thousand_times,
        two_thousand_million_features,
        two_thousand_million_classes_without_names,
    ],
)
def test_a_hostile_project_is_refused(attack, tmp_path):
    secret = write_project(tmp_path / "secret.h5")
    path = write_project(tmp_path / "a.ilp")
    attack(path, secret)
    with pytest.raises(FormatError, match=r"a\.ilp"):
        read_project(path)


def test_no_pickle_of_a_project_is_looked_at(tmp_path):
    canary = tmp_path / "canary"
    path = write_project(tmp_path / "a.ilp")
    pickle = f"cbuiltins\nopen\n(S'{canary}'\nS'w'\ntR.".encode()
    with h5py.File(path, "r+") as file:
        file["PixelClassification/ClassifierFactory"] = pickle
        file["PixelClassification/ClassifierForests/pickled_type"] = pickle
        file["PixelClassification/Bookmarks/0000"] = np.void(pickle)
    assert read_project(path).stages[0].forest is not None
    assert not canary.exists()


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("FeatureSelections/SelectionMatrix", np.zeros((3, 7), bool), r"by \(3, 7\)"),
        ("FeatureSelections/FeatureIds", [b"Other"] * 6, "feature 'Other'"),
        ("FeatureSelections/Scales", [b"x"], "not numbers"),
        ("FeatureSelections/Scales", 1.0, "at 1 scales"),
        ("FeatureSelections/Scales", [np.nan] * 7, "no scales of features"),
        ("FeatureSelections/Scales", [1.0] * 6 + [1e300], "no scales of features, above 0 and up to 1000"),
        ("FeatureSelections/SelectionMatrix", h5py.Empty("f4"), "holds nothing"),
        (f"{EXT}/labels", [np.nan, 1.0], "votes for label"),
        (
            "PixelClassification/ClassifierForests/Forest0000/_ext_param/column_count_",
            [-1.0],
            "not one number",
        ),
        (
            "PixelClassification/ClassifierForests/Forest0000/_options/predict_weighted_",
            [1.0],
            "weighs votes",
        ),
        ("PixelClassification/ClassifierForests/Forest0000/Tree_0/topology", [1, 2, 3], "tree 0 is damaged"),
        ("PixelClassification/LabelSets/labels000/block0000", np.zeros((2, 2)), "no block of labels"),
    ],
)
def test_damage_is_told_by_its_place(name, data, sentence, tmp_path):
    path = write_project(tmp_path / "a.ilp")
    replaced(path, name, data)
    with pytest.raises(FormatError, match=rf"a\.ilp.*{sentence}"):
        read_project(path)


def test_a_project_that_was_never_trained_is_read(tmp_path):
    path = write_project(tmp_path / "a.ilp")
    with h5py.File(path, "r+") as file:
        del file["PixelClassification/ClassifierForests"]
        del file["PixelClassification/LabelSets"]
    (stage,) = read_project(path).stages
    assert stage.forest is None
    assert stage.labels == ()


def test_mutants_of_a_project_end_as_a_project_or_as_our_error(tmp_path):
    path = write_project(tmp_path / "a.ilp")
    original = path.read_bytes()
    chance = random.Random(2)
    read = 0
    for _ in range(150):
        data = bytearray(original)
        for _ in range(chance.randint(1, 5)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            read_project(path)
            read += 1
        except LazyflowError:
            pass
    assert read
