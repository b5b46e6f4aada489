"""Write a volume where that cannot go well; run as a program, since the process itself is limited or dies.

    python disk_full.py FORMAT PATH HOW [NUMBER]

HOW is what happens: ``size`` (no file may have more than NUMBER bytes), ``add`` (the same, while a dataset is
added to a file), ``files`` (NUMBER more files may be
open), ``nothing``, ``die`` (after NUMBER blocks), or ``die-everywhere`` (one process after the other, each
at the next call to the system that changes something). Ends with 0 if writing failed with a StorageError
that names path and reason, with 4 if all was written, with 5 if a dead process left something that it should
not have; the interpreter's own end counts too.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np

from lazyflow_core.blocks import BlockGrid
from lazyflow_core.errors import StorageError
from lazyflow_core.meta import ArrayMeta

MODULES = {
    "hdf5": ("lazyflow_ops_io.hdf5_writer:create_hdf5", "lazyflow_ops_io.hdf5_reader:open_hdf5"),
    "zarr": ("lazyflow_ops_io.zarr_writer:create_zarr", "lazyflow_ops_io.zarr_reader:open_zarr"),
    "tiff": ("lazyflow_ops_io.tiff_writer:create_tiff", "lazyflow_ops_io.tiff_reader:open_tiff"),
    "npy": ("lazyflow_ops_io.npy:create_npy", "lazyflow_ops_io.npy:open_npy"),
}
BLOCK = (32, 32, 32)
NOISE = np.random.default_rng(0).integers(0, 256, BLOCK, np.uint8)  # nothing packs it
CALLS = ("pwrite", "ftruncate", "posix_fallocate", "fsync", "mkdir", "link", "unlink", "rename", "replace")


def function(place: str):
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def write(
    name: str,
    path: str,
    side: int,
    *,
    die_after: int | None = None,
    overwrite: bool = False,
    dataset: str | None = None,
) -> None:
    meta = ArrayMeta((side,) * 3, np.uint8, "zyx")
    chunked = name in ("hdf5", "zarr")
    options = {"chunks": BLOCK} if chunked else {}
    writer = function(MODULES[name][0])(path, meta, dataset=dataset, overwrite=overwrite, **options)
    blocks = BlockGrid(meta.shape, BLOCK if chunked else (BLOCK[0], side, side))
    data = NOISE if chunked else np.tile(NOISE, (1, side // BLOCK[1], side // BLOCK[2]))
    if die_after is not None:
        for roi, _ in zip(blocks, range(die_after), strict=False):
            writer.write(roi, data)
        die()
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda roi: writer.write(roi, data), blocks))
        writer.commit()
    except BaseException:
        writer.abort()
        raise


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def limit_files(more: int) -> None:
    import resource

    lowest = os.dup(0)  # the limit is of numbers; all below this one are taken
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, lowest + more))


def die_at(number: int) -> None:
    """Let this process die at a call that changes something."""
    calls = count(1)

    def dying(real):
        return lambda *a, **k: die() if next(calls) == number else real(*a, **k)

    for call in CALLS:
        if hasattr(os, call):
            setattr(os, call, dying(getattr(os, call)))


def die_everywhere(name: str, path: str) -> None:
    """Let a process die at its first call that changes something, one at its second, and so on."""
    if name == "zarr":
        importlib.import_module("zarr")  # once, rather than in every child
    for number in count(1):
        child = os.fork()
        if not child:
            die_at(number)
            write(name, path, 64, overwrite=True)
            os._exit(4)
        _, status = os.waitpid(child, 0)
        if os.path.lexists(path):
            with function(MODULES[name][1])(path) as reader:
                out = np.zeros(reader.meta.shape, np.uint8)
                reader.read(reader.meta.roi, out)
            if not (out == np.tile(NOISE, (2, 2, 2))).all():
                sys.exit(5)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            print(number - 1, "deaths")
            sys.exit(os.waitstatus_to_exitcode(status))


def main(name: str, path: str, how: str, number: int) -> None:
    function(MODULES[name][0])
    if how in ("size", "add"):
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
    elif how == "files":
        limit_files(number)
    try:
        if how == "die-everywhere":
            die_everywhere(name, path)
        dataset = "added" if how == "add" else None
        write(name, path, 128, die_after=number if how == "die" else None, dataset=dataset)
    except StorageError as error:
        print(error)
        if path not in str(error) or "\n" in str(error):
            sys.exit(3)
    else:
        sys.exit(4)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 0)
