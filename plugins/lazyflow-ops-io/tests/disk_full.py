"""Write a volume where there is no room for it; run as a program, since the process itself is limited.

    python disk_full.py FORMAT PATH BYTES

BYTES is the largest size a file may have (RLIMIT_FSIZE); 0 if the disk itself is small; -1 to die after a few
blocks instead. Ends with 0 only if writing failed with a StorageError that names path and reason; the
interpreter's own end counts too.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lazyflow_core.blocks import BlockGrid
from lazyflow_core.errors import StorageError
from lazyflow_core.meta import ArrayMeta

TARGETS = {
    "hdf5": "lazyflow_ops_io.hdf5_writer:create_hdf5",
    "zarr": "lazyflow_ops_io.zarr_writer:create_zarr",
    "tiff": "lazyflow_ops_io.tiff_writer:create_tiff",
    "npy": "lazyflow_ops_io.npy:create_npy",
}


def main(name: str, path: str, limit: int) -> None:
    if limit > 0:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    module, _, function = TARGETS[name].partition(":")
    create = getattr(importlib.import_module(module), function)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 32), np.uint8)  # nothing packs it
    meta = ArrayMeta((128, 128, 128), np.uint8, "zyx")
    options = {"chunks": (32, 32, 32)} if name in ("hdf5", "zarr") else {}
    try:
        writer = create(path, meta, **options)
        if limit < 0:
            for roi, _ in zip(BlockGrid(meta.shape, (32, 32, 32)), range(9), strict=False):
                writer.write(roi, noise)
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda roi: writer.write(roi, noise), BlockGrid(meta.shape, (32, 32, 32))))
            writer.commit()
        except BaseException:
            writer.abort()
            raise
    except StorageError as error:
        print(error)
        if path not in str(error) or "\n" in str(error):
            sys.exit(3)
    else:
        sys.exit(4)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
