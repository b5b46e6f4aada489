"""Who keeps how much, and who gives it back: without caches, operators or files."""

import gc
import threading

import numpy as np
import pytest

from lazyflow_core import Graph, Operator, OutputSlot, ParameterSlot
from lazyflow_core.errors import ParameterError
from lazyflow_core.utility import Holding, MemoryLedger, memory_ledger, tick
from lazyflow_core.utility.ledger import BUDGET_VARIABLE


class Keeper:
    """Keeps holdings by name."""

    def __init__(self, ledger, name):
        self.account = ledger.account(name)
        self.kept = {}

    def keep(self, name, nbytes, **options):
        holding = self.kept[name] = Holding(nbytes, self._forget, **options)
        self.account.keep(holding)
        return holding

    def _forget(self, holding):
        del self.kept[next(name for name, other in self.kept.items() if other is holding)]


def test_what_is_kept_under_any_name_shares_one_budget_and_the_least_recently_used_goes_first():
    ledger = MemoryLedger(100)
    blocks, chunks = Keeper(ledger, "cache.blocks"), Keeper(ledger, "io.chunks")
    old = blocks.keep("old", 40)
    chunks.keep("chunk", 40)
    old.used = tick()
    blocks.keep("new", 40)
    assert (sorted(blocks.kept), sorted(chunks.kept)) == (["new", "old"], [])
    assert (ledger.used_bytes, blocks.account.used_bytes, chunks.account.used_bytes) == (80, 80, 0)
    assert ledger.describe().splitlines() == [
        "80 B of 100 B kept",
        "  cache.blocks: 80 B, 2 kept, 0 given back so far",
        "  io.chunks: 0 B, 0 kept, 1 given back so far",
    ]
    blocks.account.forget(old)
    blocks.account.forget(old)
    assert ledger.used_bytes == 40


def test_smaller_priorities_go_first_whenever_they_were_used():
    ledger = MemoryLedger(100)
    keeper = Keeper(ledger, "a")
    keeper.keep("dear", 50, priority=1)
    keeper.keep("cheap", 50)
    keeper.keep("next", 50)
    assert sorted(keeper.kept) == ["dear", "next"]


def test_what_is_essential_stays_beyond_the_budget_until_something_essential_needs_the_room():
    ledger = MemoryLedger(100)
    wholes, blocks = Keeper(ledger, "wholes"), Keeper(ledger, "blocks")
    blocks.keep("a", 50)
    wholes.keep("large", 150, essential=True)
    assert (sorted(wholes.kept), sorted(blocks.kept)) == (["large"], [])
    blocks.keep("b", 10)
    assert (sorted(wholes.kept), sorted(blocks.kept)) == (["large"], [])
    with ledger.account("export").reserved(500):
        assert ledger.used_bytes == 650
    wholes.keep("small", 60, essential=True)
    assert sorted(wholes.kept) == ["small"]
    blocks.keep("c", 10)
    assert (ledger.used_bytes, sorted(blocks.kept)) == (70, ["c"])


def test_parts_of_an_account_count_in_it_and_show_below_it():
    ledger = MemoryLedger(100)
    whole = ledger.account("cache.blocks")
    first, second = whole.part("smooth"), whole.part("edges")
    forgotten = []
    first.keep(holding := Holding(40, forgotten.append))
    kept = Holding(50, forgotten.append)
    second.keep(kept)
    assert (whole.used_bytes, first.used_bytes, second.holdings) == (90, 40, 1)
    with second.reserved(30):
        assert forgotten == [holding]
        assert ledger.describe().splitlines() == [
            "80 B of 100 B kept",
            "  cache.blocks: 80 B, 1 kept, 1 given back so far",
            "    edges: 80 B, 1 kept, 0 given back so far",
            "    smooth: 0 B, 0 kept, 1 given back so far",
        ]
    (report,) = ledger.report()
    assert (report.nbytes, [part.name for part in report.parts]) == (50, ["edges", "smooth"])
    # A keeper that is gone leaves its number of bytes behind, and then nothing.
    second.abandon(50, 1)
    del first, second, report, holding
    del kept
    gc.collect()
    assert ledger.describe() == "0 B of 100 B kept\n  cache.blocks: 0 B, 0 kept, 1 given back so far"


def test_where_memory_is_short_all_goes_that_can_be_had_again():
    ledger = MemoryLedger(1000)
    keeper = Keeper(ledger, "a")
    keeper.keep("block", 60)
    keeper.keep("whole", 70, essential=True)
    painted = Holding(80, None)
    ledger.account("labels").keep(painted)
    assert ledger.relieve() == 60
    assert (sorted(keeper.kept), ledger.used_bytes) == (["whole"], 150)
    assert ledger.relieve() == 0
    keeper.keep("block", 60)
    assert ledger.used_bytes == 210


def test_what_cannot_be_had_again_counts_makes_room_and_stays():
    ledger = MemoryLedger(100)
    keeper = Keeper(ledger, "a")
    keeper.keep("block", 60)
    painted = Holding(80, None)
    ledger.account("labels").keep(painted)
    assert (keeper.kept, ledger.used_bytes) == ({}, 80)
    ledger.budget_bytes = 10
    assert ledger.used_bytes == 80
    keeper.keep("block", 5)
    assert (keeper.kept, ledger.used_bytes) == ({}, 80)
    ledger.account("labels").forget(painted)
    assert ledger.used_bytes == 0


def test_a_lowered_budget_has_all_given_back():
    ledger = MemoryLedger(100)
    keeper = Keeper(ledger, "a")
    keeper.keep("block", 50)
    keeper.keep("whole", 50, essential=True)
    ledger.budget_bytes = 60
    assert sorted(keeper.kept) == ["whole"]
    ledger.budget_bytes = 0
    assert (keeper.kept, ledger.used_bytes) == ({}, 0)


def test_what_is_reserved_makes_room_and_is_given_back_whatever_happens():
    ledger = MemoryLedger(100)
    keeper = Keeper(ledger, "a")
    keeper.keep("block", 60)
    with pytest.raises(RuntimeError, match="stop"), ledger.account("export").reserved(50):
        assert (keeper.kept, ledger.used_bytes) == ({}, 50)
        raise RuntimeError("stop")
    assert ledger.used_bytes == 0


def test_a_holding_counts_as_long_as_its_array_lives_and_no_longer():
    ledger = MemoryLedger(10**6)
    asked = []
    array = np.zeros(1000, np.uint8)
    ledger.account("a").keep_as_long_as(array, Holding(array.nbytes, asked.append, essential=True))
    view = array[5:]
    del array
    gc.collect()
    assert ledger.used_bytes == 1000
    del view
    assert ledger.used_bytes == 0
    assert asked == []
    # Given back first, gone later: counted off once.
    array = np.zeros(1000, np.uint8)
    ledger.account("a").keep_as_long_as(array, Holding(array.nbytes, asked.append))
    ledger.budget_bytes = 10
    assert (len(asked), ledger.used_bytes) == (1, 0)
    del array
    assert ledger.used_bytes == 0


class OpWhole(Operator):
    """Computes an array at once and counts it."""

    size = ParameterSlot(int)
    whole = OutputSlot(value=np.ndarray)
    ledger = MemoryLedger(0)
    count = 0

    def setup_outputs(self):
        pass

    def compute_value(self, slot):
        self.count += 1
        result = np.ones(self.size.value, np.uint8)
        self.ledger.account("whole").keep_value(slot, result, result.nbytes)
        return result

    def propagate_dirty(self, slot, roi):
        pass


def test_a_computed_value_counts_until_its_room_is_needed_and_is_then_computed_again():
    account = OpWhole.ledger.account("whole")
    with Graph() as graph:
        op = OpWhole(graph=graph, size=10)
        for _ in range(2):
            assert op.whole.value.nbytes == account.used_bytes == 10
        assert op.count == 1
        OpWhole.ledger.budget_bytes = 0  # lowering it has all given back
        gc.collect()
        assert (account.used_bytes, account.given_back) == (0, 1)
        assert op.whole.value.nbytes == account.used_bytes == 10
        assert op.count == 2
    op = graph = None
    gc.collect()
    assert account.used_bytes == 0


def test_holdings_that_went_with_their_keeper_are_counted_no_more():
    ledger = MemoryLedger(100)
    account = ledger.account("a")
    holdings = [Holding(20, lambda holding: None) for _ in range(3)]
    for holding in holdings:
        account.keep(holding)
    account.abandon(60, 3)
    del holding, holdings
    assert (ledger.used_bytes, account.holdings) == (0, 0)


def test_keepers_in_many_threads_agree_with_the_sum_of_what_they_keep():
    ledger = MemoryLedger(2000)
    keepers = [Keeper(ledger, f"keeper.{i}") for i in range(4)]

    def run(keeper, seed):
        chance = np.random.default_rng(seed)
        for step in range(400):
            with ledger.lock:
                name = int(chance.integers(30))
                if name in keeper.kept:
                    keeper.account.forget(keeper.kept.pop(name))
                else:
                    keeper.keep(name, int(chance.integers(1, 200)), essential=step % 9 == 0)

    threads = [threading.Thread(target=run, args=(keeper, i)) for i, keeper in enumerate(keepers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sums = [sum(holding.nbytes for holding in keeper.kept.values()) for keeper in keepers]
    assert [keeper.account.used_bytes for keeper in keepers] == sums
    assert [keeper.account.holdings for keeper in keepers] == [len(keeper.kept) for keeper in keepers]
    assert ledger.used_bytes == sum(sums)


@pytest.mark.parametrize("budget", [-1, 1.5, "1 GiB", True])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(ParameterError, match="not a number of bytes"):
        MemoryLedger(budget)


def test_the_environment_gives_the_budget(monkeypatch):
    monkeypatch.setenv(BUDGET_VARIABLE, "2 MiB")
    assert MemoryLedger().budget_bytes == 2**21
    monkeypatch.setenv(BUDGET_VARIABLE, "plenty")
    with pytest.raises(ParameterError, match="LAZYFLOW_CACHE_BYTES: 'plenty' is no size"):
        MemoryLedger().budget_bytes  # noqa: B018
    monkeypatch.delenv(BUDGET_VARIABLE)
    assert MemoryLedger().budget_bytes > 0
    assert memory_ledger() is memory_ledger()
