"""Operators that the graph's tests are made of. All arrays are 1-D or 2-D, so cases stay readable."""

import numpy as np

from lazyflow_core.errors import SetupError
from lazyflow_core.graph import InputSlot, Operator, OutputSlot, ParameterSlot
from lazyflow_core.roi import Roi


class OpAdd(Operator):
    """image + amount; counts what happens to it."""

    image = InputSlot()
    amount = ParameterSlot(float, default=1.0)
    output = OutputSlot()

    def __init__(self, **slots):
        self.setups = 0
        self.executed = []
        self.stale = []
        self.released = 0
        super().__init__(**slots)

    def setup_outputs(self):
        self.setups += 1
        self.output.meta = self.image.meta.replace(dtype="float64")

    def execute(self, slot, roi, out):
        self.executed.append(roi)
        np.add(self.image.read(roi), self.amount.value, out=out)

    def propagate_dirty(self, slot, roi):
        self.stale.append(roi)
        self.output.mark_dirty(roi)

    def release(self):
        self.released += 1


class OpSum(Operator):
    """a + b: the bottom of a diamond."""

    a = InputSlot()
    b = InputSlot()
    output = OutputSlot()

    def __init__(self, **slots):
        self.setups = 0
        self.stale = []
        super().__init__(**slots)

    def setup_outputs(self):
        self.setups += 1
        if self.a.meta.shape != self.b.meta.shape:
            raise SetupError(f"a is {self.a.meta} and b is {self.b.meta}; they need one shape")
        self.output.meta = self.a.meta

    def execute(self, slot, roi, out):
        np.add(self.a.read(roi), self.b.read(roi), out=out)

    def propagate_dirty(self, slot, roi):
        self.stale.append((slot.name, roi))
        self.output.mark_dirty(roi)


class OpShift(Operator):
    """output[i] = image[i - 1], 0 at the start: input and output regions differ."""

    image = InputSlot(ndim=1)
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out):
        (start,), (stop,) = roi.start, roi.stop
        out[:] = 0
        source = Roi((max(0, start - 1),), (max(0, stop - 1),))
        out[len(out) - source.size :] = self.image.read(source)

    def propagate_dirty(self, slot, roi):
        whole = self.output.meta.roi
        self.output.mark_dirty(Roi((roi.start[0] + 1,), (roi.stop[0] + 1,)) & whole)


class OpTwice(Operator):
    """A composite: two OpAdd in a row behind one input, one parameter and one output."""

    image = InputSlot()
    amount = ParameterSlot(float, default=1.0)
    output = OutputSlot()

    def __init__(self, **slots):
        super().__init__(**slots)
        self.first = OpAdd(parent=self, name="first", image=self.image, amount=self.amount)
        self.second = OpAdd(parent=self, name="second", image=self.first.output, amount=self.amount)
        self.output.connect(self.second.output)
