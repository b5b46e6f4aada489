"""What outputs of a pipeline have in common: computed for each, unless a cache stands between."""

import numpy as np
import pytest

from lazyflow_core import ArrayMeta, Graph, Operator, OutputSlot, Pipeline
from lazyflow_core.plugins import PluginManager

block_cache = pytest.importorskip("lazyflow_ops_cache.block_cache")
threshold = pytest.importorskip("lazyflow_ops_array.threshold")

PIPELINE = """
[slow]
operator = "shared.slow"

[cached]
operator = "cache.blocks"
image = "slow.output"

[bright]
operator = "array.threshold"
image = "{source}.output"
level = 50

[dark]
operator = "array.threshold"
image = "{source}.output"
level = 10
"""


class OpSlow(Operator):
    output = OutputSlot()

    def __init__(self, **slots):
        self.pixels_computed = 0
        super().__init__(**slots)

    def setup_outputs(self):
        self.output.meta = ArrayMeta((64,), "float32")

    def execute(self, slot, roi, out):
        self.pixels_computed += roi.size
        out[...] = np.arange(roi.start[0], roi.stop[0])


@pytest.mark.parametrize(("source", "times"), [("slow", 2), ("cached", 1)])
def test_a_step_that_two_outputs_share_is_computed_once_behind_a_cache_and_else_twice(source, times):
    manager = PluginManager(only=())
    manager.register("shared.slow", OpSlow)
    manager.register("cache.blocks", block_cache.OpBlockCache)
    manager.register("array.threshold", threshold.OpThreshold)
    with Graph() as graph:
        built = Pipeline.from_toml(PIPELINE.format(source=source)).build(graph, manager)
        for name in ("bright", "dark"):
            assert built.slot(f"{name}.output").read().any()
        assert built.operators["slow"].pixels_computed == times * 64
