"""Write a test volume of uint8 with the texture of smoothed noise, block by block.

    python benchmarks/make_volume.py volume.h5                 # 1024 x 1024 x 1024 pixels, 1 GiB
    python benchmarks/make_volume.py volume.zarr --side 256

The same side always gives the same pixels. No more than one block per worker is in memory. The format
follows from the name: whatever an installed plugin writes.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from lazyflow_core.axes import Axes, Axis
from lazyflow_core.blocks import BlockGrid
from lazyflow_core.meta import ArrayMeta
from lazyflow_core.plugins import open_writer
from lazyflow_core.roi import Roi

BLOCK = 128


def make_texture(side: int = BLOCK, seed: int = 7) -> np.ndarray:
    """Return a periodic cube of smoothed noise, values 20 to 235."""
    noise = np.random.default_rng(seed).standard_normal((side,) * 3).astype(np.float32)
    for axis in range(3):
        for distance in (1, 2, 4):  # repeated averages of neighbours, nearly a Gaussian
            noise = (noise + np.roll(noise, distance, axis) + np.roll(noise, -distance, axis)) / 3
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return (20 + 215 * noise).astype(np.uint8)


def block_of(texture: np.ndarray, roi: Roi) -> np.ndarray:
    """Return one block of the volume: the texture shifted differently for every block, with fine noise."""
    number = hash(roi.start)  # of integers: the same in every process
    generator = np.random.default_rng(number & 0xFFFF_FFFF)
    shifted = np.roll(texture, generator.integers(0, texture.shape[0], 3), (0, 1, 2))
    cut = shifted[tuple(slice(0, n) for n in roi.shape)]
    return cut + generator.integers(0, 8, roi.shape, dtype=np.uint8)


def write_volume(
    path: str, side: int, *, workers: int = 2, overwrite: bool = False, **options: object
) -> int:
    """Write a volume of ``side`` pixels cubed and return its bytes in storage."""
    pixel = {"unit": "micrometer", "resolution": 0.1}
    axes = Axes([Axis(key, **pixel) for key in "zyx"])
    meta = ArrayMeta((side,) * 3, np.uint8, axes, value_range=(0, 255))
    texture = make_texture()
    writer = open_writer(path, meta, overwrite=overwrite, **options)
    try:
        block = tuple(max(BLOCK // s * s, s) for s in writer.step)

        def write(roi: Roi) -> None:
            writer.write(roi, block_of(texture, roi))

        rois = iter(BlockGrid(meta.shape, block))
        with ThreadPoolExecutor(workers) as pool:
            while batch := list(islice(rois, 4 * workers)):
                list(pool.map(write, batch))
        return writer.commit()
    except BaseException:
        writer.abort()
        raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="file to write, e.g. volume.h5 or volume.zarr")
    parser.add_argument("--side", type=int, default=1024, help="pixels along each axis (default 1024)")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    given = parser.parse_args()
    start = time.perf_counter()
    stored = write_volume(given.path, given.side, overwrite=given.overwrite)
    seconds = time.perf_counter() - start
    pixels = given.side**3
    print(
        f"{Path(given.path).name}: {given.side} x {given.side} x {given.side} uint8, "
        f"{stored / 1e6:.1f} MB in storage, {seconds:.1f} s, {pixels / seconds / 1e6:.0f} Mpixel/s"
    )


if __name__ == "__main__":
    main()
