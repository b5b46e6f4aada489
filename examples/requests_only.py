"""Requests without images: count the words of many files, show progress, stop when somebody loses patience.

python examples/requests_only.py [folder] [--trace trace.json]
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from lazyflow_core.errors import RequestCancelledError, RequestError, RequestTimeoutError
from lazyflow_core.request import (
    Request,
    RequestLock,
    RequestPool,
    ThreadedScheduler,
    TraceRecorder,
    checkpoint,
)


def count_words(path: Path) -> Counter[str]:
    """Count the words of one file; look now and then whether it is still wanted."""
    words: Counter[str] = Counter()
    for line in path.read_text(errors="replace").splitlines():
        checkpoint()
        words.update(line.split())
    return words


def count_folder(folder: Path) -> Counter[str]:
    """Count all Python files below a folder, at most eight at a time."""
    total: Counter[str] = Counter()
    done = 0
    with RequestPool(max_in_flight=8, name="files") as pool:
        for words in pool.map(count_words, sorted(folder.rglob("*.py"))):
            total.update(words)
            done += 1
    print(f"{done} files, {total.total()} words")
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument(
        "--trace", type=Path, help="write what ran where and when, for https://ui.perfetto.dev"
    )
    options = parser.parse_args()

    recorder = TraceRecorder()
    with ThreadedScheduler(observers=(recorder,) if options.trace else ()) as scheduler:
        # One result, many waiters: both look at the same computation, which runs once.
        counted = Request(lambda: count_folder(options.folder), name="count", scheduler=scheduler)
        most = Request(lambda: counted.wait().most_common(3), name="most common", scheduler=scheduler)
        longest = Request(
            lambda: max(counted.wait(), key=len, default=""), name="longest", scheduler=scheduler
        )
        print("most common:", most.submit().wait())
        print("longest:", longest.submit().wait()[:60])

        # A failure names its request and keeps its cause.
        try:
            Request(lambda: count_words(Path("no such file")), name="count a missing file").wait()
        except RequestError as error:
            print(f"{error} (cause: {type(error.__cause__).__name__})")

        # Patience has an end; then the work is cancelled, with all that only it needed.
        endless = Request(lambda: spin(RequestLock("busy")), name="endless", scheduler=scheduler).submit()
        try:
            endless.wait(timeout=0.1)
        except RequestTimeoutError:
            print("cancelled:", endless.cancel())
        try:
            endless.wait()
        except RequestCancelledError as error:
            print(error)
    if options.trace:
        recorder.save(options.trace)


def spin(lock: RequestLock) -> None:
    """Never end by itself."""
    while True:
        with lock:
            checkpoint()


if __name__ == "__main__":
    main()
