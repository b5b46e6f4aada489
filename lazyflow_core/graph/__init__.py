"""The graph framework: slots, operators, setup, pull and push. `DESIGN.md` beside this file says why."""

from lazyflow_core.graph.declarations import InputSlot, OutputSlot, ParameterSlot
from lazyflow_core.graph.graph import Graph
from lazyflow_core.graph.operator import Operator
from lazyflow_core.graph.pull import SlotRequest
from lazyflow_core.graph.slots import ArraySlot, Input, Output, Parameter, Slot

__all__ = [
    "ArraySlot",
    "Graph",
    "Input",
    "InputSlot",
    "Operator",
    "Output",
    "OutputSlot",
    "Parameter",
    "ParameterSlot",
    "Slot",
    "SlotRequest",
]
