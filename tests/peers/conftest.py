"""An operator to look at, for all libraries that take a slot for an array."""

import numpy as np
import pytest

from lazyflow_core.graph import Graph, InputSlot, Operator, OutputSlot

IMAGE = np.arange(4 * 6 * 8, dtype="uint16").reshape(4, 6, 8)


class OpNegate(Operator):
    """1000 - image; remembers what it was asked for."""

    image = InputSlot()
    output = OutputSlot()

    def __init__(self, **slots):
        self.executed = []
        super().__init__(**slots)

    def setup_outputs(self):
        self.output.meta = self.image.meta

    def execute(self, slot, roi, out):
        self.executed.append(roi)
        np.subtract(1000, self.image.read(roi), out=out)

    def propagate_dirty(self, slot, roi):
        self.output.mark_dirty(roi)


@pytest.fixture
def op():
    with Graph() as graph:
        yield OpNegate(graph=graph, image=IMAGE)


@pytest.fixture(autouse=True)
def no_leaked_threads():
    """dask keeps the threads of its pool, so here nobody looks."""
