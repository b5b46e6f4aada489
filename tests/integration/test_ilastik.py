"""Projects that ilastik trained give what ilastik gave, from Python and from the command line."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest

from lazyflow_core import Graph
from lazyflow_core.errors import FormatError

DATA = Path(__file__).parents[2] / "plugins/lazyflow-ops-learning/tests/data"
PROJECTS = {
    "ovule3d": "ilastik",
    "in2d": "ilastik",
    "nuclei3d": "ilastik",
    "nuclei3d_vigra": "ilastik-vigra",
    "channels2d": "ilastik",
    "time2d": "ilastik",
}


def image_of(name):
    return DATA / name.removesuffix("_vigra") / f"{name.removesuffix('_vigra')}.h5"


def lazyflow(*arguments, cwd=None, code=0):
    """Run the command; return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "lazyflow_cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def exported(path):
    with h5py.File(path) as file:
        (dataset,) = [one for one in file.values() if isinstance(one, h5py.Dataset)]
        return dataset[()]


@pytest.mark.parametrize("name", PROJECTS)
def test_a_project_gives_ilastiks_probabilities_with_the_recipe_it_was_trained_with(name):
    from lazyflow_ops_learning.ilastik.pipeline import build_project, choose_recipe, export_slot, open_image
    from lazyflow_ops_learning.ilastik.project import read_project

    project = read_project(DATA / name / f"{name}.ilp")
    recipe = choose_recipe(project, [str(image_of(name))])
    assert recipe.name == PROJECTS[name], recipe
    expected = np.load(DATA / name / "expected.npz")
    with Graph() as graph:
        image = open_image(graph, str(image_of(name)), "data")
        built = build_project(project, graph, image, recipe.name)
        slot = export_slot(project, graph, built, image, "probabilities")
        assert slot.meta.axes.keys == str(expected["axes"])
        got, wanted = slot.read(), expected["probabilities"]
        # What is left is the noise of fastfilters, whose eigenvalues of 3×3 matrices are of single precision.
        assert np.abs(got.astype(float) - wanted).mean() <= 3e-4
        assert (got.argmax(axis=-1) != wanted.argmax(axis=-1)).mean() <= 5e-5
        if "labels" in expected.files:
            strokes = export_slot(project, graph, built, image, "labels", strokes=0).read()[..., 0]
            order = [str(expected["label_axes"]).index(key) for key in slot.meta.axes.keys[:-1]]
            assert np.array_equal(strokes, expected["labels"].transpose(order))
        if "probabilities_uint8" in expected.files:
            built[-1].predict.dtype.value = "uint8"
            different = np.abs(slot.read().astype(int) - expected["probabilities_uint8"])
            assert (different > 1).mean() <= 1e-3


def test_two_stages_give_what_ilastik_gave(tmp_path):
    folder = DATA / "autocontext"
    said = lazyflow(
        "ilastik", "run", folder / "autocontext.ilp", folder / "autocontext.h5", "-o", "{export}.h5",
        *("-e", "probabilities", "-e", "probabilities_1", "-e", "segmentation", "-e", "probabilities_all"),
        cwd=tmp_path,
    )  # fmt: skip
    assert "features: ilastik" in said
    expected = np.load(folder / "expected.npz")
    second = exported(tmp_path / "probabilities.h5")
    assert np.abs(second - expected["probabilities_2"]).max() <= 1e-6
    assert np.abs(exported(tmp_path / "probabilities_1.h5") - expected["probabilities_1"]).max() <= 1e-6
    assert np.array_equal(exported(tmp_path / "segmentation.h5")[..., 0], second.argmax(axis=-1) + 1)
    assert exported(tmp_path / "probabilities_all.h5").shape == (16, 48, 48, 4)


def test_a_project_and_its_images_may_be_in_other_folders(tmp_path):
    (tmp_path / "projects").mkdir()
    (tmp_path / "images").mkdir()
    shutil.copy(DATA / "nuclei3d" / "nuclei3d.ilp", tmp_path / "projects")
    for name in ("nuclei3d.h5", "other.h5"):
        shutil.copy(image_of("nuclei3d"), tmp_path / "images" / name)
    run = ("ilastik", "run", "projects/nuclei3d.ilp", "images/*.h5", "-o", "{stem}_{export}.h5")
    said = lazyflow(*run, cwd=tmp_path)
    assert "0.9941 of their class with it" in said
    wanted = np.load(DATA / "nuclei3d" / "expected.npz")["probabilities"]
    for name in ("nuclei3d", "other"):
        got = exported(tmp_path / f"{name}_probabilities.h5")
        assert np.abs(got - wanted).mean() <= 3e-4
    assert "exists; replace it by --overwrite" in lazyflow(*run, cwd=tmp_path, code=5)
    lazyflow(*run, "--overwrite", "--workers", "2", "--memory", "200MiB", "--quiet", cwd=tmp_path)


def test_one_image_that_fails_does_not_stop_the_others(tmp_path):
    shutil.copy(image_of("nuclei3d"), tmp_path / "good.h5")
    shutil.copy(image_of("channels2d"), tmp_path / "bad.h5")
    project = DATA / "nuclei3d" / "nuclei3d.ilp"
    said = lazyflow("ilastik", "run", project, "*.h5", "-o", "{stem}.zarr", cwd=tmp_path, code=4)
    assert "bad.h5: " in said
    assert "trained on images with another number of channels" in said
    assert "1 of 2 images failed: bad.h5" in said
    assert (tmp_path / "good.zarr").is_dir()
    assert not (tmp_path / "bad.zarr").exists()


def test_a_project_becomes_a_pipeline_file_with_the_same_results(tmp_path):
    for name in ("autocontext", "channels2d"):
        folder = DATA / name
        image = folder / f"{name}.h5"
        lazyflow(
            "ilastik",
            "convert",
            folder / f"{name}.ilp",
            "-o",
            f"{name}.toml",
            "--image",
            f"{image}/data",
            cwd=tmp_path,
        )
        with open(tmp_path / f"{name}.toml", "rb") as file:
            steps = tomllib.load(file)
        assert steps["image"]["operator"] == "io.read"
        lazyflow("run", f"{name}.toml", cwd=tmp_path)
        got = exported(tmp_path / f"{name}_probabilities.h5")
        expected = np.load(folder / "expected.npz")
        wanted = expected["probabilities" if name == "channels2d" else "probabilities_2"]
        channel = got.shape.index(2) if name == "channels2d" else 0
        assert np.abs(np.moveaxis(got, channel, -1) - wanted).mean() <= 3e-4


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["info", "{h5}"], 4, "is no ilastik project"),
        (["run", "{ilp}", "none.h5"], 4, "there is no image 'none.h5'"),
        (["run", "{ilp}", "{h5}", "-e", "probabilitie"], 2, "did you mean 'probabilities'"),
        (["run", "{ilp}", "{h5}", "-o", "{x}.h5"], 2, "'x' cannot be replaced"),
        (
            ["run", "{ilp}", "{h5}", "-o", "a.h5", "-e", "labels", "-e", "features"],
            2,
            "would both be written",
        ),
        (["run", "{ilp}", "{h5}", "-o", "{h5}"], 5, "is read"),
        (["run", "{ilp}", "{h5}", "-o", "none/a.h5"], 5, "there is no folder 'none'"),
        (["run", "{ilp}", "{h5}", "-o", "a.unknown"], 5, "a.unknown"),
        (["convert", "{ilp}", "-o", "none/a.toml"], 5, "cannot be written"),
    ],
)
def test_mistakes_get_one_sentence_and_write_nothing(arguments, code, sentence, tmp_path):
    values = {"ilp": str(DATA / "nuclei3d" / "nuclei3d.ilp"), "h5": str(image_of("nuclei3d"))}
    filled = [a.format(**values) if a in ("{ilp}", "{h5}") else a for a in arguments]
    before = image_of("nuclei3d").read_bytes()
    said = lazyflow("ilastik", *filled, cwd=tmp_path, code=code)
    assert sentence in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert image_of("nuclei3d").read_bytes() == before


def test_info_says_what_is_in_a_project():
    said = lazyflow("ilastik", "info", DATA / "nuclei3d" / "nuclei3d.ilp")
    assert "never painted (0 pixels)" in said
    assert "60 trees on 12 columns" in said
    assert "image 0: nuclei3d.h5, data (z=31, y=61, x=57)" in said
    assert '"workflow": "Pixel Classification"' in lazyflow(
        "ilastik", "info", "--json", DATA / "nuclei3d" / "nuclei3d.ilp"
    )


def test_labels_of_another_image_are_refused():
    from lazyflow_ops_learning.ilastik.pipeline import build_project, export_slot, open_image
    from lazyflow_ops_learning.ilastik.project import read_project

    project = read_project(DATA / "nuclei3d" / "nuclei3d.ilp")
    with Graph() as graph:
        image = open_image(graph, str(image_of("nuclei3d")), "data")
        built = build_project(project, graph, image, "ilastik")
        with pytest.raises(FormatError, match="none of them"):
            export_slot(project, graph, built, image, "labels")


@pytest.mark.parametrize("target", ["p.ilp", "image.h5", "same.ilp"])
def test_nothing_is_written_over_the_project_or_the_image_whatever_is_said(target, tmp_path):
    shutil.copy(DATA / "nuclei3d/nuclei3d.ilp", tmp_path / "p.ilp")
    shutil.copy(DATA / "nuclei3d/nuclei3d.h5", tmp_path / "image.h5")
    (tmp_path / "same.ilp").hardlink_to(tmp_path / "p.ilp")
    before = (tmp_path / target).read_bytes()
    options = ["-o", target, "--overwrite", "--recipe", "ilastik"]
    said = lazyflow("ilastik", "convert", "p.ilp", "--image", "image.h5/data", *options, cwd=tmp_path, code=5)
    assert "would be written where" in said
    said = lazyflow("ilastik", "run", "p.ilp", "image.h5/data", *options, cwd=tmp_path, code=5)
    assert "would be written where" in said
    assert (tmp_path / target).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"p.ilp", "image.h5", "same.ilp"}


def test_a_pipeline_file_appears_whole_or_not_at_all(tmp_path):
    from lazyflow_ops_learning.ilastik.convert import convert_project
    from lazyflow_ops_learning.ilastik.pipeline import Recipe
    from lazyflow_ops_learning.ilastik.project import read_project

    from lazyflow_core.errors import StorageError

    project = read_project(DATA / "nuclei3d/nuclei3d.ilp")
    recipe = Recipe("ilastik", {}, "")
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    there = set(tmp_path.iterdir())
    for name, sentence in {
        "": "no file name",
        "folder.toml": "no ordinary file",
        "pipe.toml": "no ordinary file",
        "\udcff.toml": "TOML is UTF-8",
    }.items():
        target = tmp_path / name if name else Path()
        with pytest.raises(StorageError, match=sentence):
            convert_project(project, recipe, target, overwrite=True)
    assert set(tmp_path.iterdir()) == there


@pytest.mark.parametrize("pattern", ["{stem.x}.h5", "{stem[x]}.h5", "{nothing}.h5"])
def test_a_pattern_that_cannot_be_filled_is_a_mistake_of_the_caller(pattern):
    said = lazyflow(
        "ilastik", "run", DATA / "nuclei3d/nuclei3d.ilp", image_of("nuclei3d"), "-o", pattern, code=2
    )
    assert "cannot be replaced" in said
    assert "Traceback" not in said


def test_names_in_a_project_cannot_rule_the_terminal(tmp_path):
    shutil.copy(DATA / "nuclei3d/nuclei3d.ilp", tmp_path / "p.ilp")
    with h5py.File(tmp_path / "p.ilp", "r+") as file:
        del file["PixelClassification/LabelNames"]
        file["PixelClassification/LabelNames"] = [b"\x1b[31mred", b"a\nb", b"c"]
    assert r"\x1b[31mred (122 pixels), a\nb (0 pixels)" in lazyflow("ilastik", "info", tmp_path / "p.ilp")


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n and no more", b"no image at all"])
def test_an_image_that_cannot_be_read_is_to_blame_by_the_exit_code(content, tmp_path):
    (tmp_path / "a.h5").write_bytes(content)
    project = DATA / "nuclei3d" / "nuclei3d.ilp"
    assert "a.h5" in lazyflow("ilastik", "run", project, "a.h5", cwd=tmp_path, code=4)
    shutil.copy(image_of("nuclei3d"), tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        place = file["data"].id.get_chunk_info(0)
    with open(tmp_path / "b.h5", "r+b") as file:
        file.seek(place.byte_offset)
        file.write(b"\xff" * place.size)
    said = lazyflow("ilastik", "run", project, "b.h5", "a.h5", "-o", "{stem}.npy", cwd=tmp_path, code=4)
    assert "2 of 2 images failed: b.h5, a.h5" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_a_memory_in_which_no_block_fits_is_refused_before_anything_is_computed(tmp_path):
    said = lazyflow(
        *("ilastik", "run", DATA / "nuclei3d/nuclei3d.ilp", image_of("nuclei3d"), "-o", "a.h5"),
        *("--memory", "1kB"),
        cwd=tmp_path,
        code=2,
    )
    assert "--memory: " in said
    assert "1000 is too little; the smallest block that can be computed" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_exports_of_one_image_are_computed_together_and_equal_each_alone(dtype, tmp_path):
    names = ("probabilities", "segmentation", "uncertainty", "features", "labels")
    run = ("ilastik", "run", DATA / "nuclei3d/nuclei3d.ilp", image_of("nuclei3d"), "--dtype", dtype)
    said = lazyflow(*run, "-o", "{export}.npy", *(f"--export={n}" for n in names), cwd=tmp_path)
    assert "segmentation.npy, uncertainty.npy, features.npy: probabilities, segmentation" in said
    lazyflow(*(*run, "-o", "two_{export}.npy", "-e", "segmentation", "-e", "probabilities"), cwd=tmp_path)
    for name in names:
        lazyflow(*run, "-o", "alone_{export}.npy", "--export", name, cwd=tmp_path)
        alone = np.load(tmp_path / f"alone_{name}.npy")
        for path in (tmp_path / f"{name}.npy", tmp_path / f"two_{name}.npy"):
            if path.exists():
                together = np.load(path)
                assert together.dtype == alone.dtype
                np.testing.assert_array_equal(together, alone)


def test_info_says_which_strokes_are_of_no_class(tmp_path):
    shutil.copy(DATA / "nuclei3d/nuclei3d.ilp", tmp_path / "p.ilp")
    with h5py.File(tmp_path / "p.ilp", "r+") as file:
        sets = file["PixelClassification/LabelSets/labels000"]
        block = sets[next(iter(sets))]
        block[(0,) * block.ndim] = 9
    assert "strokes of no class: label 9 (1 pixels)" in lazyflow("ilastik", "info", tmp_path / "p.ilp")


def test_a_size_that_is_none_is_a_mistake_of_the_caller():
    project, image = DATA / "nuclei3d/nuclei3d.ilp", image_of("nuclei3d")
    assert "--memory: 'much' is no size" in lazyflow(
        "ilastik", "run", project, image, "--memory", "much", code=2
    )
