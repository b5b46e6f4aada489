"""The graph framework: slots, operators, setup, pull and push. `DESIGN.md` beside this file says why."""

from lazyflow_core.graph.arrays import ArraySlot, Input, Output
from lazyflow_core.graph.declarations import Declaration, InputSlot, OutputSlot, ParameterSlot
from lazyflow_core.graph.duck import SlotArray
from lazyflow_core.graph.graph import Graph
from lazyflow_core.graph.lanes import Lanes
from lazyflow_core.graph.multi import MultiInput, MultiOutput, MultiParameter, MultiSlot, MultiValueOutput
from lazyflow_core.graph.operator import Operator
from lazyflow_core.graph.pull import SlotRequest
from lazyflow_core.graph.setup import Transaction
from lazyflow_core.graph.slots import Slot, SlotSignal
from lazyflow_core.graph.stale import StaleBoxes
from lazyflow_core.graph.values import Parameter, ValueOutput
from lazyflow_core.graph.versions import Snapshot

__all__ = [
    "ArraySlot",
    "Declaration",
    "Graph",
    "Input",
    "InputSlot",
    "Lanes",
    "MultiInput",
    "MultiOutput",
    "MultiParameter",
    "MultiSlot",
    "MultiValueOutput",
    "Operator",
    "Output",
    "OutputSlot",
    "Parameter",
    "ParameterSlot",
    "Slot",
    "SlotArray",
    "SlotRequest",
    "SlotSignal",
    "Snapshot",
    "StaleBoxes",
    "Transaction",
    "ValueOutput",
]
