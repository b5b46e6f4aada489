"""Checks of pulling: a region is that part of the whole, whatever it is written into."""

from __future__ import annotations

from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyflow_core.blocks import BlockGrid
from lazyflow_core.errors import LazyflowError
from lazyflow_core.foreign import text_of
from lazyflow_core.graph import Output
from lazyflow_core.roi import Roi
from lazyflow_core.testing.case import InputArray
from lazyflow_core.testing.registry import check
from lazyflow_core.testing.trial import Trial


@check(needs=("meta_consistency",))
def roi_consistency(trial: Trial) -> None:
    """A region is that part of the whole, and blocks assemble to the whole."""
    with trial.bench() as bench:
        for slot in bench.outputs:
            for roi in trial.rois(slot.meta.shape):
                trial.expect_part(slot, roi, slot.read(roi))
    with trial.bench() as bench:
        for slot in bench.outputs:
            shape = slot.meta.shape
            block = tuple(int(trial.chance.integers(max(1, n // 4), max(2, n // 2 + 1))) for n in shape)
            assembled = np.empty(shape, slot.meta.dtype)
            rois = list(BlockGrid(shape, block))
            for i in trial.chance.permutation(len(rois)):
                assembled[rois[i].slicing] = slot.read(rois[i])
            trial.expect_part(slot, slot.meta.roi, assembled, f" assembled from blocks {block}")


@check(needs=("roi_consistency",))
def out_buffer(trial: Trial) -> None:
    """A destination gets every pixel of the region and nothing else, whatever its strides."""
    with trial.bench() as bench:
        for slot in bench.outputs:
            for roi in [roi for roi in trial.rois(slot.meta.shape)[:9] if not roi.is_empty]:
                for arrange in (_contiguous, _every_second, _reversed_axes):
                    frame, out, inside = arrange(roi.shape, slot.meta.dtype)
                    canary = frame.copy()
                    result = slot.read(roi, out=out)
                    if result is not out:
                        trial.fail(f"{slot} {roi}: read(roi, out=out) returned something else than `out`.")
                    trial.expect_part(slot, roi, out, f" written into an array with strides {out.strides}")
                    if not np.array_equal(frame.view(np.uint8)[~inside], canary.view(np.uint8)[~inside]):
                        trial.fail(f"{slot} {roi}: pixels outside the destination were overwritten.")


@check(needs=("roi_consistency",))
def input_unchanged(trial: Trial) -> None:
    """Computing changes no input, and what was returned is nobody else's memory."""
    trial.need_inputs()
    arrays = trial.arrays()
    with trial.bench() as bench:
        for name, given in arrays.items():
            bench.input(name).assign(_Window(given), given.meta)
        originals = {name: given.pixels.copy() for name, given in arrays.items()}
        for slot in bench.outputs:
            for roi in trial.rois(slot.meta.shape)[:6]:
                try:
                    found = slot.read(roi)
                except LazyflowError as error:
                    if "read-only" in text_of(error):
                        trial.fail(f"{slot} {roi} writes into an input: {text_of(error)}")
                    raise
                for name, given in arrays.items():
                    if given.pixels.tobytes() != originals[name].tobytes():
                        trial.fail(f"{slot} {roi} changed {name}; copy what you want to change.")
                # What a caller does to a writable result must not be seen by the next one.
                if found.flags.writeable and not any(
                    np.shares_memory(found, given.pixels) for given in arrays.values()
                ):
                    found[...] = 0
                    trial.expect_part(slot, roi, slot.read(roi), " asked again after its result was changed")


@check(needs=("roi_consistency",))
def halo_bound(trial: Trial) -> None:
    """A small region asks for a small part of the inputs."""
    trial.need_inputs()
    if "global" in trial.case.tags:
        trial.skip("tagged global")
    with trial.bench() as bench:
        for slot in bench.outputs:
            asked_all = dict.fromkeys(bench.sources, True)
            for roi in _single_pixels(slot):
                bench.asked()
                slot.read(roi)
                for name, rois in bench.asked().items():
                    whole = bench.sources[name].output.meta.roi
                    asked_all[name] &= whole in rois and whole.size > 1
                    _expect_within_halo(trial, slot, roi, name, whole, rois, bench.sources[name].output)
            for name, always in asked_all.items():
                if always and slot.meta.size > 1:
                    trial.fail(
                        f"{slot}: every single pixel asks for all of {name}. Read what the region needs, or "
                        "tag the case 'global'."
                    )
            _expect_few_pixels(trial, slot, bench)


def _expect_within_halo(
    trial: Trial, slot: Output, roi: Roi, name: str, whole: Roi, rois: list[Roi], source: Output
) -> None:
    axes, halo = source.meta.axes, trial.case.halo
    if slot.operator.pixelwise and source.meta.shape == slot.meta.shape:
        for asked in rois:
            if asked != roi:
                trial.fail(
                    f"{slot} {roi} asks {name} for {asked}, but the operator says that it is pixelwise."
                )
        return
    if halo is None or axes.keys != slot.meta.axes.keys or source.meta.shape != slot.meta.shape:
        return
    per_key = halo if not isinstance(halo, int) else {axes[i].key: halo for i in axes.spatial}
    allowed = roi.with_halo([per_key.get(axis.key, 0) for axis in axes], within=whole)
    for asked in rois:
        if asked not in allowed:
            trial.fail(f"{slot} {roi} asks {name} for {asked}; with halo {halo} it may ask for {allowed}.")


def _expect_few_pixels(trial: Trial, slot: Output, bench: Any) -> None:
    factor = trial.case.read_factor
    if factor is None:
        return
    roi = Roi([n // 3 for n in slot.meta.shape], [n // 3 + ceil(n / 4) for n in slot.meta.shape])
    bench.asked()
    slot.read(roi)
    asked = sum(r.size for rois in bench.asked().values() for r in rois)
    if asked > factor * roi.size:
        trial.fail(f"{slot} {roi} has {roi.size} pixels and asks for {asked}; allowed are {factor} times.")


def _single_pixels(slot: Output) -> list[Roi]:
    shape = slot.meta.shape
    if not prod(shape):
        return []
    zero, middle, last = (0,) * len(shape), tuple(n // 2 for n in shape), tuple(n - 1 for n in shape)
    return [Roi(corner, [c + 1 for c in corner]) for corner in (zero, middle, last)]


class _Window:
    """An array that hands out writable views, so that who writes into them is seen."""

    def __init__(self, given: InputArray) -> None:
        self.pixels = given.pixels
        self.shape, self.dtype = given.pixels.shape, given.pixels.dtype

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        return np.asarray(self.pixels[key])


Frame = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.bool_]]


def _frame(shape: tuple[int, ...], dtype: np.dtype[Any], key: tuple[slice, ...], reverse: bool) -> Frame:
    """Return an array full of a pattern, the part of it that is the destination, and where its bytes are."""
    frame = np.full(shape, 0x5B, np.uint8)[..., np.newaxis].repeat(dtype.itemsize, -1)
    whole = np.ascontiguousarray(frame).view(dtype)[..., 0]
    inside = np.zeros((*shape, dtype.itemsize), bool)
    inside[key] = True
    out = whole[key]
    return whole, out.T if reverse else out, inside.reshape(*shape[:-1], -1) if shape else inside


def _contiguous(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Frame:
    return _frame(shape, dtype, (slice(None),) * len(shape), reverse=False)


def _every_second(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Frame:
    key = tuple(slice(1, 1 + 2 * n, 2) for n in shape)
    return _frame(tuple(2 * n + 3 for n in shape), dtype, key, reverse=False)


def _reversed_axes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Frame:
    key = tuple(slice(2, 2 + n) for n in reversed(shape))
    return _frame(tuple(n + 4 for n in reversed(shape)), dtype, key, reverse=True)
