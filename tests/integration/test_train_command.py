"""`lazyflow train` as users type it: on the example's strokes, on a project, and on what is wrong."""

import json
import shutil
from contextlib import chdir
from pathlib import Path

import h5py
import numpy as np
import pytest

from lazyflow_core import open_reader

pytest.importorskip("lazyflow_cli")
pytest.importorskip("lazyflow_ops_io")
pytest.importorskip("lazyflow_ops_filters")
learning = pytest.importorskip("lazyflow_ops_learning")

from lazyflow_cli.main import cli  # noqa: E402

ROOT = Path(__file__).parents[2]
PROJECTS = ROOT / "plugins/lazyflow-ops-learning/tests/data"
STROKES = "examples/data/ovule_strokes.h5/strokes"
TRAIN = ("examples/ovule_features.toml", "--labels", STROKES, "--classes", "membrane,cell")


@pytest.fixture(autouse=True)
def no_leaked_threads():
    """Instead of the fixture for all tests: zarr keeps threads for the process once it has read a file."""


@pytest.fixture
def desk(tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("lazyflow-*"))
    with chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def lazyflow(desk, capfd):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([*map(str, arguments)], prog_name="lazyflow")
        said = capfd.readouterr()
        return end.value.code or 0, said.out, said.err

    return run


def test_strokes_become_a_forest_that_tells_membranes_from_cells(lazyflow, desk):
    code, out, _ = lazyflow("train", *TRAIN, "-o", "examples/ovule.forest.npz", "--json")
    assert code == 0
    report = json.loads(out)
    assert [each["name"] for each in report["classes"]] == ["membrane", "cell"]
    assert sum(each["samples"] for each in report["classes"]) == np.sum(report["confusion"])
    assert report["out_of_bag_error"] < 0.05
    assert sum(each["share"] for each in report["importance"]) == pytest.approx(1)
    forest = learning.load_forest("examples/ovule.forest.npz")
    assert forest.digest == report["digest"]
    assert len(forest.feature_names) == len(report["importance"])

    code, _, said = lazyflow("run", "examples/ovule_classes.toml", "--quiet")
    assert (code, said) == (0, "")
    with open_reader("examples/ovule_classes.h5", dataset="classes") as reader:
        classes = np.empty(reader.meta.shape, np.uint8)
        reader.read(reader.meta.roi, classes)
    with h5py.File("examples/data/sample_ovule.h5") as file:
        truth = file["label"][()]
    border = truth[:, 1:, 1:] != truth[:, :-1, :-1]
    assert (classes[:, 1:, 1:][border] == 1).mean() > 0.8
    assert (classes == 2).mean() > 0.4


def test_the_same_seed_gives_the_same_file_on_any_number_of_threads(lazyflow):
    digests = set()
    for number, more in enumerate([["--workers", 1], ["--workers", 3], ["--seed", 1]]):
        code, out, _ = lazyflow("train", *TRAIN, "-o", f"{number}.npz", "--trees", 7, "--json", *more)
        assert code == 0
        digests.add(json.loads(out)["digest"])
    assert len(digests) == 2


def test_a_project_is_trained_anew_with_its_own_strokes(lazyflow):
    for name in ("in2d.ilp", "in2d.h5"):
        shutil.copy(PROJECTS / "in2d" / name, name)
    code, _, said = lazyflow("train", "in2d.ilp", "-o", "a.forest.npz")
    assert code == 0
    assert "membrane (112 pixels), cell (153 pixels), outside (126 pixels)" in said
    assert "wrote a.forest.npz" in said
    # What `ilastik convert` writes takes it: the features are the same.
    assert lazyflow("ilastik", "convert", "in2d.ilp", "-o", "p.toml")[0] == 0
    shutil.move("a.forest.npz", "p.forest.npz")
    code, _, said = lazyflow("run", "p.toml", "--export", "predict.labels=out.h5", "--quiet")
    assert (code, said) == (0, "")


def test_several_images_have_labels_each(lazyflow, desk):
    rng = np.random.default_rng(0)
    for number in range(2):
        pixels = rng.integers(0, 60, (40, 50)).astype("u1")
        pixels[:, 25:] += 100
        labels = np.zeros((40, 50), np.uint8)
        labels[5 + number, :20], labels[8, 30:] = 1, 2
        np.save(f"image{number}.npy", pixels)
        np.save(f"labels{number}.npy", labels)
    (desk / "f.toml").write_text(
        '[image]\noperator = "io.read"\npath = "image0.npy"\n'
        '[features]\noperator = "filters.pixel_features"\nimage = "image.output"\n'
        'selection = [["gaussian_smoothing", 1.0], ["gaussian_smoothing", 1.6]]\n'
    )
    pairs = [part for n in range(2) for part in ("-i", f"image{n}.npy", "-l", f"labels{n}.npy")]
    code, out, said = lazyflow("train", "f.toml", *pairs, "-o", "a.npz", "--json")
    assert (code, said) == (0, "")
    assert [each["samples"] for each in json.loads(out)["classes"]] == [40, 40]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["none.toml", "-l", "x.h5"], 2, "no such file"),
        (["examples/ovule_features.toml"], 2, "give --labels"),
        (["examples/ovule_features.toml", "-l", "none.h5"], 4, "none.h5 does not exist"),
        (
            ["examples/ovule_features.toml", "-l", "examples/data/sample_ovule.h5/label"],
            4,
            "classes are 1 to 255",
        ),
        (["examples/ovule_features.toml", "-l", "empty.npy"], 4, "there are none"),
        (["examples/ovule_features.toml", "-l", "one.npy"], 4, "all are 'class 3'"),
        (["examples/ovule_features.toml", "-l", "small.npy"], 4, "are no image of"),
        (["examples/ovule_features.toml", "-l", "damaged.h5/labels"], 4, "damaged.h5"),
        (["examples/ovule_features.toml", "-l", STROKES, "--classes", "a"], 4, "class 2, but 1 classes"),
        (
            ["examples/ovule_features.toml", "-l", STROKES, "--features", "volume.output"],
            4,
            "one channel axis",
        ),
        (["examples/ovule_features.toml", "-l", STROKES, "-i", "a.h5", "-i", "b.h5"], 2, "2 images and 1"),
        (["examples/ovule.toml", "-l", STROKES], 2, "None at the end has a channel axis"),
        (["autocontext.ilp"], 4, "two stages"),
        (["autocontext.ilp", "-l", STROKES], 2, "are its own"),
        ([*TRAIN, "-o", "nowhere/a.npz"], 5, "no folder 'nowhere'"),
        ([*TRAIN, "-o", "examples/ovule.toml"], 5, "exists"),
        ([*TRAIN, "-o", "examples/data/ovule_strokes.h5", "--overwrite"], 5, "is read"),
        ([*TRAIN, "--trees", "0"], 2, "trees"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(lazyflow, desk, arguments, code, sentence):
    np.save("empty.npy", np.zeros((32, 128, 128), "u1"))
    np.save("one.npy", np.full((32, 128, 128), 3, "u1")[:, ::1] * (np.arange(128) == 5))
    np.save("small.npy", np.ones((3, 4), "u1"))
    shutil.copy(PROJECTS / "autocontext" / "autocontext.ilp", "autocontext.ilp")
    (desk / "damaged.h5").write_bytes((desk / "examples/data/ovule_strokes.h5").read_bytes()[:2000])
    before = sorted(desk.rglob("*"))
    output = [] if "-o" in arguments else ["-o", "a.npz"]
    found, _, said = lazyflow("train", *arguments, *output)
    assert found == code, said
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert sorted(desk.rglob("*")) == before
