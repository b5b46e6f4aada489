"""What does a request cost, next to a future, a greenlet switch and the goals we set ourselves?

Each row is measured several times, alternating with its peer, and the fastest run counts: on a busy machine
the slow ones measure the neighbours. Compare the ratios of one run, never single times of two.

    python benchmarks/requests.py [--quick]
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from greenlet import getcurrent, greenlet

from lazyflow_core.request import Request, RequestEvent, ThreadedScheduler, gather

WORKERS = 2


def nothing() -> None:
    pass


def best(function: Callable[[], float], repeats: int) -> float:
    """Return the fastest of several runs."""
    return min(function() for _ in range(repeats))


def clock(function: Callable[[], object], count: int) -> float:
    """Return microseconds of CPU time of this process per item.

    CPU time, since all these rows are Python code under one GIL: it leaves out what the neighbours took.
    """
    begin = time.process_time()
    function()
    return (time.process_time() - begin) / count * 1e6


def wall_clock(function: Callable[[], object]) -> float:
    """Return milliseconds as the clock on the wall shows them."""
    begin = time.perf_counter()
    function()
    return (time.perf_counter() - begin) * 1e3


# -------------------------------------------------------------------------------------------------- the rows


def flat(scheduler: ThreadedScheduler, count: int) -> float:
    def run() -> None:
        requests = [Request(nothing, scheduler=scheduler).submit() for _ in range(count)]
        for request in requests:
            request.wait()

    return clock(run, count)


def flat_futures(executor: ThreadPoolExecutor, count: int) -> float:
    def run() -> None:
        futures = [executor.submit(nothing) for _ in range(count)]
        for future in futures:
            future.result()

    return clock(run, count)


def inside(scheduler: ThreadedScheduler, count: int, *, submit: bool) -> float:
    def plain() -> float:
        def loop() -> None:
            for _ in range(count):
                Request(nothing).wait()

        return clock(loop, count)

    def submitted() -> float:
        def loop() -> None:
            for _ in range(count):
                Request(nothing).submit().wait()

        return clock(loop, count)

    return Request(submitted if submit else plain, scheduler=scheduler).submit().wait()


def fan_out(scheduler: ThreadedScheduler, width: int = 100) -> float:
    def branch() -> None:
        for leaf in [Request(nothing).submit() for _ in range(width)]:
            leaf.wait()

    def root() -> None:
        for child in [Request(branch).submit() for _ in range(width)]:
            child.wait()

    return clock(Request(root, scheduler=scheduler).submit().wait, width * width)


def chain(scheduler: ThreadedScheduler, depth: int) -> float:
    def level(n: int) -> int:
        return 0 if n == 0 else Request(lambda: level(n - 1)).submit().wait() + 1

    return clock(Request(lambda: level(depth), scheduler=scheduler).submit().wait, depth)


def direct(count: int) -> float:
    def fill(out: list[int]) -> None:
        out[0] = 1

    destination = [0]

    def loop() -> None:
        for _ in range(count):
            Request(fill).write_into(destination).wait()

    return clock(loop, count)


def resume_latency(scheduler: ThreadedScheduler, count: int) -> float:
    """Median time from the end of a request on one worker to its waiter going on on the other."""
    latencies = []

    def signal_later(event: RequestEvent, stamp: list[float]) -> None:
        while not event._queue:  # the other one has not parked yet
            time.sleep(0)
        time.sleep(0.0005)  # until its worker is asleep
        stamp.append(time.perf_counter())
        event.set()

    def pair() -> None:
        event, stamp = RequestEvent(), list[float]()
        other = Request(lambda: signal_later(event, stamp)).submit()
        event.wait()
        latencies.append(time.perf_counter() - stamp[0])
        other.wait()

    def root() -> None:
        for _ in range(count):
            pair()

    Request(root, scheduler=scheduler).submit().wait()
    return sorted(latencies)[len(latencies) // 2] * 1e6


def switch_there_and_back(count: int) -> float:
    main = getcurrent()

    def loop() -> None:
        while True:
            main.switch()

    other = greenlet(loop)
    other.switch()

    def run() -> None:
        for _ in range(count):
            other.switch()

    return clock(run, count)


def bytes_per_pending(count: int) -> float:
    """Submitted and not begun: the workers are held by gates."""
    with ThreadedScheduler(1) as scheduler:
        gate = threading.Event()
        Request(gate.wait, scheduler=scheduler).submit()
        gc.collect()
        tracemalloc.start()
        pending = [Request(nothing, scheduler=scheduler).submit() for _ in range(count)]
        used = tracemalloc.get_traced_memory()[0] - sys.getsizeof(pending)
        tracemalloc.stop()
        gate.set()
        for request in pending:
            request.wait()
    return used / count


def bytes_per_suspended(count: int) -> float:
    """Resident memory per request that waits in the middle of its workload."""
    with ThreadedScheduler(1) as scheduler:
        event = RequestEvent()
        before = resident_bytes()
        waiting = [Request(event.wait, scheduler=scheduler).submit() for _ in range(count)]
        while len(event._queue) < count:
            time.sleep(0.01)
        used = resident_bytes() - before
        event.set()
        for request in waiting:
            request.wait()
    return used / count


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def coarse_work(repeats: int) -> tuple[float, float]:
    """A numpy kernel without the GIL over 64 blocks, by us and by ThreadPoolExecutor, in milliseconds."""
    import numpy as np

    blocks = [np.random.default_rng(k).random((64, 64, 64), dtype=np.float32) for k in range(64)]

    def kernel(block: object) -> object:
        for _ in range(4):
            block = np.sqrt(block * block + np.float32(1.0))  # type: ignore[operator]
        return block

    def ours() -> float:
        return wall_clock(
            lambda: gather(*[Request(lambda b=b: kernel(b), scheduler=scheduler) for b in blocks])
        )

    def futures() -> float:
        return wall_clock(lambda: list(executor.map(kernel, blocks)))

    with ThreadedScheduler(WORKERS) as scheduler, ThreadPoolExecutor(WORKERS) as executor:
        pairs = [(ours(), futures()) for _ in range(repeats)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


# -------------------------------------------------------------------------------------------------- the table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work; for a first look")
    quick = parser.parse_args().quick
    scale, repeats = (10, 3) if quick else (1, 7)
    many = 20_000 // scale

    rows: list[tuple[str, str, float, float | None, str]] = []
    with ThreadedScheduler(WORKERS) as scheduler, ThreadPoolExecutor(WORKERS) as executor:
        flat(scheduler, 100)
        ours, peer = float("inf"), float("inf")
        for _ in range(repeats):
            ours = min(ours, flat(scheduler, many))
            peer = min(peer, flat_futures(executor, many))
        rows.append((f"{many} flat no-ops, submit + wait", "future", ours, peer, "<= 3, >= 6x faster"))
        switch = best(lambda: switch_there_and_back(many), repeats)
        rows.append(
            (
                "inside: create + wait",
                "switch",
                best(lambda: inside(scheduler, many, submit=False), repeats),
                switch,
                "<= 2",
            )
        )
        rows.append(
            (
                "inside: create + submit + wait",
                "switch",
                best(lambda: inside(scheduler, many, submit=True), repeats),
                switch,
                "<= 3.5",
            )
        )
        rows.append(
            ("foreign: write_into + wait", "switch", best(lambda: direct(many), repeats), switch, "<= 4")
        )
        rows.append(
            ("fan-out 100 x 100", "future", best(lambda: fan_out(scheduler), repeats), peer, "<= 3.5")
        )
        depth = 10_000 // scale
        rows.append(
            (
                f"chain {depth} deep, per level",
                "switch",
                best(lambda: chain(scheduler, depth), repeats),
                switch,
                "<= 8",
            )
        )
        rows.append(
            (
                "resume on another worker, p50",
                "",
                best(lambda: resume_latency(scheduler, 200 // scale), 2),
                None,
                "<= 50",
            )
        )
    print(
        f"\n{WORKERS} workers, CPython {sys.version.split()[0]}; "
        "microseconds of CPU time (resume, numpy: wall time)\n"
    )
    print(f"{'':34} {'ours':>9} {'peer':>9} {'':8} {'ours/peer':>9}   goal")
    for name, peer_name, ours, peer_value, goal in rows:
        against = f"{peer_value:9.2f} {peer_name:8} {ours / peer_value:9.2f}" if peer_value else " " * 28
        print(f"{name:34} {ours:9.2f} {against}   {goal}")
    print(f"{'bytes per pending request':34} {bytes_per_pending(many):9.0f} {'':28}   <= 300")
    print(f"{'bytes per suspended request':34} {bytes_per_suspended(2000 // scale):9.0f} {'':28}   <= 8000")
    ours_ms, futures_ms = coarse_work(repeats)
    print(
        f"{'64 blocks of numpy, ms':34} {ours_ms:9.2f} {futures_ms:9.2f} {'future':8} "
        f"{ours_ms / futures_ms:9.2f}   <= 1.10x"
    )


if __name__ == "__main__":
    main()
