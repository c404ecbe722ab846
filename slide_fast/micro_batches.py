"""The samples of one step (S10, S13)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.sparse_rows import Dataset

from .schedule import in_batch_steps, learning_rate, steps_per_epoch, total_steps


class MicroBatch(NamedTuple):
    """The labelled samples of one step, as in the reference."""

    data: Dataset
    samples: np.ndarray
    epoch: int
    step: int
    rate: float
    n_unlabelled: int
    weights: np.ndarray | None = None
    in_batch: bool = False


def samples_of(config: Config, n_samples: int, order: np.ndarray, step: int) -> np.ndarray:
    """The samples of a step, by its place in the epoch's order (S13)."""
    place = (step - 1) % steps_per_epoch(n_samples, config.micro_batch)
    return order[place * config.micro_batch : (place + 1) * config.micro_batch].astype(np.int64)


def micro_batch(
    config: Config, train: Dataset, order: np.ndarray, epoch: int, step: int, weights: np.ndarray | None = None
) -> MicroBatch:
    """The samples of a step: its place in the epoch's order, rows without labels or weight left out (S10, S13)."""
    samples = samples_of(config, train.n_samples, order, step)
    labelled = samples[train.labels.indptr[samples + 1] > train.labels.indptr[samples]]
    labelled = labelled if weights is None else labelled[weights[labelled] > 0]
    total = total_steps(config, train.n_samples)
    rate, in_batch = learning_rate(config, step, total), step <= in_batch_steps(config, total)
    own = None if weights is None else weights[labelled]
    return MicroBatch(train.take(labelled), labelled, epoch, step, rate, len(samples) - len(labelled), own, in_batch)
