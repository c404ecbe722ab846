"""Held-out training samples, to evaluate a run on samples that it is not trained on."""

from __future__ import annotations

import numpy as np

from .errors import DataError
from .rng import Purpose, permutation
from .sparse_rows import Dataset


def kept_aside(seed: int, n_samples: int, fraction: float) -> np.ndarray:
    """Mark the samples that are held out for validation. Implements S38.

    Parameters
    ----------
    seed : int
    n_samples : int
        At least 2.
    fraction : float
        Above 0 and below 1.

    Returns
    -------
    ndarray of bool, shape (n_samples,)

    Raises
    ------
    DataError
        If there are fewer than two samples.
    """
    if n_samples < 2:
        raise DataError(f"training data: {n_samples} sample(s), none of which can be held out for validation")
    n_aside = min(max(int(fraction * n_samples + 0.5), 1), n_samples - 1)
    aside = np.zeros(n_samples, dtype=np.bool_)
    aside[permutation(seed, Purpose.VALIDATION, n=n_samples)[:n_aside]] = True
    return aside


def split(data: Dataset, aside: np.ndarray) -> tuple[Dataset, Dataset]:
    """Return the samples to train on, and those held out."""
    return data.take(np.flatnonzero(~aside)), data.take(np.flatnonzero(aside))
