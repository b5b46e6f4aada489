"""`lazyflow convert` and `lazyflow stats`: one file or many, and what becomes of those that fail."""

import json
from contextlib import chdir

import numpy as np
import pytest
from click.testing import CliRunner

from lazyflow_core import ArrayMeta, Graph, Roi, get_operator, open_reader, open_writer

for _name in ("array", "io"):
    pytest.importorskip(f"lazyflow_ops_{_name}")
main = pytest.importorskip("lazyflow_cli.main")

PIXELS = np.random.default_rng(2).integers(0, 200, (4, 20, 30)).astype(np.uint8)


def save(path, pixels=PIXELS, axes="zyx"):
    writer = open_writer(path, ArrayMeta(pixels.shape, pixels.dtype, axes), overwrite=True)
    writer.write(Roi.from_shape(pixels.shape), pixels)
    writer.commit()


def load(path):
    reader = open_reader(path)
    try:
        pixels = np.empty(reader.meta.shape, reader.meta.dtype)
        reader.read(reader.meta.roi, pixels)
        return reader.meta, pixels
    finally:
        reader.close()


@pytest.fixture
def folder(tmp_path):
    with chdir(tmp_path):
        (tmp_path / "raw").mkdir()
        save("raw/a.tif")
        save("raw/b c.tif", PIXELS[:2])
        save("raw/[x].tif", PIXELS[:1])
        yield tmp_path


def lazyflow(*words):
    return CliRunner().invoke(main.cli, list(words))


def test_one_file_is_cropped_scaled_reordered_and_cast(folder):
    done = lazyflow(
        *("convert", "raw/a.tif", "b.h5", "--crop", "z=1:3", "--scale", "1,0.5,0.5"),
        *("--axes", "cxyz", "--dtype", "float32", "--quiet"),
    )
    assert (done.exit_code, done.output) == (0, "")
    meta, pixels = load("b.h5")
    assert (meta.axes.keys, meta.shape, meta.dtype) == ("cxyz", (1, 15, 10, 2), np.float32)
    resize = get_operator("array.resize")(graph=Graph(), scale=(1.0, 0.5, 0.5))
    resize.image.assign(PIXELS[1:3], axes="zyx")
    assert np.array_equal(pixels[0].T, resize.output.read())


def test_a_pattern_finds_many_files_and_each_has_a_target_of_its_own(folder):
    done = lazyflow("convert", "raw/*.tif", "out/{stem}.npy", "--json")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["[x].npy", "a.npy", "b c.npy"]
    assert np.array_equal(load("out/b c.npy")[1], PIXELS[:2])
    events = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    assert [(e["file"], e["files"]) for e in events if e["event"] == "written"] == [(1, 3), (2, 3), (3, 3)]


def test_a_name_with_brackets_is_that_file_and_no_pattern(folder):
    assert lazyflow("convert", "raw/[x].tif", "x.npy").exit_code == 0
    assert np.array_equal(load("x.npy")[1].squeeze(), PIXELS[0])


def test_a_file_that_fails_is_named_at_the_end_and_stops_no_other(folder):
    (folder / "raw/aa.tif").write_bytes(b"II*\0 no more")
    done = lazyflow("convert", "raw/*.tif", "out/{stem}.npy")
    assert done.exit_code == 4
    assert "1 of 4 files failed" in done.output
    assert done.output.splitlines()[-1].strip().startswith("raw/aa.tif: ")
    assert len(list((folder / "out").iterdir())) == 3
    done = lazyflow("convert", "raw/*.tif", "late/{stem}.npy", "--fail-fast")
    assert done.exit_code == 4
    assert "b c.npy" not in [path.name for path in (folder / "late").iterdir()]


def test_what_exists_is_kept_unless_told_otherwise(folder):
    save("out.npy", PIXELS[:1])
    done = lazyflow("convert", "raw/a.tif", "out.npy")
    assert done.exit_code == 5
    assert "--overwrite" in done.output
    assert lazyflow("convert", "raw/a.tif", "out.npy", "--overwrite").exit_code == 0
    assert load("out.npy")[1].size == PIXELS.size


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["raw/*.tif", "one.zarr"], "{stem}"),
        (["raw/a.tif", "raw/./a.tif", "out/{stem}.zarr"], "would both be written"),
        (["nothing*.tif", "one.zarr"], "no file fits"),
        (["raw/a.tif", "one.zarr", "--scale", "half"], "write a number"),
        (["raw/a.tif", "one.zarr", "--scale", "0"], "number > 0"),
        (["raw/a.tif", "one.zarr", "--crop", "q=3"], "axis 'q'"),
        (["raw/a.tif", "one.zarr", "--axes", "yx"], "cannot be dropped"),
        (["raw/a.tif", "one.zarr", "--dtype", "float33"], "no dtype"),
        (["raw/a.tif", "raw/a.tif"], "raw/a.tif"),
        (["raw/a.tif", "a.zzz"], "a.zzz"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(folder, words, says):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = lazyflow("convert", *words)
    assert done.exit_code in (1, 2, 5), done.output
    assert says in done.output
    assert len([line for line in done.output.splitlines() if line.startswith("lazyflow:")]) == 1
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_statistics_of_files_are_those_of_their_pixels(folder):
    done = lazyflow("stats", "raw/*.tif", "--percentiles", "0,50", "--bins", "4", "--json")
    assert done.exit_code == 0, done.output
    arrays = json.loads(done.output)["arrays"]
    assert [facts["name"] for facts in arrays] == ["raw/[x].tif", "raw/a.tif", "raw/b c.tif"]
    facts = arrays[1]
    assert facts["minimum"] == PIXELS.min()
    assert facts["mean"] == pytest.approx(PIXELS.mean(), rel=1e-12)
    assert facts["percentiles"] == {"0": PIXELS.min(), "50": float(np.median(PIXELS))}
    assert facts["histogram"]["counts"] == np.histogram(PIXELS, 4)[0].tolist()


def test_statistics_are_said_in_words_and_nan_is_counted_apart(folder):
    image = PIXELS.astype(np.float32)
    image[0, 0, :3] = np.nan
    save("nan.npy", image)
    done = lazyflow("stats", "nan.npy", "--roi", "z=0, y=0")
    assert done.exit_code == 0, done.output
    assert "3 of 30 pixels" in done.output
    assert f"{np.nanmin(image[0, 0]):g} to {np.nanmax(image[0, 0]):g}" in done.output
    save("all.npy", np.full((2, 2), np.nan), "yx")
    assert json.loads(lazyflow("stats", "all.npy", "--json").output)["arrays"][0]["mean"] is None


def test_statistics_of_the_steps_of_a_pipeline_need_no_target(folder):
    (folder / "p.toml").write_text(
        '[volume]\noperator = "io.read"\npath = "raw/a.tif"\n'
        '[bright]\noperator = "array.threshold"\nimage = "volume.output"\nlevel = "numbers.mean"\n'
        '[numbers]\noperator = "array.statistics"\nimage = "volume.output"\n'
        '[[export]]\nslot = "bright.output"\npath = "mask.tif"\n'
    )
    done = lazyflow("stats", "p.toml", "bright.output", "numbers.maximum", "--json")
    assert done.exit_code == 0, done.output
    mask, maximum = json.loads(done.output)["arrays"]
    assert mask["mean"] == pytest.approx((PIXELS.mean() < PIXELS).mean())
    assert maximum["value"] == PIXELS.max()
    assert not (folder / "mask.tif").exists()
    done = lazyflow("stats", "p.toml", "bright.outptu")
    assert done.exit_code == 2
    assert "bright.output" in done.output
    assert lazyflow("stats", "p.toml").exit_code == 2
    assert lazyflow("stats", "raw/a.tif", "--percentiles", "one").exit_code == 2
    assert lazyflow("stats", "raw/a.tif", "--percentiles", "101").exit_code != 0
