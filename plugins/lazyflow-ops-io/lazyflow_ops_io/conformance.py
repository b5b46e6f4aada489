"""The operators of this distribution with inputs on which they are tried against the laws of operators.

Here and not in the tests, so that users can try them where they are installed: ``lazyflow operators check``.

Importing this writes the files that are read, into a folder that goes with the process.
"""

from __future__ import annotations

import os
import tempfile

import h5py
import numpy as np
import tifffile
import zarr

from lazyflow_core.testing import Case, array

_FOLDER = tempfile.TemporaryDirectory(prefix="lazyflow-conformance-")
_VOLUME = array((9, 20, 17), "zyx", "uint16", high=4000).pixels


def _path(name: str) -> str:
    return os.path.join(_FOLDER.name, name)


np.save(_path("volume.npy"), _VOLUME)
np.save(_path("other.npy"), _VOLUME[::-1, :, 3:])
np.save(_path("fortran.npy"), np.asfortranarray(_VOLUME[0]).astype(">f4"))
tifffile.imwrite(_path("volume.tif"), _VOLUME)
with h5py.File(_path("volume.h5"), "w") as _file:
    _file.create_dataset("raw", data=_VOLUME, chunks=(4, 8, 8), compression="gzip")
zarr.create_array(_path("volume.zarr"), data=_VOLUME, chunks=(4, 8, 8))

CASES = [
    Case("io.read", params={"path": _path("volume.npy")}, change={"path": _path("other.npy")}, name="npy"),
    Case(
        "io.read", params={"path": _path("fortran.npy"), "axes": "xy"}, change={"axes": "yc"}, name="npy f4"
    ),
    Case("io.read", params={"path": _path("volume.tif")}, name="tiff"),
    Case(
        "io.read",
        params={"path": _path("volume.h5"), "dataset": "raw"},
        change={"path": _path("volume.npy"), "dataset": ""},
        name="hdf5",
    ),
    Case("io.read", params={"path": _path("volume.zarr")}, change={"axes": "tyx"}, name="zarr"),
]
