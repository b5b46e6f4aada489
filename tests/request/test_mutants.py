# ruff: noqa: E501 - the pieces of source are as long as they are
"""Does the explorer have teeth? Bugs planted on purpose, each of which it must find.

A zero in `test_interleavings` means little unless bugs of this size give more than zero.
"""

import logging
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from request_lab import load_lab, unload
from request_scenarios import SCENARIOS
from test_interleavings import STEPS, as_test, scheduler_maker

from lazyflow_core.testing.schedulers import explore

LIMIT = 10_000

#: What is broken: the scenario that shows it, and (file, old, new) pieces of source.
MUTANTS = {
    "late subscribers are not looked after": (
        "two_wait_for_one_that_is_being_submitted",
        (
            "_core",
            "        if self._state > RequestState.SUSPENDED:\n            self._deliver(links, current_party())",
            "        pass",
        ),
    ),
    "a cancelled waiter keeps the lock": (
        "a_cancelled_waiter_hands_the_lock_on",
        (
            "_lock",
            "(is_free and self._owner is host):\n                self.release()\n",
            "(is_free and self._owner is host):\n                pass\n",
        ),
    ),
    "a cancelled waiter keeps the permit": (
        "a_cancelled_waiter_hands_the_permit_on",
        (
            "_semaphore",
            "                self.release()\n            raise\n",
            "                pass\n            raise\n",
        ),
    ),
    "one wait is ended twice": (
        "a_lock_wait_that_times_out",
        (
            "_party",
            "            if self.verdict is not None:\n                return False\n            self.verdict",
            "            self.verdict",
        ),
    ),
    "the state is published before the result": (
        "two_wait_for_one_that_is_being_submitted",
        (
            "_core",
            "        self._outcome = outcome\n        self._state = MOVES_TO[state][self._state]\n",
            "        self._state = MOVES_TO[state][self._state]\n        self._outcome = outcome\n",
        ),
        (
            "_core",
            "                self._outcome = outcome\n                self._state = TO_FINISHED[self._state]\n",
            "                self._state = TO_FINISHED[self._state]\n                self._outcome = outcome\n",
        ),
    ),
    "waiters return before the callbacks have run": (
        "callbacks_before_wait_have_run_after_wait",
        (
            "_core",
            "return self._state > RequestState.SUSPENDED and (links is None or links is DELIVERED)",
            "return self._state > RequestState.SUSPENDED",
        ),
    ),
    "callbacks are delivered by two at once": (
        "callbacks_come_late_and_early",
        ("_core", "is_mine = links.deliverer is None and self._links", "is_mine = self._links"),
        (
            "_core",
            "                    rest, links.callbacks = iter(links.callbacks), None  # in one step\n",
            "                    rest = iter(links.callbacks)\n",
        ),
        (
            "_core",
            "                    self._call_back(kind, function)\n",
            "                    self._call_back(kind, function)\n                links.callbacks = None\n",
        ),
    ),
    "a pool does not join": (
        "a_pool_joins_its_members",
        (
            "_pool",
            "            self._wait_for_all(self._leave, shield=error is not None)\n",
            "            pass\n",
        ),
    ),
    "an owner that is cancelled leaves its pool as if nothing had happened": (
        "an_owner_is_cancelled_while_it_leaves_its_pool",
        (
            "_pool",
            "            check_not_cancelled(party)  # the cancellation may be what has ended the members\n",
            "            pass\n",
        ),
    ),
    "a failure leaves the siblings alone": (
        "a_pool_with_a_failure_leaves_nobody_running",
        (
            "_pool",
            "            for sibling in siblings:\n                sibling.cancel()",
            "            pass",
        ),
    ),
    "a pool forgets who waits for the next result": (
        "results_of_a_pool_come_as_they_are_ready",
        (
            "_pool",
            "            if self._for_some is not None:\n                self._wake_some()\n",
            "",
        ),
    ),
    "a pool looks at its members without the mutex after it has entered": (
        "results_of_a_pool_come_as_they_are_ready",
        (
            "_pool",
            "            verdict = queue.park(waiter, mover)\n",
            "            first = next(iter(self._unfinished), None)\n"
            "            verdict = queue.park(waiter, first and first._scheduler)\n",
        ),
    ),
    "looking whether it may run and taking it are two steps": (
        "two_wait_for_one_that_is_being_submitted",
        ("_core", "                del self._claimable\n", "                pass\n"),
    ),
    "a second submission takes the ticket of the queue": (
        "everybody_submits_the_same",
        (
            "_core",
            "            if state is QUEUED:\n                del self._claimable",
            "            if state is QUEUED:\n                del self._ticket",
        ),
        (
            "_request",
            "            self._claimable = is_offered = True\n",
            "            self._ticket = is_offered = True\n",
        ),
    ),
    "cancelling forgets the children": (
        "cancel_reaches_grandchildren",
        ("_cancel", "            todo += current._children or ()\n", ""),
        (
            "_core",
            "            if edge._cancelled:\n                self.cancel()  # type: ignore[attr-defined]\n",
            "",
        ),
    ),
    "cancelling misses a child that is just being started": (
        "cancel_reaches_grandchildren",
        (
            "_core",
            "            if edge._cancelled:\n                self.cancel()  # type: ignore[attr-defined]\n",
            "",
        ),
    ),
    "cancelling misses one who is just going to wait": (
        "cancel_twice_from_two_sides",
        ("_wait", "    if host._cancelled and not waiter.is_shielded:", "    if False:"),
    ),
    "cancelling goes on to the owner of a lock": (
        "a_cancelled_waiter_hands_the_lock_on",
        (
            "_cancel",
            "            awaited = waiting.target if type(waiting) is Waiter else waiting\n",
            "            awaited = waiting.target if type(waiting) is Waiter else waiting\n"
            "            awaited = getattr(awaited, '_owner', awaited)\n",
        ),
    ),
    "circles are not looked for": (
        "two_requests_wait_for_each_other",
        ("_wait", "        check_no_circle(host, waiter.target)", "        pass"),
    ),
    "the circle is looked for before the edge is entered, in two steps": (
        "two_locks_in_both_orders",
        ("_waitgraph", "        if current is host:", "        if current is host and False:"),
    ),
    "an event that is set already is waited for": (
        "an_event_is_set_while_they_come",
        ("_event", "                if self._is_set:\n                    return True\n", ""),
    ),
    "a condition releases its lock before it stands in the queue": (
        "consumers_and_producers_on_one_condition",
        (
            "_condition",
            "                    self._queue.enter(waiter)\n                    self._lock.release()\n",
            "                    self._lock.release()\n"
            "                with mutex:\n                    self._queue.enter(waiter)\n",
        ),
    ),
    "a notification goes to somebody who has given up": (
        "a_cancelled_consumer_does_not_eat_the_notification",
        (
            "_queue",
            "            is_woken = waiter.decide(Verdict.WOKEN)\n",
            "            is_woken = waiter.decide(Verdict.WOKEN) or True\n",
        ),
    ),
    "a lock goes to somebody who has given up": (
        "a_lock_wait_that_times_out",
        (
            "_queue",
            "            while heir is None or heir.verdict is not Verdict.WOKEN:\n",
            "            while heir is None:\n",
        ),
    ),
}


@pytest.mark.parametrize("bug", MUTANTS)
def test_the_explorer_finds_that(bug, caplog):
    caplog.set_level(logging.CRITICAL)
    name, *mutations = MUTANTS[bug]
    package = load_lab(mutations)
    try:
        with pytest.raises(AssertionError, match="seed"):
            explore(
                as_test(package, SCENARIOS[name]),
                range(LIMIT),
                make_scheduler=scheduler_maker(package),
                steps=STEPS,
            )
    finally:
        unload(package)
