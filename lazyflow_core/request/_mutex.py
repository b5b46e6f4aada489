"""The one lock of the request framework's own bookkeeping.

Guarantees, and what they rest on:

* It is held for a few statements at a time and never across a greenlet switch, a workload, a callback or
  anything else of somebody else's.
* It is re-entrant because a garbage collection or a signal handler may run inside such a section, in the same
  thread, and call into the framework (a ``__del__`` that cancels, a hang report on SIGUSR1). Every section
  is therefore written so that it makes sense at each statement.
* One lock for all requests, not one per request: a lock per request costs 0.2 µs and 40 bytes each, and the
  wait-for graph needs to see many requests at one moment. With a GIL there is next to nothing to gain.
"""

from __future__ import annotations

import os
import threading

__all__ = ["mutex"]

#: Guards states, links between requests, queues of locks, sleeping workers.
mutex = threading.RLock()

if hasattr(os, "register_at_fork"):
    # A fork while another thread is inside a section would leave the child a half-done section and a lock
    # nobody releases; so the forking thread takes the lock first.
    os.register_at_fork(
        before=mutex.acquire,
        after_in_parent=mutex.release,
        after_in_child=mutex._at_fork_reinit,  # type: ignore[attr-defined]
    )
