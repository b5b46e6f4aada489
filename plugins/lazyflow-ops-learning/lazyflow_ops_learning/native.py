"""The native predictor, called through ctypes, which releases the GIL; where it was built."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from lazyflow_core.request import run_stoppable

if TYPE_CHECKING:
    from lazyflow_ops_learning.forest import Forest

__all__ = ["NativeLibrary", "native_predictor", "why_not_native"]

Array = npt.NDArray[Any]

_ABI: Final = 1
#: The structure ``LlNode`` of ``native/forest.h``.
_NODE: Final = np.dtype(
    [("threshold", "f4"), ("child", "u4"), ("row", "u4"), ("feature", "u2"), ("unused", "u2")]
)
#: Samples and trees that take less than 20 ms, by far, on any machine.
_BRIEF: Final = 4_000_000


class _Forest(Structure):
    """The structure ``LlForest`` of ``native/forest.h``."""

    _fields_ = (
        ("nodes", c_void_p),
        ("roots", c_void_p),
        ("shares", c_void_p),
        ("trees", c_int64),
        ("classes", c_int64),
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
        self._predict.argtypes = [POINTER(_Forest), c_void_p, c_int64, c_int64, c_void_p, c_int64, c_void_p]
        self._predict.restype = c_int
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
        described = _Forest(
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


def native_predictor() -> NativeLibrary | None:
    """Return the native predictor; None where there is none."""
    loaded = _loaded()
    return None if isinstance(loaded, str) else loaded


def why_not_native() -> str:
    """Return why there is no native predictor; empty where there is one."""
    loaded = _loaded()
    return loaded if isinstance(loaded, str) else ""
