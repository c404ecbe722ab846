"""When things happen: the order of samples, the numbers of steps, learning rates, the rebuilds."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.rng import Purpose, permutation

TOGETHER = 2  # workers that train at the same time from the first step on
STEPS_A_WORKER = 100  # after which one more joins: of the steps so far at most about a hundredth are under way


def sample_order(seed: int, epoch: int, n_samples: int) -> np.ndarray:
    """The order in which epoch `epoch` (from 0) visits the samples. Implements S13.

    Returns
    -------
    ndarray of int64, shape (n_samples,)
    """
    return permutation(seed, Purpose.SAMPLE_ORDER, epoch, n=n_samples)


def steps_per_epoch(n_samples: int, micro_batch: int) -> int:
    """Micro-batches in one epoch; the last may be short and is kept (S13)."""
    return (n_samples + micro_batch - 1) // micro_batch


def n_epochs(config: Config, n_samples: int) -> int:
    """The epochs of a run over so many samples: as set, or by their number. Implements S13."""
    return config.epochs or min(max(5, -(-150_000 // max(1, n_samples))), 10)


def total_steps(config: Config, n_samples: int) -> int:
    """The steps of all epochs of a run over so many samples (S13)."""
    return n_epochs(config, n_samples) * steps_per_epoch(n_samples, config.micro_batch)


def in_batch_steps(config: Config, total_steps: int) -> int:
    """The last step in which the output layer asks no tables; 0: it does from the first step on. Implements S32."""
    return math.floor(config.in_batch * total_steps) if config.scope == "batch" else 0


def largest_rate(config: Config, total_steps: int) -> float:
    """The largest learning rate of a run: as set, or by the number of its steps and its width. Implements S27."""
    by_width = (128 / max(128, *config.hidden)) ** (1 / 3)
    return config.learning_rate or min(max(0.016 - 3e-6 * total_steps, 0.004), 0.01) * by_width


def learning_rate(config: Config, step: int, total_steps: int) -> float:
    """The learning rate of a step: it rises linearly, then stays or falls towards 0. Implements S27.

    Parameters
    ----------
    config : Config
    step : int
        From 1.
    total_steps : int
        Steps of the whole run; 0 is reached as the last of them ends.

    Returns
    -------
    float
    """
    largest, warmup = largest_rate(config, total_steps), config.warmup_steps
    if step <= warmup:
        return largest * step / warmup
    left = max(0.0, 1 - (step - 1 - warmup) / max(1, total_steps - warmup))
    shapes = {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}
    return largest * shapes[config.decay]


def workers_at(step: int, n_workers: int) -> int:
    """How many of the workers train at the same time once `step` steps of all runs are begun. Implements S33."""
    return min(n_workers, TOGETHER + step // STEPS_A_WORKER)


def joined_after(n_workers: int) -> int:
    """After how many steps all of the workers train. Implements S33."""
    return max(0, n_workers - TOGETHER) * STEPS_A_WORKER


def rebuild_steps(gap: int, growth: float, and_after: int = 0) -> Iterator[int]:
    """After which steps the tables are rebuilt: floor(gap * (1 + e^growth + e^(2 growth) + ...)). Implements S14.

    Parameters
    ----------
    gap : int
        N0, steps before the first rebuild.
    growth : float
        λ; 0 rebuilds every `gap` steps.
    and_after : int
        A step after which one more rebuild comes, if none does anyway; from `in_batch_steps`.

    Yields
    ------
    int
        The step after which rebuild 1, 2, ... comes; without end.
    """
    steps, number, last = 0.0, 0, 0
    while growth * number < 700:  # e^700 steps are never reached, and e^710 is no number
        steps += gap * math.exp(growth * number)
        number += 1
        following = math.floor(steps)
        if last < and_after < following:
            yield and_after
        yield following
        last = following
