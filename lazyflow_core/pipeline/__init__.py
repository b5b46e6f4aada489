"""Pipelines as data: read from TOML, checked against the installed operators, built into a graph.

>>> from lazyflow_core.pipeline import Pipeline
>>> pipeline = Pipeline.from_toml('[noise]\\noperator = "acme.noise"\\nsize = [64, 64]')
>>> print(pipeline.to_toml(), end="")
[noise]
operator = "acme.noise"
size = [64, 64]
"""

from lazyflow_core.pipeline._build import BuiltExport, BuiltPipeline
from lazyflow_core.pipeline._check import CheckedPipeline, CheckedStep, Registry
from lazyflow_core.pipeline._description import Export, Origin, Pipeline, Step
from lazyflow_core.pipeline._toml import read_table

__all__ = [
    "BuiltExport",
    "BuiltPipeline",
    "CheckedPipeline",
    "CheckedStep",
    "Export",
    "Origin",
    "Pipeline",
    "Registry",
    "Step",
    "read_table",
]
