"""The ends of a process: exit, Ctrl-C, fork, signals. Each in a child process with a time limit."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import lazyflow_core.request

ROOT = str(Path(lazyflow_core.request.__file__).parents[2])
PRELUDE = """
import os, signal, sys, threading, time
from lazyflow_core.errors import *
from lazyflow_core.request import *
"""


def run(script, *, timeout=20, expect=0):
    """Run a script in a new interpreter; return what it printed. A hang or a signal fails the test."""
    text = PRELUDE + textwrap.dedent(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, ROOT]), "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        check=False,
    )
    assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
    return done


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """A shell's background jobs ignore Ctrl-C, and so would their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


BUSY = {
    "nothing": "",
    "an idle scheduler": "Request(lambda: 1).submit().wait()",
    "queued requests": """
        scheduler = ThreadedScheduler(1)
        started = threading.Event()
        Request(lambda: started.set() or RequestEvent().wait(), scheduler=scheduler).submit()
        started.wait()
        kept = [Request(lambda: 1, scheduler=scheduler).submit() for _ in range(100)]
    """,
    "suspended requests": """
        never = RequestEvent()
        kept = [Request(never.wait).submit() for _ in range(100)]
        while len(never._queue) < 100: time.sleep(0.001)
    """,
    "deeply nested suspended requests": """
        never = RequestEvent()
        def nested(n):
            never.wait() if n == 0 else Request(lambda: nested(n - 1)).wait()
        kept = Request(lambda: nested(500)).submit()
        while not len(never._queue): time.sleep(0.001)
    """,
    "a running request that looks at checkpoints": """
        started = threading.Event()
        def work():
            started.set()
            while True: checkpoint()
        kept = Request(work).submit(); started.wait()
    """,
    "a request that swallows its cancellation": """
        started = RequestEvent()
        def work():
            while True:
                try:
                    started.set(); RequestEvent().wait()
                except CancelledError: time.sleep(0.01)
        kept = Request(work).submit(); started.wait()
    """,
    "a thread that waits": """
        kept = Request(RequestEvent().wait).submit()
        def wait():
            try: kept.wait()
            except RequestError: pass
        thread = threading.Thread(target=wait, daemon=True); thread.start()
        while not kept._links: time.sleep(0.001)
    """,
    "a pool in use": """
        pool = RequestPool(max_in_flight=2)
        pool.submit(RequestEvent().wait)
    """,
    "requests made while exiting": """
        import atexit
        atexit.register(lambda: Request(lambda: 1).wait())
        Request(lambda: 1).submit().wait()
    """,
    "references in a cycle": """
        class Knot: pass
        knot = Knot(); knot.me = knot
        knot.request = Request(RequestEvent().wait).submit()
        del knot
    """,
    "a closed scheduler": """
        with ThreadedScheduler(2) as scheduler: Request(lambda: 1, scheduler=scheduler).submit().wait()
    """,
    "a seeded scheduler with work left": """
        scheduler = SeededScheduler(1)
        kept = Request(RequestEvent().wait, scheduler=scheduler).submit()
        scheduler.run_until_blocked()
    """,
}


@pytest.mark.parametrize("busy", BUSY)
def test_the_interpreter_exits_cleanly_with(busy):
    begin = time.monotonic()
    done = run(BUSY[busy])
    assert time.monotonic() - begin < 8
    assert "Fatal" not in done.stderr
    assert "Traceback" not in done.stderr or "nobody asked" in done.stderr, done.stderr


def test_exit_waits_no_longer_than_the_grace_for_a_stuck_worker():
    begin = time.monotonic()
    run("""
        started = threading.Event()
        Request(lambda: started.set() or time.sleep(60)).submit()
        started.wait()
    """)
    assert time.monotonic() - begin < 6


def test_importing_starts_no_thread():
    assert run("print(threading.active_count(), 'numpy' in sys.modules)").stdout.split() == ["1", "False"]


# ---------------------------------------------------------------------------------------------------- Ctrl-C

CTRL_C = {
    "waiting for a submitted request": "Request(RequestEvent().wait).submit().wait()",
    "running a request directly": "Request(spin).wait()",
    "running a nested request directly": "Request(lambda: Request(spin).wait()).wait()",
    "in a pool": """
        with RequestPool() as pool:
            for _ in range(10): pool.submit(RequestEvent().wait)
    """,
    "in gather": "gather(RequestEvent().wait, RequestEvent().wait)",
    "waiting for a lock": """
        lock = RequestLock()
        holder = Request(lambda: lock.acquire() and RequestEvent().wait()).submit()
        while not lock.locked(): time.sleep(0.001)
        lock.acquire()
    """,
}


@pytest.mark.parametrize("where", CTRL_C)
def test_ctrl_c_gets_out_of(where):
    script = f"""
def spin():
    while True: checkpoint()
def interrupt():
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
begin = time.monotonic()
try:
{textwrap.indent(textwrap.dedent(CTRL_C[where]), "    ")}
except KeyboardInterrupt:
    assert Request(lambda: 7).submit().wait() == 7
    print("interrupted", time.monotonic() - begin < 2)
"""
    assert run(script).stdout.split() == ["interrupted", "True"]


def test_other_waiters_hear_of_a_ctrl_c_that_hit_the_thread_which_ran_the_request():
    done = run("""
        running = threading.Event()
        def spin():
            running.set()
            while True: checkpoint()
        shared = Request(spin)
        heard = []
        def wait():
            running.wait()
            try: shared.wait()
            except RequestError as error: heard.append(type(error.__cause__).__name__)
        other = threading.Thread(target=wait); other.start()
        def interrupt():
            while shared._links is None: time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try: shared.wait()
        except KeyboardInterrupt: other.join(5); print(heard, other.is_alive())
    """)
    assert done.stdout.strip() == "['KeyboardInterrupt'] False"


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_ctrl_c_at_any_moment_two_hundred_times():
    script = PRELUDE + textwrap.dedent("""
        def work(n):
            gather(*[lambda: work(n - 1)] * 3) if n else sum(range(200))
        try:
            print("ready", flush=True)
            while True:
                with RequestPool(max_in_flight=4) as pool:
                    for _ in pool.map(lambda k: work(2), range(20)): pass
        except KeyboardInterrupt:
            sys.exit(130)
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, ROOT])}
    for k in range(200):
        child = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        child.stdout.readline()
        time.sleep(0.001 * (k % 50))
        child.send_signal(signal.SIGINT)
        begin = time.monotonic()
        _, errors = child.communicate(timeout=20)
        assert child.returncode == 130, (k, child.returncode, errors.decode()[-2000:])
        assert time.monotonic() - begin < 4, k


# ------------------------------------------------------------------------------------------------------ fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_gets_a_fresh_default_scheduler_and_never_hangs():
    done = run("""
        never = RequestEvent()
        old = Request(never.wait).submit()
        while not len(never._queue): time.sleep(0.001)
        queue_before = Request(lambda: 1)
        child = os.fork()
        if child == 0:
            assert Request(lambda: 5).submit().wait(timeout=5) == 5
            assert queue_before.submit().wait(timeout=5) == 1
            try: old.wait()
            except SchedulerClosedError as error: print("forked" in str(error), flush=True)
            os._exit(0)
        print(os.waitpid(child, 0)[1])
    """)
    assert sorted(done.stdout.split()) == ["0", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forking_while_everything_is_busy():
    done = run(
        """
        stop = RequestEvent()
        def busy():
            while not stop.is_set(): gather(*[lambda: None] * 5)
        threads = [threading.Thread(target=busy) for _ in range(3)]
        for thread in threads: thread.start()
        codes = []
        for _ in range(20):
            child = os.fork()
            if child == 0:
                ok = gather(*[lambda k=k: k for k in range(10)]) == list(range(10))
                os._exit(0 if ok else 1)
            codes.append(os.waitpid(child, 0)[1])
        stop.set()
        for thread in threads: thread.join()
        print(set(codes))
    """,
        timeout=60,
    )
    assert done.stdout.strip() == "{0}"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_can_use_requests(method, tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        PRELUDE
        + textwrap.dedent(f"""
        import multiprocessing
        def work(k):
            return sum(gather(*[lambda j=j: j * k for j in range(4)]))
        if __name__ == "__main__":
            Request(lambda: 1).submit().wait()
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                print(pool.map(work, range(4)))
        """)
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, ROOT])}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert done.stdout.strip() == "[0, 6, 12, 18]", done.stderr


def test_dropped_schedulers_cost_nothing_at_exit_and_in_a_fork():
    done = run("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
        def use():
            schedulers = [ThreadedScheduler(2, stall_warning=1) for _ in range(20)]
            return [Request(lambda: gather(lambda: 1, lambda: 2), scheduler=s).submit() for s in schedulers]
        requests = use()
        if hasattr(os, "fork"):
            child = os.fork()
            if child == 0:
                requests.clear()
                use()[0].wait()
                sys.exit(0)
            print(os.waitpid(child, 0)[1])
        assert [request.wait() for request in requests] == [[1, 2]] * 20
        requests.clear()
        use()  # in the middle of their work when the interpreter ends
    """)
    assert done.stdout.strip() in ("0", "")
    assert done.stderr == ""


# ------------------------------------------------------------------------------------------ hang report


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no SIGUSR1 here")
def test_a_signal_prints_who_waits_for_whom():
    done = run("""
        report_hangs_on_signal()
        never = RequestEvent("the data")
        request = Request(never.wait, name="load").submit()
        while not len(never._queue): time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.05)
    """)
    assert "request 'load' (SUSPENDED) waits for RequestEvent 'the data'" in done.stderr


def test_what_a_frozen_collector_does_not_see_is_not_left_dangling():
    # greenlet drops one reference to the stack of a thread that has ended if the collector finds no holder.
    run(
        """
        import gc, weakref
        for _ in range(3):
            scheduler = ThreadedScheduler(2)
            Request(lambda: 1, scheduler=scheduler).submit().wait()
            stacks = [weakref.ref(worker.hub) for worker in scheduler._crew.workers]
            gc.freeze()
            scheduler.close()
            while any(stack() is not None for stack in stacks):
                time.sleep(0.001)
            gc.unfreeze()
            del scheduler
            others = [object() for _ in range(1000)]
            gc.collect()
        """
    )


@pytest.mark.parametrize(
    "wait",
    [
        "threading.Thread(target=request.wait).start()",
        "ThreadPoolExecutor(1).submit(request.wait)",
        "threading.Thread(target=lock.acquire).start()",
        "threading.Thread(target=lambda: gather(never.wait, never.wait)).start()",
        "threading.Thread(target=request.future().result).start()",
    ],
)
def test_a_thread_that_waits_for_what_nobody_will_bring_does_not_keep_the_interpreter(wait):
    done = run(
        f"""
        from concurrent.futures import ThreadPoolExecutor
        never, begun, lock = RequestEvent(), threading.Event(), RequestLock()
        def work():
            with lock:
                begun.set()
                never.wait()
        request = Request(work).submit()
        begun.wait()
        {wait}
        print("main is over", flush=True)
    """,
        timeout=60,
    )
    assert done.stdout.strip() == "main is over"


def test_a_thread_that_goes_on_after_the_main_thread_may_wait_for_requests():
    done = run(
        """
        import time
        def later():
            threading.main_thread().join()
            for k in range(3):
                print(Request(lambda: k).submit().wait(), flush=True)
                print(RequestEvent().wait(timeout=0.7), flush=True)
        Request(lambda: 1).submit().wait()
        threading.Thread(target=later).start()
    """,
        timeout=60,
    )
    assert done.stdout.split() == ["0", "False", "1", "False", "2", "False"]
