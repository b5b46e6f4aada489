"""Operators whose results the tests cache."""

import numpy as np
from lazyflow_core import InputSlot, Operator, OutputSlot, ParameterSlot
from lazyflow_core.request import RequestPool, checkpoint


class OpCounting(Operator):
    """Hands its input on, remembers which regions it was asked for, and can be held up or made to fail."""

    image = InputSlot()
    output = OutputSlot()

    def __init__(self, **slots):
        self.executed = []
        self.hold = self.hold_first = None
        self.failing = set()
        super().__init__(**slots)

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out):
        self.executed.append(roi)
        checkpoint()
        if self.hold_first is not None:
            self.hold_first.wait()
        pixels = np.array(self.image.read(roi))
        if self.hold is not None:
            self.hold.wait()
        checkpoint()
        if roi in self.failing:
            raise OSError(f"no pixels at {roi}")
        out[...] = pixels

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


class OpScaled(OpCounting):
    """Adds one and multiplies by a factor."""

    factor = ParameterSlot(int, default=1)

    def execute(self, slot, roi, out):
        super().execute(slot, roi, out)
        out += 1
        out *= self.factor.value


class OpHalves(OpCounting):
    """Computes the two halves of a region at the same time; of a cancelled one it may leave a half undone."""

    def execute(self, slot, roi, out):
        middle = (roi.start[0] + roi.stop[0]) // 2
        with RequestPool() as pool:
            for start, stop in ((roi.start[0], middle), (middle, roi.stop[0])):
                half = roi.with_axis(0, start, stop)
                place = half.relative_to(roi).slicing
                pool.submit(lambda half=half, place=place: OpCounting.execute(self, slot, half, out[place]))
