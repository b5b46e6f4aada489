"""A registry of a few small operators, and a good pipeline of them, so that no plugin is needed."""

from __future__ import annotations

import pytest

from lazyflow_core.errors import UnknownOperatorError
from lazyflow_core.plugins.specs import WriterSpec
from lazyflow_core.words import near_miss

from .operators import OpAdd, OpCast, OpPeak, OpRead, OpSmooth


class FakeRegistry:
    """The operators and writers above."""

    operators = {
        "io.read": OpRead,
        "filters.smooth": OpSmooth,
        "array.add": OpAdd,
        "array.cast": OpCast,
        "stats.peak": OpPeak,
    }

    def get_operator(self, id):
        if id not in self.operators:
            raise UnknownOperatorError(f"no operator {id!r}{near_miss(id, self.operators)}")
        return self.operators[id]

    def writers(self):
        return [
            WriterSpec("io.zarr", "nowhere:zarr", ("*.zarr",), ("chunks", "compression")),
            WriterSpec("io.hdf5", "nowhere:hdf5", ("*.h5", "*.hdf5"), ("compression",)),
        ]


GOOD = """\
[volume]
operator = "io.read"
path = "cells.npy"

[smooth]
operator = "filters.smooth"
image = "volume.output"
sigma = 1.5

[[export]]
slot = "smooth.output"
path = "smooth.zarr"
"""


@pytest.fixture
def registry():
    return FakeRegistry()


@pytest.fixture
def good():
    """The text of a pipeline without mistakes."""
    return GOOD
