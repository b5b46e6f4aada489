"""Images put together: what fits, where each pixel comes from, and what goes stale."""

import numpy as np
import pytest
from lazyflow_core import ArrayMeta, Graph, Roi
from lazyflow_core.errors import ExecuteError, NotReadyError, SetupError

from lazyflow_ops_array.pixel_function import OpPixelFunction
from lazyflow_ops_array.stack import OpStack

CHANCE = np.random.default_rng(4)
IMAGES = [CHANCE.uniform(0, 9, (n, 5, 6)) for n in (2, 1, 3)]
PLANES = [CHANCE.uniform(0, 9, (5, 6)) for _ in range(4)]


def with_metas(axis, *metas):
    graph = Graph()
    stack = OpStack(graph=graph, axis=axis)
    with graph.transaction():
        for meta in metas:
            stack.images.append().assign(np.zeros(meta.shape, meta.dtype), meta)
    return stack


@pytest.mark.parametrize(
    ("images", "axis", "expected"),
    [
        (IMAGES, "z", np.concatenate(IMAGES, 0)),
        ([image.T for image in IMAGES], "c", np.concatenate([image.T for image in IMAGES], 2)),
        (PLANES, "y", np.concatenate(PLANES, 0)),
        (PLANES, "t", np.stack(PLANES)),
        (PLANES, "c", np.stack(PLANES, -1)),
        (PLANES[:1], "c", PLANES[0][..., None]),
    ],
)
def test_every_region_comes_from_the_images_it_touches(images, axis, expected):
    stack = OpStack(graph=Graph(), images=images, axis=axis)
    assert stack.output.meta.shape == expected.shape
    for _ in range(30):
        corners = np.sort(CHANCE.integers(0, np.add(expected.shape, 1), (2, expected.ndim)), axis=0)
        roi = Roi(*corners.tolist())
        out = np.zeros(roi.shape[::-1]).T
        assert np.array_equal(stack.output.read(roi, out=out), expected[roi.slicing])


def test_dirt_moves_to_where_the_image_is():
    heard = []
    stack = OpStack(graph=Graph(), images=IMAGES)
    stack.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    stack.images[2].mark_dirty(Roi((1, 0, 2), (3, 1, 4)))
    stack = OpStack(graph=Graph(), images=PLANES, axis="c")
    stack.output.dirty.subscribe(lambda slot, roi: heard.append(roi))
    stack.images[3].mark_dirty(Roi((1, 0), (3, 1)))
    assert heard == [Roi((4, 0, 2), (6, 1, 4)), Roi((1, 0, 3), (3, 1, 4))]


def test_images_come_and_go():
    stack = OpStack(graph=Graph(), images=IMAGES[:1])
    stack.images.append(IMAGES[1])
    assert np.array_equal(stack.output.read(), np.concatenate(IMAGES[:2]))
    stack.images.remove(0)
    assert np.array_equal(stack.output.read(), IMAGES[1])
    stack.images.remove(0)
    with pytest.raises(NotReadyError):
        stack.output.read()


def test_the_meta_is_that_of_all_images():
    red = ArrayMeta(
        (4, 5, 1), "u1", "yxc", value_range=(0, 9), channel_names=("red",), preferred_block=(2, 2, 1)
    )
    blue = ArrayMeta((4, 5, 2), "u1", "yxc", value_range=(-3, 5), channel_names=("blue", "sky"))
    meta = with_metas("c", red, blue).output.meta
    assert (meta.value_range, meta.channel_names) == ((-3, 9), ("red", "blue", "sky"))
    assert meta.preferred_block is None
    meta = with_metas("c", red, blue.replace(channel_names=(), value_range=None)).output.meta
    assert (meta.value_range, meta.channel_names) == (None, ())
    meta = with_metas("t", red, red).output.meta
    assert (meta.shape, meta.channel_names, meta.preferred_block) == ((2, 4, 5, 1), ("red",), (1, 2, 2, 1))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (ArrayMeta((4, 6), "u1", "yx"), "other lengths"),
        (ArrayMeta((4, 5), "u2", "yx"), "dtype uint16"),
        (ArrayMeta((4, 5), "u1", "zx"), "axes 'zx'"),
    ],
)
def test_an_image_that_does_not_fit_is_named(other, reason):
    meta = ArrayMeta((4, 5), "u1", "yx")
    with pytest.raises(SetupError, match=rf"OpStack: images\[2\] .*{reason}"):
        with_metas("y", meta, meta, other)


def test_a_failing_image_is_named():
    def fail(pixels):
        if pixels.size > 1:
            raise OSError("no disk")
        return pixels

    graph = Graph()
    bad = OpPixelFunction(graph=graph, image=PLANES[0], function=fail, name="bad")
    stack = OpStack(graph=graph, images=[PLANES[1], bad.output], axis="t")
    with pytest.raises(ExecuteError, match=r"bad\.output.*OSError: no disk"):
        stack.output.read()
