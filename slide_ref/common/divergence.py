"""Divergence of training: the checks of both packages, and their messages (S29)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .errors import DivergedError

LARGEST_LOSS = 1e4


def check_loss(step: int, loss: float) -> None:
    """Raise DivergedError if the mean loss of a step is not finite, or above `LARGEST_LOSS`. Implements S29."""
    if not loss <= LARGEST_LOSS:
        raise DivergedError(step, f"the mean loss was {loss:.4g}")


def check_weights(step: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise DivergedError if a weight is not finite after `step`. Implements S29."""
    for name, array in arrays.items():
        if not (np.isfinite(array.min(initial=0)) and np.isfinite(array.max(initial=0))):
            raise DivergedError(step, f"{name} contained weights that are not finite")
