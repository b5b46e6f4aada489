"""Open damaged copies of a file and report everything that is neither data nor an error of ours.

Run as a program by `test_bad_input`, since a damaged file may crash or hang the library underneath:

    python mutants.py FORMAT FILE FIRST_SEED COUNT

Prints one line of JSON: counts by outcome, the seeds of outcomes that must not be, and how many MiB the
process grew.
"""

from __future__ import annotations

import collections
import faulthandler
import importlib
import json
import random
import resource
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from lazyflow_core.errors import FormatError, StorageError
from lazyflow_core.roi import Roi

TARGETS = {
    "hdf5": "lazyflow_ops_io.hdf5_reader:open_hdf5",
    "zarr": "lazyflow_ops_io.zarr_reader:open_zarr",
    "tiff": "lazyflow_ops_io.tiff_reader:open_tiff",
    "npy": "lazyflow_ops_io.npy:open_npy",
}
#: Of the processor, so that a busy machine makes no mutant slow.
SECONDS = 5
MEMORY = 3 * 2**29


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return a damaged copy: flipped bits, extreme numbers, cut, doubled or blanked runs."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(damaged)) if rng.random() < 0.5 else rng.randrange(min(len(damaged), 3000))
        kind = rng.randrange(5)
        if kind == 0:
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            number = rng.choice(
                (b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\0\0\0\x80", b"\xff\xff", b"99999999")
            )
            damaged[at : at + len(number)] = number
        elif kind == 2:
            del damaged[at : at + rng.randrange(1, 200)]
        elif kind == 3:
            damaged[at:at] = damaged[at : at + rng.randrange(1, 200)]
        else:
            damaged[at] = rng.randrange(256)
        if not damaged:
            break
    return bytes(damaged)


def read_all(opener, path: str) -> str:
    """Open and read a little of everything; return what happened."""
    try:
        with opener(path) as reader:
            shape = reader.meta.shape
            for start in ([0] * len(shape), [n // 2 for n in shape]):
                roi = Roi(start, [min(n, a + 70) for a, n in zip(start, shape, strict=True)])
                reader.read(roi, np.empty(roi.shape, reader.meta.dtype))
        return "data"
    except (FormatError, StorageError) as error:
        text = str(error)
        if "\n" in text or len(text) > 700 or Path(path).name not in text:
            return f"bad sentence: {text[:200]!r}"
        return type(error).__name__


def main(name: str, original: str, first: int, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    module, _, function = TARGETS[name].partition(":")
    opener = getattr(importlib.import_module(module), function)
    outcomes: collections.Counter[str] = collections.Counter()
    wrong = []
    read_all(opener, original)  # what importing takes is not a file's doing
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In memory where there is such a folder: writing the mutants takes longer than reading them.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        source = Path(original)
        path = Path(folder, f"mutant{source.suffix}")
        if source.is_dir():
            shutil.copytree(source, path)
            victims = sorted(p for p in path.rglob("*") if p.is_file())
            documents = [p for p in victims if p.name.startswith((".z", "zarr"))]
        else:
            shutil.copy(source, path)
            victims, documents = [path], []
        for seed in range(first, first + count):
            rng = random.Random(seed)
            victim = rng.choice(documents if documents and rng.random() < 0.5 else victims)
            whole = victim.read_bytes()
            victim.write_bytes(mutate(whole, rng))
            faulthandler.dump_traceback_later(60, exit=True)
            print(f"seed {seed}", file=sys.stderr, flush=True)  # the last one, if we die
            begin = time.process_time()
            try:
                outcome = read_all(opener, str(path))
            except Exception as error:
                outcome = f"foreign {type(error).__name__}: {error}"[:200]
            if time.process_time() - begin > SECONDS:
                outcome = "slow"
            faulthandler.cancel_dump_traceback_later()
            kind = outcome if outcome in ("data", "FormatError", "StorageError") else "wrong"
            outcomes[kind] += 1
            if kind == "wrong":
                wrong.append([seed, outcome])
            victim.write_bytes(whole)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(json.dumps({"outcomes": outcomes, "wrong": wrong[:20], "grown_mib": grown}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
