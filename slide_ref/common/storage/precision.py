"""The dtype of a model's weights in memory and in its folder: float32, or float16, which takes half the space."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from ..checks import one_of
from ..config import WEIGHT_DTYPES
from ..errors import ModelError
from .array_files import Array, Blocks
from .model_folder import Model

ROWS_AT_ONCE = 8192


class WeightRangeError(ModelError):
    """Weights that the dtype they should be stored in cannot hold: one is too large, or all are too small."""


def dtype_of(model: Model) -> str:
    """Return the dtype of a model's weights, by name."""
    return model.arrays["W0"].dtype.name


def with_dtype(model: Model, dtype: str) -> Model:
    """Return the model with weights of another dtype; biases and the index stay float32.

    Parameters
    ----------
    model : Model
    dtype : str
        ``"float32"`` or ``"float16"``, which keeps 11 significant bits of each weight. Float16 weights are converted to
        float32 during computation.

    Raises
    ------
    ConfigError
        If the dtype is unknown.
    WeightRangeError
        If a weight is too large for the dtype, or all weights of a layer are so small that it keeps fewer bits:
        float16 values go up to 65,504, and have 11 bits from 6.1e-5 on.
    """
    one_of("dtype", dtype, WEIGHT_DTYPES)
    arrays = {
        name: _converted(name, array, np.dtype(dtype)) if name.startswith("W") and array.dtype != dtype else array
        for name, array in model.arrays.items()
    }
    return dataclasses.replace(model, arrays=arrays)


def _converted(name: str, array: Array, dtype: np.dtype) -> Array:
    """Convert an array of weights block by block. Raises WeightRangeError."""
    starts = range(0, array.shape[0], ROWS_AT_ONCE)

    def blocks() -> Iterable[np.ndarray]:
        return array.blocks() if isinstance(array, Blocks) else (array[i : i + ROWS_AT_ONCE] for i in starts)

    _check_range(name, max((np.abs(block).max(initial=0) for block in blocks()), default=np.float32()), np.finfo(dtype))
    if isinstance(array, Blocks):
        return Blocks(array.shape, dtype, lambda: (block.astype(dtype) for block in blocks()))
    return np.asarray(array).astype(dtype)


def _check_range(name: str, largest: np.floating, of: np.finfo) -> None:
    """Raise WeightRangeError if a dtype cannot hold the largest absolute weight, or only with fewer bits."""
    with np.errstate(over="ignore"):
        is_inf = np.isinf(largest.astype(of.dtype))
    if is_inf:
        raise WeightRangeError(f"{name} holds a weight of {largest:.6g}, but the maximum of {of.dtype} is {of.max:.6g}")
    if 0 < largest < of.tiny:
        advice = "store float32" + (", or train on samples of about length 1" if name == "W0" else "")
        raise WeightRangeError(f"the largest weight of {name} is {largest:.3g}, but {of.dtype} loses bits below "
                               f"{of.tiny:.2g}; {advice}")  # fmt: skip
