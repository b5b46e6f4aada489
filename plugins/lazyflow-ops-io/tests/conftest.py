"""The formats under test, each with what it keeps, and the sample volume."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lazyflow_ops_io.hdf5_reader import open_hdf5
from lazyflow_ops_io.hdf5_writer import create_hdf5
from lazyflow_ops_io.npy import create_npy, open_npy
from lazyflow_ops_io.tiff_reader import open_tiff
from lazyflow_ops_io.tiff_writer import create_tiff
from lazyflow_ops_io.zarr_reader import open_zarr
from lazyflow_ops_io.zarr_writer import create_zarr

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.blocks import BlockGrid
from lazyflow_core.meta import ArrayMeta

UM = "micrometer"


@dataclass(frozen=True)
class Format:
    """A way of storing an array."""

    name: str
    suffix: str
    create: Callable[..., Any]
    open: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    keeps_axes: bool = True
    keeps_translation: bool = True
    every_type: bool = True

    def write(self, path: Path, data: np.ndarray, axes: Axes | str | None = None, **options: Any) -> int:
        """Write an array block by block from three threads."""
        writer = self.create(
            str(path), ArrayMeta(data.shape, data.dtype, axes), **{**self.options, **options}
        )
        block = tuple(max(1, 20 // step) * step for step in writer.step)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda roi: writer.write(roi, data[roi.slicing]), BlockGrid(data.shape, block)))
        return writer.commit()

    def read(self, path: Path, **options: Any) -> tuple[np.ndarray, ArrayMeta]:
        """Read a whole array and its meta."""
        with self.open(str(path), **options) as reader:
            out = np.empty(reader.meta.shape, reader.meta.dtype)
            reader.read(reader.meta.roi, out)
            return out, reader.meta


FORMATS = [
    Format("hdf5", ".h5", create_hdf5, open_hdf5),
    Format("hdf5-plain", ".h5", create_hdf5, open_hdf5, {"compression": None, "chunks": (5, 7, 16)}),
    Format("zarr3", ".zarr", create_zarr, open_zarr),
    Format("zarr3-blosc", ".zarr", create_zarr, open_zarr, {"compression": "blosc", "chunks": (5, 7, 16)}),
    Format("zarr3-gzip", ".zarr", create_zarr, open_zarr, {"compression": "gzip"}),
    Format("zarr3-root", ".zarr", create_zarr, open_zarr, {"compression": None, "dataset": "/"}),
    Format("zarr2", ".zarr", create_zarr, open_zarr, {"zarr_format": 2}),
    Format("zarr2-blosc", ".zarr", create_zarr, open_zarr, {"zarr_format": 2, "compression": "blosc"}),
    Format("tiff", ".tif", create_tiff, open_tiff, keeps_translation=False, every_type=False),
    Format("npy", ".npy", create_npy, open_npy, keeps_axes=False, keeps_translation=False),
]
ONE_OF_EACH = [f for f in FORMATS if f.name in ("hdf5", "zarr3", "zarr2", "tiff", "npy")]


def _parameters(formats: list[Format]) -> dict[str, Any]:
    return {"params": formats, "ids": [f.name for f in formats]}


@pytest.fixture(**_parameters(FORMATS))
def variant(request: pytest.FixtureRequest) -> Format:
    """Each format with each option."""
    return request.param


@pytest.fixture(**_parameters(ONE_OF_EACH))
def storage(request: pytest.FixtureRequest) -> Format:
    """Each format once."""
    return request.param


@pytest.fixture
def formats() -> dict[str, Format]:
    """The formats by name, for tests of some of them."""
    return {f.name: f for f in FORMATS}


@pytest.fixture
def axes() -> Axes:
    """Axes with units, pixel sizes and an origin."""
    return Axes([Axis("z", None, UM, 0.235, 4.0), Axis("y", None, UM, 0.15), Axis("x", None, UM, 0.15, -1.5)])


@pytest.fixture
def volume() -> np.ndarray:
    """A small volume of distinct pixels that is no multiple of any chunk."""
    return np.arange(11 * 23 * 37, dtype=np.uint16).reshape(11, 23, 37)


@pytest.fixture
def ovule() -> Path:
    """The sample volume of the examples."""
    return Path(__file__).parents[3] / "examples" / "data" / "sample_ovule.h5"
