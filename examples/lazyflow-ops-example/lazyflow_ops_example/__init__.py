"""Operators of example for lazyflow-core."""
