"""The samples of one step (S10, S13)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .common.config import Config
from .common.sparse_rows import Dataset
from .schedule import in_batch_steps, learning_rate, steps_per_epoch, total_steps


class MicroBatch(NamedTuple):
    """The labelled samples of one step.

    Attributes
    ----------
    data : Dataset
        Rows without labels or weight are left out (S10).
    samples : ndarray of int64
        Index of each row in the training set.
    epoch, step : int
        Epoch from 0, step over the whole run from 1 (S13).
    rate : float
        Learning rate of the step (S27).
    n_unlabelled : int
        Rows left out.
    weights : ndarray of float64, or None
        Of the rows; None: all the same.
    in_batch : bool
        Whether the output layer asks no tables in this step (S32).
    """

    data: Dataset
    samples: np.ndarray
    epoch: int
    step: int
    rate: float
    n_unlabelled: int
    weights: np.ndarray | None = None
    in_batch: bool = False


def micro_batch(
    config: Config, train: Dataset, order: np.ndarray, epoch: int, step: int, weights: np.ndarray | None = None
) -> MicroBatch:
    """The samples of a step: its place in the epoch's order, rows without labels or weight left out (S10, S13)."""
    place = (step - 1) % steps_per_epoch(train.n_samples, config.micro_batch)
    samples = order[place * config.micro_batch : (place + 1) * config.micro_batch]
    labelled = samples[np.diff(train.labels.indptr)[samples] > 0]
    labelled = labelled if weights is None else labelled[weights[labelled] > 0]
    total = total_steps(config, train.n_samples)
    rate, in_batch = learning_rate(config, step, total), step <= in_batch_steps(config, total)
    own = None if weights is None else weights[labelled]
    return MicroBatch(train.take(labelled), labelled, epoch, step, rate, len(samples) - len(labelled), own, in_batch)
