"""Small operators that pipelines of the tests are made of."""

import numpy as np

from lazyflow_core.errors import FormatError, SetupError
from lazyflow_core.graph import InputSlot, Operator, OutputSlot, ParameterSlot
from lazyflow_core.meta import ArrayMeta


class OpRead(Operator):
    """Give the array of an ``.npy`` file."""

    path = ParameterSlot(str)
    dataset = ParameterSlot(str | None, default=None)
    output = OutputSlot()

    def setup_outputs(self):
        try:
            data = np.load(self.path.value, allow_pickle=False)
        except ValueError:
            raise FormatError(f"{self.path.value!r} is truncated.") from None
        self.output.meta = ArrayMeta(data.shape, data.dtype)

    def execute(self, slot, roi, out):
        out[...] = np.load(self.path.value)[roi.slicing]


class OpSmooth(Operator):
    """Multiply, whatever its name says."""

    image = InputSlot()
    sigma = ParameterSlot(float, default=1.0, check=lambda s: None if s > 0 else "is not positive")
    mode = ParameterSlot(str, default="reflect", choices=("reflect", "nearest"))
    output = OutputSlot()

    def setup_outputs(self):
        if self.sigma.value > 100:
            raise SetupError("the sigma is larger than the volume.")
        self.output.meta = self.image.meta.replace(dtype=np.float32)

    def execute(self, slot, roi, out):
        np.multiply(self.image.read(roi), self.sigma.value, out=out)

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


class OpAdd(Operator):
    """Add two arrays."""

    image = InputSlot()
    other = InputSlot(optional=True)
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out):
        out[...] = self.image.read(roi)
        if self.other.ready:
            out += self.other.read(roi)


class OpCast(Operator):
    """Cast to another type."""

    image = InputSlot()
    dtype = ParameterSlot(str)
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.image.meta.replace(dtype=self.dtype.value)

    def execute(self, slot, roi, out):
        out[...] = self.image.read(roi)


class OpMean(Operator):
    """The mean of several values, spread over an image."""

    image = InputSlot()
    values = ParameterSlot(float, level=1)
    output = OutputSlot()

    def setup_outputs(self):
        self.output.meta = self.image.meta.replace(dtype=np.float64)

    def execute(self, slot, roi, out):
        out[...] = np.mean([each.value for each in self.values])

    def propagate_dirty(self, slot, roi):
        pass


class OpPeak(Operator):
    """Find the largest pixel."""

    image = InputSlot()
    peak = OutputSlot(value=float)

    def compute_value(self, slot):
        return float(self.image.read().max())

    def propagate_dirty(self, slot, roi):
        self.peak.mark_dirty()
