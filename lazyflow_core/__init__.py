"""Lazy, parallel, region-of-interest evaluation of image-processing operators."""
