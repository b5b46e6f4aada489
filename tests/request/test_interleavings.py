"""Every scenario under many interleavings, with switch points between all statements of the package."""

import gc
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from request_lab import load_lab, unload
from request_scenarios import SCENARIOS, Lab

from lazyflow_core.testing.schedulers import explore

#: How many interleavings of each scenario the ordinary run tries; tox has fewer on all interpreters but one.
SEEDS = int(os.environ.get("LAZYFLOW_SEEDS", "1000"))

#: About as many switch points as the longer scenarios have.
STEPS = 800


@pytest.fixture(scope="module")
def package():
    package = load_lab()
    yield package
    unload(package)


def as_test(package, scenario):
    def run(scheduler):
        lab = Lab(package)
        try:
            scheduler.run(lambda: scenario(lab))
        finally:
            scheduler.close()
        lab.check()

    return run


def scheduler_maker(package):
    """Preempt often, sometimes and seldom: some bugs need many switches, others one that lasts."""

    def make(seed, *, steps, **options):
        chance = (0.2, 0.05, 0.02)[seed // 2 % 3]
        return package.SeededScheduler(seed, steps=steps, preempt_chance=chance, **options)

    return make


def explore_lab(package, scenario, seeds):
    """Explore, and let the cyclic collector work between seeds only: within one it would be chance."""
    gc.disable()
    try:
        different = 0
        for begin in range(seeds.start, seeds.stop, 500):
            some = range(begin, min(begin + 500, seeds.stop))
            different += explore(
                as_test(package, scenario), some, make_scheduler=scheduler_maker(package), steps=STEPS
            )
            gc.collect()
        return different
    finally:
        gc.enable()


@pytest.mark.parametrize("name", SCENARIOS)
def test_interleavings_of(package, name):
    different = explore_lab(package, SCENARIOS[name], range(SEEDS))
    assert different > SEEDS // 20, "the explorer sees next to nothing"


@pytest.mark.stress
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_ten_thousand_interleavings_of(package, name):
    explore_lab(package, SCENARIOS[name], range(1000, 11_000))


def trace(package, name, seed, strategy):
    scheduler = scheduler_maker(package)(seed, strategy=strategy, steps=STEPS)
    as_test(package, SCENARIOS[name])(scheduler)
    return tuple(scheduler.trace)


@pytest.mark.parametrize("strategy", ["random", "pct"])
def test_a_seed_replays_ten_times_out_of_ten(package, strategy):
    name = "a_pool_with_a_failure_leaves_nobody_running"
    assert len({trace(package, name, 7, strategy) for _ in range(10)}) == 1


@pytest.mark.parametrize("strategy", ["random", "pct"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_seeds_replay(package, name, strategy):
    differing = [
        seed
        for seed in range(20)
        if trace(package, name, seed, strategy) != trace(package, name, seed, strategy)
    ]
    assert differing == [], "something beside the seed decides"
