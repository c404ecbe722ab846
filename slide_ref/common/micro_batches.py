"""The samples of one step (S10, S13)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .config import Config
from .schedule import in_batch_steps, learning_rate, steps_per_epoch, total_steps
from .sparse_rows import Dataset


class MicroBatch(NamedTuple):
    """The labelled samples of one step.

    Attributes
    ----------
    data : Dataset
        Rows without labels or with weight 0 are left out (S10).
    samples : ndarray of int64
        Index of each row in the training data.
    epoch, step : int
        Epoch from 0, step over the whole run from 1 (S13).
    rate : float
        Learning rate of the step (S27).
    n_unlabelled : int
        Number of rows left out.
    weights : ndarray of float64, or None
        Weights of the rows; None: all equal.
    in_batch : bool
        Whether the output layer queries no tables in this step (S32).
    """

    data: Dataset
    samples: np.ndarray
    epoch: int
    step: int
    rate: float
    n_unlabelled: int
    weights: np.ndarray | None = None
    in_batch: bool = False


def samples_of(config: Config, n_samples: int, order: np.ndarray, step: int) -> np.ndarray:
    """Return the samples of a step, given its position in the epoch's order (S13); int64."""
    place = (step - 1) % steps_per_epoch(n_samples, config.micro_batch)
    return order[place * config.micro_batch : (place + 1) * config.micro_batch].astype(np.int64)


def micro_batch(
    config: Config, train: Dataset, order: np.ndarray, epoch: int, step: int, weights: np.ndarray | None = None
) -> MicroBatch:
    """Assemble the micro-batch of a step, without rows that lack labels or weight. Implements S10 and S13."""
    samples = samples_of(config, train.n_samples, order, step)
    own = None if weights is None else weights[samples]
    return labelled_part(config, train.take(samples), samples, own, train.n_samples, epoch, step)


def labelled_part(
    config: Config,
    data: Dataset,
    samples: np.ndarray,
    weights: np.ndarray | None,
    n_samples: int,
    epoch: int,
    step: int,
) -> MicroBatch:
    """Make a micro-batch of these samples and their `weights`, out of `n_samples` training samples."""
    kept = np.flatnonzero(np.diff(data.labels.indptr))
    kept = kept if weights is None else kept[weights[kept] > 0]
    total = total_steps(config, n_samples)
    rate, in_batch = learning_rate(config, step, total), step <= in_batch_steps(config, total)
    n_unlabelled, own = len(samples) - len(kept), None if weights is None else weights[kept]
    data = data if len(kept) == len(samples) else data.take(kept)
    return MicroBatch(data, samples[kept], epoch, step, rate, n_unlabelled, own, in_batch)
