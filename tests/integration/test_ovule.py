"""The main job on real data: a pipeline file, run by the command, equals scipy on the whole array at once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lazyflow_core import open_reader

pytest.importorskip("lazyflow_cli")
pytest.importorskip("lazyflow_ops_io")
pytest.importorskip("lazyflow_ops_filters")
pytest.importorskip("lazyflow_ops_array")
ndimage = pytest.importorskip("scipy.ndimage")
h5py = pytest.importorskip("h5py")

EXAMPLES = Path(__file__).parents[2] / "examples"
SIGMA, LEVEL = 1.0, 18.0
PIXEL_SIZE = {"z": 0.235, "y": 0.15, "x": 0.15}


@pytest.fixture(scope="module")
def volume():
    with h5py.File(EXAMPLES / "data" / "sample_ovule.h5") as file:
        return file["raw"][()]


def weights(sigma, order):
    """The kernel the filters document: a sampled Gaussian or its derivative, of exact sum or slope."""
    radius = int((3 + order / 2) * sigma + 0.5)
    x = np.arange(-radius, radius + 1)
    gauss = np.exp(-(x**2) / (2 * sigma**2))
    return gauss / gauss.sum() if order == 0 else x * gauss / (x**2 * gauss).sum()


def filtered(image, sigma, orders):
    for axis, order in enumerate(orders):
        image = ndimage.correlate1d(image, weights(sigma, order), axis=axis, mode="mirror")
    return image


@pytest.fixture(scope="module")
def edges(volume):
    """The gradient magnitude of the smoothed volume, by scipy on the whole array at once, in float64."""
    smooth = ndimage.gaussian_filter(volume.astype(np.float64), SIGMA, mode="mirror", truncate=3.0)
    gradient = [filtered(smooth, SIGMA, orders) for orders in np.eye(3, dtype=int)]
    return np.sqrt(sum(component**2 for component in gradient))


def lazyflow(*arguments, cwd):
    """Run the command as users do."""
    return subprocess.run(
        [sys.executable, "-m", "lazyflow_cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder in which the example was run, in many blocks, and what the command said."""
    folder = tmp_path_factory.mktemp("ovule")
    shutil.copy(EXAMPLES / "ovule.toml", folder)
    shutil.copytree(EXAMPLES / "data", folder / "data")
    result = lazyflow("run", "ovule.toml", "--json", "--memory=3MiB", "--preview=ovule.png", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder, [json.loads(line) for line in result.stdout.splitlines()]


def test_the_gradient_magnitude_equals_scipys(run, edges):
    folder, _ = run
    with h5py.File(folder / "ovule_edges.h5") as file:
        result = file["edges"][()]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, edges, rtol=0, atol=1e-4)


def test_the_mask_equals_scipys_except_where_it_is_decided_by_rounding(run, edges):
    folder, _ = run
    reader = open_reader(str(folder / "ovule_mask.zarr"))
    mask = np.empty(reader.meta.shape, reader.meta.dtype)
    reader.read(reader.meta.roi, mask)
    reader.close()
    decided = np.abs(edges - LEVEL) > 1e-4
    np.testing.assert_array_equal(mask[decided], (edges > LEVEL)[decided])
    assert decided.mean() > 0.999
    assert 0.1 < mask.mean() < 0.9


@pytest.mark.parametrize("name", ["ovule_edges.h5", "ovule_mask.zarr"])
def test_axes_and_pixel_size_are_kept(run, name):
    folder, _ = run
    reader = open_reader(str(folder / name))
    sizes = {axis.key: (axis.kind, axis.unit, axis.resolution) for axis in reader.meta.axes}
    reader.close()
    assert sizes == {key: ("space", "micrometer", size) for key, size in PIXEL_SIZE.items()}


def test_the_volume_was_computed_in_blocks(run):
    _, events = run
    plans = [event for event in events if event["event"] == "plan"]
    assert [plan["blocks"] for plan in plans] == [8, 8]


def test_the_last_lines_say_what_was_written(run, volume):
    folder, events = run
    written = [event for event in events if event["event"] == "written"]
    assert [Path(event["path"]).name for event in written] == ["ovule_edges.h5", "ovule_mask.zarr"]
    assert all(event["shape"] == list(volume.shape) for event in written)
    assert written[0]["bytes"] == (folder / "ovule_edges.h5").stat().st_size


def test_nothing_but_results_is_left(run):
    folder, _ = run
    names = {path.name for path in folder.iterdir()}
    assert names == {"data", "ovule.toml", "ovule.png", "ovule_edges.h5", "ovule_mask.zarr"}


def test_overrides_take_the_place_of_what_the_file_says(run, volume):
    folder, _ = run
    result = lazyflow(
        *("run", "ovule.toml", "--quiet", "--set", "smooth.sigma=3"),
        *("--export", "smooth.output=out.zarr", "--roi", "10:20,:,:"),
        cwd=folder,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    reader = open_reader(str(folder / "out.zarr"))
    data = np.empty(reader.meta.shape, reader.meta.dtype)
    reader.read(reader.meta.roi, data)
    z = reader.meta.axes[0]
    reader.close()
    shutil.rmtree(folder / "out.zarr")
    smooth = ndimage.gaussian_filter(volume.astype(np.float64), 3, mode="mirror", truncate=3.0)
    np.testing.assert_allclose(data, smooth[10:20], rtol=0, atol=1e-4)
    assert (z.resolution, z.translation) == (0.235, pytest.approx(2.35))


def test_one_operator_runs_on_a_file_without_a_pipeline(tmp_path, volume):
    shutil.copytree(EXAMPLES / "data", tmp_path / "data")
    result = lazyflow(
        *("run", "filters.gaussian_smoothing", "--set", "sigma=3", "--roi", "10:20,:,:"),
        *("--in", "image={path='data/sample_ovule.h5', dataset='raw'}", "--out", "out.npy"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    smooth = ndimage.gaussian_filter(volume.astype(np.float64), 3, mode="mirror", truncate=3.0)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), smooth[10:20], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "code"),
    [(0, 4), (1000, 4), (400_000, 4), (None, 2)],
    ids=["empty", "cut", "cut late", "missing"],
)
def test_a_damaged_input_is_named_and_nothing_is_written(tmp_path, size, code):
    shutil.copy(EXAMPLES / "ovule.toml", tmp_path)
    (tmp_path / "data").mkdir()
    if size is not None:
        whole = (EXAMPLES / "data" / "sample_ovule.h5").read_bytes()
        (tmp_path / "data" / "sample_ovule.h5").write_bytes(whole[:size])
    result = lazyflow("run", "ovule.toml", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (code, "")
    (sentence,) = result.stderr.splitlines()
    assert "sample_ovule.h5" in sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "ovule.toml"]


@pytest.mark.parametrize(
    "example",
    # What is trained is run in test_train_command.py.
    sorted(path.name for path in EXAMPLES.glob("*.toml") if "lazyflow train" not in path.read_text("utf-8")),
)
def test_every_example_runs(tmp_path, example):
    shutil.copy(EXAMPLES / example, tmp_path)
    shutil.copytree(EXAMPLES / "data", tmp_path / "data")
    result = lazyflow("run", example, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    written = result.stdout.splitlines()
    assert written
    assert all(line.startswith("wrote ovule_") for line in written)
