from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lazyflow_core.request import SeededScheduler

from lazyflow_ops_cache.memory import memory_manager

# pytest's importlib mode does not put the folder of the tests on the path; cache_cases.py is there.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def budget():
    """Set what the process may keep besides labels for one test, which begins with nothing kept."""
    manager = memory_manager()
    before = manager.budget_bytes
    manager.budget_bytes = 0  # evicts what other tests left behind
    manager.budget_bytes = before

    def set_budget(nbytes):
        manager.budget_bytes = nbytes + manager.ledger.account("cache.labels").used_bytes

    yield set_budget
    manager.budget_bytes = before


@pytest.fixture
def scheduler():
    with SeededScheduler(3, preempt_chance=0.0) as scheduler:
        yield scheduler
