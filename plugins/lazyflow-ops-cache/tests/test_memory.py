"""The budget, without any cache around it."""

import gc

import numpy as np

from lazyflow_ops_cache import memory
from lazyflow_ops_cache.memory import MemoryManager
from lazyflow_ops_cache.store import BlockStore


def fill(store, key, nbytes=10):
    owner = store.find_or_claim(key, object())
    assert store.keep(key, owner, np.zeros(nbytes, np.uint8))


def test_what_is_kept_dropped_and_evicted_is_counted():
    manager = MemoryManager(50)
    store = BlockStore(manager)
    for i in range(5):
        fill(store, (i,))
    assert (manager.used_bytes, store.nbytes, store.computed) == (50, 50, 5)
    store.invalidate((1,), (3,))
    assert (manager.used_bytes, sorted(store.blocks)) == (30, [(0,), (3,), (4,)])
    for i in range(5, 9):
        fill(store, (i,))
    assert (manager.used_bytes, sorted(store.blocks)) == (50, [(4,), (5,), (6,), (7,), (8,)])
    assert manager.describe() == "5 blocks, 50 B of 50 B; 2 evicted so far"
    store.clear()
    assert (manager.used_bytes, store.nbytes) == (0, 0)


def test_a_block_larger_than_the_budget_is_not_kept_and_takes_the_others_with_it():
    manager = MemoryManager(50)
    store = BlockStore(manager)
    fill(store, (0,), 20)
    fill(store, (1,), 51)
    assert (store.blocks, manager.used_bytes) == ({}, 0)


def test_reading_a_block_saves_it():
    manager = MemoryManager(30)
    store = BlockStore(manager)
    for i in range(3):
        fill(store, (i,))
    store.blocks[0,].used = memory.tick()
    fill(store, (3,))
    fill(store, (4,))
    assert sorted(store.blocks) == [(0,), (3,), (4,)]


def test_blocks_of_a_cache_that_is_gone_are_counted_no_more():
    manager = MemoryManager(50)
    store = BlockStore(manager)
    fill(store, (0,), 30)
    del store
    gc.collect()
    assert manager.used_bytes == 0
    other = BlockStore(manager)
    fill(other, (0,), 30)
    assert other.nbytes == 30


def test_entries_of_dropped_blocks_do_not_pile_up():
    manager = MemoryManager(10**6)
    store = BlockStore(manager)
    for _ in range(2000):
        fill(store, (0,))
        store.clear()
    assert len(manager.ledger._heap) < 100


def test_keeping_and_evicting_many_blocks_agrees_with_a_plain_model():
    chance = np.random.default_rng(8)
    manager = MemoryManager(1000)
    store = BlockStore(manager)
    model = {}  # key -> bytes, least recently used first
    for _ in range(3000):
        key = (int(chance.integers(60)),)
        action = chance.integers(4)
        if action == 0 and key in store.blocks:
            store.invalidate(key, (key[0] + 1,))
            del model[key]
        elif key in store.blocks:
            store.blocks[key].used = memory.tick()
            model[key] = model.pop(key)
        else:
            nbytes = int(chance.integers(1, 120))
            fill(store, key, nbytes)
            model[key] = nbytes
            while sum(model.values()) > 1000:
                del model[next(iter(model))]
        assert {key: block.data.nbytes for key, block in store.blocks.items()} == model
    assert manager.used_bytes == sum(model.values())


def test_a_claim_that_dirt_withdrew_keeps_nothing():
    store = BlockStore(MemoryManager(100))
    early = store.find_or_claim((0,), "early")
    store.invalidate((0,), (1,))
    late = store.find_or_claim((0,), "late")
    assert (early, late) == ("early", "late")
    store.keep((0,), early, np.zeros(1))
    assert not store.blocks
    assert store.keep((0,), late, np.ones(1))
    assert store.blocks[0,].data == 1


def test_giving_up_withdraws_only_the_own_claim():
    store = BlockStore(MemoryManager(100))
    store.find_or_claim((0,), "first")
    store.give_up((0,), "somebody else")
    assert store.find_or_claim((0,), "second") == "first"
    store.give_up((0,), "first")
    assert store.find_or_claim((0,), "second") == "second"
