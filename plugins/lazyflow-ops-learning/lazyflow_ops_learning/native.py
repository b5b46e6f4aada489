"""The native predictor and trainer, called through ctypes, which releases the GIL; where it was built."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_int32, c_int64, c_uint64, c_void_p, memmove
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from lazyflow_core.request import run_stoppable

from lazyflow_ops_learning.numpy_trainer import CodedSamples, Growing, Tree

if TYPE_CHECKING:
    from lazyflow_ops_learning.forest import Forest

__all__ = ["NativeLibrary", "native_library", "why_not_native"]

Array = npt.NDArray[Any]

_ABI: Final = 2
#: The structure ``LlNode`` of ``native/forest.h``.
_NODE: Final = np.dtype(
    [("threshold", "f4"), ("child", "u4"), ("row", "u4"), ("feature", "u2"), ("unused", "u2")]
)
#: Samples and trees that take less than 20 ms, by far, on any machine.
_BRIEF: Final = 4_000_000
#: Samples times features tried per split of a tree that is grown in less than 20 ms, by far.
_BRIEF_TREE: Final = 20_000


class _ForestStructure(Structure):
    """The structure ``LlForest`` of ``native/forest.h``."""

    _fields_ = (
        ("nodes", c_void_p),
        ("roots", c_void_p),
        ("shares", c_void_p),
        ("trees", c_int64),
        ("classes", c_int64),
    )


class _SamplesStructure(Structure):
    """The structure ``LlSamples`` of ``native/forest.h``."""

    _fields_ = (
        ("codes", c_void_p),
        ("labels", c_void_p),
        ("stride", c_int64),
        ("samples", c_int64),
        ("features", c_int64),
        ("classes", c_int64),
        ("codes_end", c_int64),
        ("wide", c_int32),
    )


class _GrowingStructure(Structure):
    """The structure ``LlGrowing`` of ``native/forest.h``."""

    _fields_ = (
        ("seed", c_uint64),
        ("features_per_split", c_int64),
        ("smallest_leaf", c_int64),
        ("class_weights", c_void_p),
        ("votes", c_void_p),
        ("bootstrap", c_int32),
    )


class _TreeStructure(Structure):
    """The structure ``LlTree`` of ``native/forest.h``."""

    _fields_ = (
        ("nodes", c_int64),
        ("feature", c_void_p),
        ("cut", c_void_p),
        ("child", c_void_p),
        ("label", c_void_p),
        ("mixed", c_int64),
        ("mixed_node", c_void_p),
        ("mixed_drawn", c_void_p),
        ("importance", c_void_p),
    )


class NativeLibrary:
    """The library, and forests as it wants them.

    Parameters
    ----------
    isa
        Which build of it to run, ``"generic"`` or ``"x86_64_v3"``; the best for this processor if left out.

    Raises
    ------
    OSError
        If it was not built, or does not fit this Python code.
    """

    def __init__(self, isa: str = "") -> None:
        # Not only beside this file: an editable install has the package in two folders.
        from lazyflow_ops_learning import __path__ as folders

        path = next((p for f in folders for p in sorted(Path(f).glob("lazyflow_learning.*"))), None)
        if path is None:
            raise OSError(
                "it was not built: no working C++ compiler was found when this package was installed"
            )
        loaded = ctypes.CDLL(str(path))
        if loaded.ll_abi() != _ABI:
            raise OSError(f"{path.name} is of another version than this Python code; install both again")
        loaded.ll_best_isa.restype = c_char_p
        self.isa = isa or loaded.ll_best_isa().decode()
        self._predict = getattr(loaded, f"ll_predict_{self.isa}")
        self._predict.argtypes = [
            POINTER(_ForestStructure),
            c_void_p,
            c_int64,
            c_int64,
            c_void_p,
            c_int64,
            c_void_p,
        ]
        self._predict.restype = c_int
        self._grow = getattr(loaded, f"ll_grow_{self.isa}")
        self._grow.argtypes = [
            POINTER(_SamplesStructure),
            POINTER(_GrowingStructure),
            c_uint64,
            POINTER(_TreeStructure),
            c_void_p,
        ]
        self._grow.restype = c_int
        self._free_tree = loaded.ll_free_tree
        self._free_tree.argtypes = [POINTER(_TreeStructure)]
        self._free_tree.restype = None
        #: A forest's nodes side by side, made when it is first asked.
        self._nodes: WeakKeyDictionary[Forest, Array] = WeakKeyDictionary()

    def predict(self, forest: Forest, features: Array, out: Array) -> None:
        """Write the probabilities of float32 features of shape (features, samples)."""
        if features.strides[1] != 4 or features.strides[0] % 4 or not features.flags.aligned:
            features = np.ascontiguousarray(features)
        target = (
            out
            if out.strides[1] == 4 and out.strides[0] % 4 == 0 and out.flags.aligned
            else np.empty_like(out)
        )
        nodes = self._nodes.get(forest)
        if nodes is None:
            nodes = self._nodes[forest] = _packed(forest)
        shares = None if forest.is_pure else np.ascontiguousarray(forest.leaf)
        described = _ForestStructure(
            nodes.ctypes.data,
            forest.roots.ctypes.data,
            None if shares is None else shares.ctypes.data,
            forest.tree_count,
            forest.class_count,
        )
        samples = features.shape[1]
        failed = run_stoppable(
            lambda stop: self._predict(
                byref(described),
                features.ctypes.data,
                features.strides[0] // 4,
                samples,
                target.ctypes.data,
                target.strides[0] // 4,
                stop,
            ),
            is_brief=samples * forest.tree_count < _BRIEF,
        )
        if failed > 1:
            raise MemoryError("the native predictor found no memory for its lists")
        if target is not out:
            out[...] = target

    def grow(self, samples: CodedSamples, how: Growing, tree: int) -> Tree:
        """Return the tree of that number; the same as `grow_by_numpy`."""
        codes, importance = samples.codes, np.zeros(len(samples.codes))
        assert codes.strides[1] == codes.itemsize
        assert samples.labels.flags.c_contiguous
        described = _SamplesStructure(
            codes.ctypes.data,
            samples.labels.ctypes.data,
            codes.strides[0] // codes.itemsize,
            codes.shape[1],
            codes.shape[0],
            samples.class_count,
            samples.codes_end,
            codes.itemsize > 1,
        )
        growing = _GrowingStructure(
            how.seed,
            how.features_per_split,
            how.smallest_leaf,
            how.class_weights.ctypes.data,
            None if how.votes is None else how.votes.ctypes.data,
            how.bootstrap,
        )
        grown = _TreeStructure(importance=importance.ctypes.data)
        try:
            failed = run_stoppable(
                lambda stop: self._grow(byref(described), byref(growing), tree, byref(grown), stop),
                is_brief=codes.shape[1] * how.features_per_split < _BRIEF_TREE,
            )
            if failed > 1:
                raise MemoryError("the native trainer found no memory for its lists")
            nodes, mixed, classes = grown.nodes, grown.mixed, samples.class_count
            return Tree(
                _copied(grown.feature, nodes, "u2"),
                _copied(grown.cut, nodes, "u2"),
                _copied(grown.child, nodes, "u4"),
                _copied(grown.label, nodes, "u1"),
                _copied(grown.mixed_node, mixed, "u4"),
                _copied(grown.mixed_drawn, mixed * classes, "u4").reshape(mixed, classes),
                importance,
            )
        finally:
            self._free_tree(byref(grown))


def _copied(address: int | None, count: int, dtype: str) -> Array:
    array = np.empty(count, dtype)
    if address is not None:
        memmove(array.ctypes.data, address, array.nbytes)
    return array


def _packed(forest: Forest) -> Array:
    nodes = np.zeros(len(forest.child), _NODE)
    nodes["threshold"], nodes["child"], nodes["feature"] = forest.threshold, forest.child, forest.feature
    leaves = forest.child == 0
    nodes["row"][leaves] = forest.leaf if forest.is_pure else np.arange(len(forest.leaf))
    return nodes


@cache
def _loaded() -> NativeLibrary | str:
    try:
        return NativeLibrary()
    except OSError as error:
        return str(error)


def native_library() -> NativeLibrary | None:
    """Return the native library; None where there is none."""
    loaded = _loaded()
    return None if isinstance(loaded, str) else loaded


def why_not_native() -> str:
    """Return why there is no native library; empty where there is one."""
    loaded = _loaded()
    return loaded if isinstance(loaded, str) else ""
