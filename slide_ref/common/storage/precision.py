"""The dtype of a model's weights in memory and in its folder: float32, or float16, which takes half the space."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..checks import one_of
from ..config import WEIGHT_DTYPES
from ..errors import ModelError
from .array_files import Array, Blocks
from .model_folder import Model

ROWS_AT_ONCE = 8192


class WeightTooLargeError(ModelError):
    """A weight that is outside the range of the dtype it should be stored in."""


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
    WeightTooLargeError
        If a weight is too large for the dtype: float16 values go up to 65,504.
    """
    one_of("dtype", dtype, WEIGHT_DTYPES)
    arrays = {
        name: _converted(name, array, np.dtype(dtype)) if name.startswith("W") and array.dtype != dtype else array
        for name, array in model.arrays.items()
    }
    return dataclasses.replace(model, arrays=arrays)


def _converted(name: str, array: Array, dtype: np.dtype) -> Array:
    """Convert an array of weights block by block. Raises WeightTooLargeError."""
    if isinstance(array, Blocks):
        for block in array.blocks():
            _cast(name, block, dtype)
        return Blocks(array.shape, dtype, lambda: (_cast(name, block, dtype) for block in array.blocks()))
    new = np.empty(array.shape, dtype)
    for first in range(0, len(array), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        new[rows] = _cast(name, array[rows], dtype)
    return new


def _cast(name: str, block: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = block.astype(dtype)
    if np.isinf(cast).any():
        largest, limit = np.abs(block).max(), np.finfo(dtype).max
        raise WeightTooLargeError(f"{name} holds a weight of {largest:.6g}, but the maximum of {dtype} is {limit:.6g}")
    return cast
