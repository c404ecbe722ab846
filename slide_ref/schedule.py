"""When things happen: the order of samples, the numbers of steps, the rebuilds (paper, section 4.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .common.rng import Purpose, permutation


def sample_order(seed: int, epoch: int, n_samples: int) -> np.ndarray:
    """The order in which epoch `epoch` (from 0) visits the samples. Implements S13.

    Returns
    -------
    ndarray of int64, shape (n_samples,)
    """
    return permutation(seed, Purpose.SAMPLE_ORDER, epoch, n=n_samples)


def steps_per_epoch(n_samples: int, micro_batch: int) -> int:
    """Micro-batches in one epoch; the last may be short and is kept (S13)."""
    return -(-n_samples // micro_batch)


def rebuild_steps(gap: int, growth: float) -> Iterator[int]:
    """After which steps the tables are rebuilt: floor(gap * (1 + e^growth + e^(2 growth) + ...)). Implements S14.

    Parameters
    ----------
    gap : int
        N0, steps before the first rebuild.
    growth : float
        λ; 0 rebuilds every `gap` steps.

    Yields
    ------
    int
        The step after which rebuild 1, 2, ... comes; without end.
    """
    total = 0.0
    i = 0
    while growth * i < 700:  # e^700 steps are never reached, and e^710 is no number
        total += gap * math.exp(growth * i)
        yield math.floor(total)
        i += 1
