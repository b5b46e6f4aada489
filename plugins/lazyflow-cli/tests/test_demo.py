"""`lazyflow demo`: the first thing a user runs works with the core alone."""

import numpy as np
from lazyflow_core import Graph, Roi
from PIL import Image

from lazyflow_cli import _demo


def test_the_core_alone_is_enough(lazyflow, tmp_path):
    result = lazyflow("demo", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "built",
        "pull",
        "push",
        "drew",
        "next",
    ]
    with Image.open(tmp_path / "lazyflow_demo.png") as picture:
        assert np.asarray(picture).std() > 10


def test_a_picture_that_exists_is_left_alone(lazyflow, tmp_path):
    (tmp_path / "lazyflow_demo.png").write_text("precious")
    result = lazyflow("demo", tmp_path)
    assert result.exit_code == 5
    assert "exists already; add --overwrite to replace it." in result.stderr
    assert (tmp_path / "lazyflow_demo.png").read_text() == "precious"


def test_a_folder_that_is_missing_is_named(lazyflow, tmp_path):
    result = lazyflow("demo", tmp_path / "no")
    assert (result.exit_code, result.stderr) == (
        5,
        f"lazyflow: '{tmp_path}/no' is not a folder; create it first.\n",
    )


def test_any_region_of_the_demo_operator_is_a_part_of_the_whole():
    image = np.random.default_rng(0).uniform(size=(3, 7, 9))
    with Graph() as graph:
        edges = _demo.OpEdges(graph=graph, image=image)
        whole = edges.output.read()
        for roi in (Roi((0, 0, 0), (3, 7, 9)), Roi((1, 2, 3), (2, 5, 6)), Roi((2, 6, 8), (3, 7, 9))):
            np.testing.assert_array_equal(edges.output.read(roi), whole[roi.slicing])
        right = np.diff(image, axis=2, append=image[:, :, -1:])
        below = np.diff(image, axis=1, append=image[:, -1:])
        np.testing.assert_allclose(whole, np.hypot(right, below), atol=1e-6)


def test_a_changed_pixel_of_the_demo_makes_all_stale_that_looked_at_it():
    with Graph() as graph:
        edges = _demo.OpEdges(graph=graph, image=np.zeros((5, 5)))
        stale = []
        edges.output.dirty.subscribe(lambda slot, roi: stale.append(roi))
        edges.image.mark_dirty(Roi((2, 0), (3, 1)))
        assert stale == [Roi((1, 0), (3, 1))]
