"""Smoothing, edges and tensors of images, computed lazily by region.

`lazyflow_ops_filters.kernels` holds the plain functions (numpy in, numpy out), the other modules the
operators. This module imports nothing, so that asking what the plugin offers costs nothing.
"""
