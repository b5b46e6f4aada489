"""Learning for lazyflow-core: forests as values, prediction by region, and the projects of ilastik.

Operators are asked for by id (``lazyflow_core.get_operator("learning.predict")``); what is a value is
imported from here.
"""

from lazyflow_ops_learning.forest import Forest
from lazyflow_ops_learning.forest_file import load_forest, save_forest
from lazyflow_ops_learning.training import train_forest

__all__ = ["Forest", "load_forest", "save_forest", "train_forest"]
