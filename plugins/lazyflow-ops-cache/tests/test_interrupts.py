"""Ctrl-C at any call of ours: pixels are right afterwards, strokes are whole, and no byte counts for ever."""

import gc
import sys

import numpy as np
import pytest
from lazyflow_core import Graph, Roi
from lazyflow_core.request import InlineScheduler
from lazyflow_core.utility import memory_ledger

from lazyflow_ops_cache.block_cache import OpBlockCache
from lazyflow_ops_cache.labels import OpLabels

# What is raised in a finalizer is not for anybody.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

OURS = ("lazyflow_ops_cache", "ledger.py")


def interrupted_at(number, work):
    """Raise Ctrl-C at the n-th call of ours; return whether there were so many."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if count < number and any(part in frame.f_code.co_filename for part in OURS):
            count += 1
            if count == number:
                raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except BaseException as error:
        if "KeyboardInterrupt" not in f"{type(error).__name__} {error}":
            raise
    finally:
        sys.settrace(before)
    return count == number


def test_a_stroke_is_whole_or_not_there_whenever_it_is_interrupted():
    gc.collect()
    kept = memory_ledger().account("cache.labels").used_bytes
    number, goes_on = 0, True
    while goes_on:
        number += 2
        op = OpLabels(graph=Graph(InlineScheduler()), image=np.zeros((70, 70)))
        op.image[3:66, 3:66] = 1
        old = op.labels.read()
        goes_on = interrupted_at(number, lambda op=op: op.paint([(Roi((0, 0), (68, 10)), 2)]))
        found, new = op.labels.read(), old.copy()
        new[:68, :10] = 2
        assert np.array_equal(found, old) or np.array_equal(found, new), number
        op.image[69, 69] = 5
        op.undo()
        assert np.array_equal(op.labels.read(), found), number
        op.graph.close()
        del op
        gc.collect()
        assert memory_ledger().account("cache.labels").used_bytes == kept, number
    assert number > 50


@pytest.mark.parametrize("kind", ["memory", "compressed"])
def test_a_cache_gives_right_pixels_and_counts_right_wherever_it_is_interrupted(kind, budget):
    number, goes_on, kept = 1, True, memory_ledger().used_bytes
    while goes_on:
        pixels = np.arange(400, dtype=np.int32).reshape(20, 20)
        graph = Graph(InlineScheduler())
        cache = OpBlockCache(graph=graph, image=pixels, block=(10, 10), storage=kind)
        cache.output.read(Roi((0, 0), (10, 10)))

        def work(cache=cache):
            cache.output.read()
            cache.frozen.value = True
            cache.image.mark_dirty(Roi((0, 0), (1, 1)))
            cache.output.read()
            cache.frozen.value = False
            cache.output.read()

        goes_on = interrupted_at(number, work)
        cache.frozen.value = False
        assert np.array_equal(cache.output.read(), pixels), number
        cache.image.assign(pixels + 1000)
        assert np.array_equal(cache.output.read(), pixels + 1000), number
        graph.close()
        del cache, graph, work
        gc.collect()
        assert memory_ledger().used_bytes == kept, number
        number += 11  # all of them take some seconds
    assert number > 100
