"""What does a request cost, next to a future, a greenlet switch and the goals we set ourselves?

All rows take turns, round after round, peers among them, so whatever else the machine does meets all. The
fastest round counts, since the slow ones measure the neighbours; the median shows how much there was of that.
Compare the ratios of one run, never single times of two.

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
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from greenlet import getcurrent, greenlet

from lazyflow_core.request import Request, RequestEvent, RequestPool, ThreadedScheduler, gather

WORKERS = 2


def nothing() -> None:
    pass


def take(item: object) -> None:
    pass


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


def pool_filled(scheduler: ThreadedScheduler, count: int, most: int | None = None) -> float:
    def run() -> None:
        with RequestPool(most, scheduler=scheduler) as pool:
            for _ in range(count):
                pool.submit(nothing)

    return clock(run, count)


def pool_mapped(scheduler: ThreadedScheduler, count: int, most: int | None = 64) -> float:
    def run() -> None:
        with RequestPool(most, scheduler=scheduler) as pool:
            for _ in pool.map(take, range(count)):
                pass

    return clock(run, count)


def mapped_futures(executor: ThreadPoolExecutor, count: int) -> float:
    def run() -> None:
        for _ in executor.map(take, range(count)):
            pass

    return clock(run, count)


def inside_request(scheduler: ThreadedScheduler, figure: Callable[[], float]) -> float:
    return Request(figure, scheduler=scheduler).submit().wait()


def fan_out_pools(scheduler: ThreadedScheduler, width: int = 100) -> float:
    def fill(work: Callable[[], None]) -> None:
        with RequestPool() as pool:
            for _ in range(width):
                pool.submit(work)

    root = Request(lambda: fill(lambda: fill(nothing)), scheduler=scheduler)
    return clock(root.submit().wait, width * width)


def round_trip(scheduler: ThreadedScheduler, count: int) -> float:
    def run() -> None:
        for _ in range(count):
            Request(nothing, scheduler=scheduler).submit().wait()

    return wall_clock(run) / count * 1e3


def round_trip_futures(executor: ThreadPoolExecutor, count: int) -> float:
    def run() -> None:
        for _ in range(count):
            executor.submit(nothing).result()

    return wall_clock(run) / count * 1e3


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


def measure(functions: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return what each function says in each round, in rising order. In a round each has its turn once."""
    figures: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            gc.collect()  # what the one before left behind is not counted
            figures[name].append(function())
    return {name: sorted(values) for name, values in figures.items()}


def row(what: str, best: float, median: float | None, goal: float, unit: str = "µs") -> None:
    usual = " " * 9 if median is None else f"{median:9.2f}"
    digits = 0 if unit == "bytes" else 2
    verdict = "ok" if best <= goal else "MISSED"
    print(f"{what:<52}{best:9.{digits}f}{usual} {unit:6}{'≤ ' + format(goal, 'g'):>8}  {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work; for a first look")
    quick = parser.parse_args().quick
    scale, rounds = (10, 3) if quick else (1, 15)
    many, depth = 20_000 // scale, 10_000 // scale

    with ThreadedScheduler(WORKERS) as scheduler, ThreadPoolExecutor(WORKERS) as executor:
        figures = measure(
            {
                "flat": lambda: flat(scheduler, many),
                "future": lambda: flat_futures(executor, many),
                "inline": lambda: inside(scheduler, many, submit=False),
                "submitted": lambda: inside(scheduler, many, submit=True),
                "direct": lambda: direct(many),
                "fan-out": lambda: fan_out(scheduler),
                "pool": lambda: pool_filled(scheduler, many),
                "pool 64": lambda: pool_filled(scheduler, many, 64),
                "map": lambda: pool_mapped(scheduler, many),
                "future map": lambda: mapped_futures(executor, many),
                "pool inside": lambda: inside_request(scheduler, lambda: pool_filled(scheduler, many)),
                "pool 64 inside": lambda: inside_request(scheduler, lambda: pool_filled(scheduler, many, 64)),
                "map inside": lambda: inside_request(scheduler, lambda: pool_mapped(scheduler, many)),
                "fan-out pools": lambda: fan_out_pools(scheduler),
                "round trip": lambda: round_trip(scheduler, many // 20),
                "future round trip": lambda: round_trip_futures(executor, many // 20),
                "chain": lambda: chain(scheduler, depth),
                "switch": lambda: switch_there_and_back(many),
            },
            rounds,
        )
        resume = sorted(resume_latency(scheduler, 200 // scale) for _ in range(3))
    pending = bytes_per_pending(many)
    suspended = bytes_per_suspended(2000 // scale)
    ours, futures = coarse_work(rounds)

    print(f"{WORKERS} workers, CPython {sys.version.split()[0]}, the cyclic collector on; {rounds} rounds.")
    print("Processor time of the process, but wall time where a thread is woken or numpy computes.\n")
    print(f"{'':52}{'best':>9}{'median':>9} {'':6}{'goal':>8}")

    def compare(what: str, name: str, goal: float) -> None:
        values = figures[name]
        row(what, values[0], values[len(values) // 2], goal)

    compare(f"{many} flat no-ops, submit + wait", "flat", 3)
    row("   times the price of a future", figures["flat"][0] / figures["future"][0], None, 0.167, "×")
    compare("inside a request: create + wait", "inline", 2)
    compare("inside a request: create + submit + wait", "submitted", 3.5)
    compare("from a foreign thread: write_into + wait", "direct", 4)
    compare("fan-out 100 x 100", "fan-out", 3.5)
    compare(f"RequestPool, {many} members from a thread", "pool", 4)
    compare("   at most 64 in flight", "pool 64", 4)
    compare("   map, at most 64 in flight", "map", 4)
    compare("   inside a request", "pool inside", 4)
    compare("   inside a request, at most 64 in flight", "pool 64 inside", 4)
    compare("   inside a request, map, at most 64", "map inside", 4)
    compare("fan-out 100 x 100 with pools", "fan-out pools", 5)
    compare("round trip from a foreign thread, submit + wait, wall", "round trip", 25)
    compare(f"chain {depth} deep, submit + wait, per level", "chain", 8)
    row("resume on another worker, median", resume[0], resume[1], 50)
    row("bytes per pending request", pending, None, 300, "bytes")
    row("bytes per suspended request", suspended, None, 8000, "bytes")
    row("64 blocks of numpy, times ThreadPoolExecutor's", ours / futures, None, 1.1, "×")
    print("\nbeside them, in the same rounds:")
    for name, what in (
        ("future", "a future of ThreadPoolExecutor"),
        ("future map", "map of ThreadPoolExecutor, per item"),
        ("future round trip", "submit + result of ThreadPoolExecutor, wall"),
        ("switch", "a greenlet switch and back"),
    ):
        print(f"{what:<52}{figures[name][0]:9.2f}{figures[name][rounds // 2]:9.2f} µs")


if __name__ == "__main__":
    main()
