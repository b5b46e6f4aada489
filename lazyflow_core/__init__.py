"""Lazy, parallel, region-of-interest evaluation of image-processing operators.

Where things are, from the bottom up; each layer knows only those above it in this list:

- `errors`, `signals`, `words`: every public exception; a list of callables; sentences about mistakes.
- `axes`, `roi`, `blocks`, `meta`: frozen values, no threads. `storage`: what readers and writers promise.
- `request`: greenlet requests in a fixed pool of threads. Knows no numpy, no ROI, no operator.
- `graph`: slots, operators, setup, pull and push.
- `utility`: streaming of big regions block by block, memory, progress.
- `plugins`: who offers operators, readers and writers; hooks.
- `pipeline`: a graph described as data.
- `testing`: what operator authors test with.

This file only re-exports what most people need. Names are imported when they are used, so asking what is
installed does not import numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lazyflow_core.axes import Axes as Axes
    from lazyflow_core.axes import Axis as Axis
    from lazyflow_core.blocks import BlockGrid as BlockGrid
    from lazyflow_core.errors import LazyflowError as LazyflowError
    from lazyflow_core.graph import Graph as Graph
    from lazyflow_core.graph import InputSlot as InputSlot
    from lazyflow_core.graph import Operator as Operator
    from lazyflow_core.graph import OutputSlot as OutputSlot
    from lazyflow_core.graph import ParameterSlot as ParameterSlot
    from lazyflow_core.graph import StaleBoxes as StaleBoxes
    from lazyflow_core.meta import ArrayMeta as ArrayMeta
    from lazyflow_core.pipeline import Pipeline as Pipeline
    from lazyflow_core.plugins import get_operator as get_operator
    from lazyflow_core.plugins import list_operators as list_operators
    from lazyflow_core.plugins import open_reader as open_reader
    from lazyflow_core.plugins import open_writer as open_writer
    from lazyflow_core.request import Request as Request
    from lazyflow_core.request import RequestPool as RequestPool
    from lazyflow_core.roi import Roi as Roi
    from lazyflow_core.utility import export as export
    from lazyflow_core.utility import stream_blocks as stream_blocks

_MODULE_OF = {
    "ArrayMeta": "meta",
    "Axes": "axes",
    "Axis": "axes",
    "BlockGrid": "blocks",
    "Graph": "graph",
    "InputSlot": "graph",
    "LazyflowError": "errors",
    "Operator": "graph",
    "OutputSlot": "graph",
    "ParameterSlot": "graph",
    "Pipeline": "pipeline",
    "Request": "request",
    "RequestPool": "request",
    "Roi": "roi",
    "StaleBoxes": "graph",
    "export": "utility",
    "get_operator": "plugins",
    "list_operators": "plugins",
    "open_reader": "plugins",
    "open_writer": "plugins",
    "stream_blocks": "utility",
}

__all__ = sorted([*_MODULE_OF, "__version__"])

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
