"""What a plugin answers to ``cache_policy`` is what the cache does."""

import types

import numpy as np
import pytest
from cache_cases import OpCounting
from lazyflow_core import Graph
from lazyflow_core.plugins import PluginManager, hookimpl, set_default
from lazyflow_core.testing import Case, array, check_operator

from lazyflow_ops_cache.block_cache import OpBlockCache
from lazyflow_ops_cache.memory import memory_manager
from lazyflow_ops_cache.policy import CachePolicy

pytestmark = pytest.mark.usefixtures("budget")

FLAT = np.zeros((64, 64), np.uint16)


@pytest.fixture
def answer():
    """Let a plugin answer as told; return the questions it was asked."""
    manager = PluginManager(discover=False)
    asked = []
    said = types.SimpleNamespace(policy=None, asked=asked)

    def policy(operator_id, meta, budget_bytes):
        asked.append((operator_id, meta.shape, budget_bytes))
        return said.policy

    manager.register_plugin(types.SimpleNamespace(cache_policy=hookimpl(policy)), "judge")
    set_default(manager)
    yield said
    set_default(None)


@pytest.fixture
def graph():
    with Graph() as graph:
        yield graph


def make(graph, image=FLAT):
    source = OpCounting(graph=graph, image=image)
    return source, OpBlockCache(graph=graph, image=source.output, block=(16, 16))


def test_plugins_may_implement_the_hook_and_a_manager_knows_it():
    assert "cache_policy" in PluginManager(only=["cache"]).hook_names()


def test_plugins_are_asked_once_when_a_cache_is_set_up_and_never_per_block(answer, graph, budget):
    budget(12345)
    _, cache = make(graph)
    for _ in range(3):
        cache.output.read()
    assert answer.asked == [("cache.blocks", (64, 64), memory_manager().budget_bytes)]


def test_a_cache_that_is_to_keep_nothing_hands_requests_on_as_they_are(answer, graph):
    answer.policy = CachePolicy(keep=False)
    source, cache = make(graph)
    for _ in range(2):
        assert not cache.output[3:5, :].wait().any()
    assert [str(roi) for roi in source.executed] == ["[3:5, 0:64]"] * 2
    assert cache.used_bytes == 0


def test_compressed_blocks_take_less_of_the_budget_and_have_the_same_pixels(answer, graph):
    answer.policy = CachePolicy(compress=True)
    pixels = FLAT.copy()
    pixels[10:40, 20:50] = 7
    source, cache = make(graph, pixels)
    for _ in range(2):
        assert np.array_equal(cache.output.read(), pixels)
        assert np.array_equal(cache.output[5:30, 9:33].wait(), pixels[5:30, 9:33])
    assert len(source.executed) == 16
    assert 0 < cache.used_bytes < pixels.nbytes / 4
    assert cache.used_bytes == memory_manager().used_bytes


def test_what_does_not_become_smaller_is_kept_as_it_is(answer, graph):
    answer.policy = CachePolicy(compress=True)
    noise = np.random.default_rng(0).integers(0, 2**16, (64, 64), np.uint16)
    _, cache = make(graph, noise)
    assert np.array_equal(cache.output.read(), noise)
    assert cache.used_bytes == noise.nbytes


def test_blocks_of_a_cache_with_a_smaller_number_go_first_whenever_they_were_read(answer, graph, budget):
    answer.policy = CachePolicy(priority=1)
    _, important = make(graph)
    answer.policy = None
    _, other = make(graph)
    important.output.read()
    other.output.read()
    budget(FLAT.nbytes)
    assert (important.used_bytes, other.used_bytes) == (FLAT.nbytes, 0)


@pytest.mark.parametrize("policy", [CachePolicy(keep=False), CachePolicy(compress=True)])
def test_a_cache_obeys_the_laws_whatever_the_policy(answer, policy):
    answer.policy = policy
    image = array((3, 13, 17), "zyx", "uint16", high=1000)
    case = Case(OpBlockCache, {"image": image}, {"block": (2, 5, 8)}, {"block": (1, 0, 3)})
    assert [result for result in check_operator(case) if not result.ok] == []
