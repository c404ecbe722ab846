"""Schedule of a run: order of samples, numbers of steps, learning rates, rebuilds (paper, section 4.3)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from .config import Config
from .rng import Purpose, permutation

TOGETHER = 2  # workers that train at the same time from the first step on
WIDE_LAYER, SHORT_RUN = 512, 300  # neurons from which the rate falls in another way, and steps after which it does
NEVER_REACHED = 2.0**62  # steps
STEPS_A_WORKER = 100  # after which one more joins: of the steps so far at most about a hundredth are under way


def sample_order(seed: int, epoch: int, n_samples: int) -> np.ndarray:
    """Return the order in which epoch `epoch` (from 0) visits the samples. Implements S13.

    Returns
    -------
    ndarray of int64, shape (n_samples,)
    """
    return permutation(seed, Purpose.SAMPLE_ORDER, epoch, n=n_samples)


def steps_per_epoch(n_samples: int, micro_batch: int) -> int:
    """Return the number of micro-batches of one epoch; a short last one is kept (S13)."""
    return -(-n_samples // micro_batch)


def n_epochs(config: Config, n_samples: int) -> int:
    """Return the number of epochs of a run: as set, or chosen by the number of samples. Implements S13."""
    if config.epochs > 0:
        return config.epochs
    if n_samples >= 30_000:
        return 5
    return min(math.ceil(150_000 / max(1, n_samples)), 10)


def total_steps(config: Config, n_samples: int) -> int:
    """Return the number of steps of all epochs of a run (S13)."""
    return n_epochs(config, n_samples) * steps_per_epoch(n_samples, config.micro_batch)


def in_batch_steps(config: Config, total_steps: int) -> int:
    """Return the last step in which the output layer queries no tables, or 0 if there is none. Implements S32."""
    return math.floor(config.in_batch * total_steps) if config.scope == "batch" else 0


def fresh_steps(config: Config, n_samples: int) -> range:
    """Return the in-batch steps in the second half of the first epoch, whose samples are new. Implements S37."""
    each, last = steps_per_epoch(n_samples, config.micro_batch), in_batch_steps(config, total_steps(config, n_samples))
    return range(each // 2 + 1, min(each, last) + 1)


def repeated_steps(config: Config, n_samples: int) -> range:
    """Return the in-batch steps of the second epoch, whose samples were seen before. Implements S37."""
    each, last = steps_per_epoch(n_samples, config.micro_batch), in_batch_steps(config, total_steps(config, n_samples))
    return range(each + 1, min(2 * each, last) + 1)


def learns_by_heart(config: Config, fresh: float, repeated: float) -> bool:
    """Tell whether a run memorises its samples, judged by their loss when seen again. Implements S37.

    Parameters
    ----------
    config : Config
    fresh, repeated : float
        Mean losses of the labelled samples of `fresh_steps` and `repeated_steps`; nan where there are none.
    """
    return repeated < (1 - config.overfit_limit) * fresh


def largest_rate(config: Config, total_steps: int) -> float:
    """Return the largest learning rate of a run: as set, or chosen by its steps and layer widths. Implements S27."""
    if config.learning_rate > 0:
        return config.learning_rate
    widest = max(128, *config.hidden)
    narrowing = (128 / widest) ** (1 / 3)
    if widest >= WIDE_LAYER:
        return 0.01 * narrowing * (SHORT_RUN / max(SHORT_RUN, total_steps)) ** 0.25
    if total_steps <= 2000:
        return 0.01 * narrowing
    if total_steps >= 4000:
        return 0.004 * narrowing
    return (0.016 - 3e-6 * total_steps) * narrowing


def scaled_to_inputs(rate: float, config: Config) -> tuple[float, float, Config]:
    """Return the first layer's learning rate in a step, its weight decay in units of that, and settings with its ε.

    Implements S39. Adam divides by the size of the gradient, which grows with the inputs, so ε has to grow with them
    too; SGD does not, so it needs the scale twice.
    """
    scale = config.input_scale
    if config.optimizer == "sgd":
        return rate * (scale * scale), 0.0, config  # which may be 0 or infinite; nothing decays (S26)
    return rate * scale, config.weight_decay / scale, _with_epsilon_of_inputs(config)


@lru_cache(maxsize=8)
def _with_epsilon_of_inputs(config: Config) -> Config:
    limits = np.finfo(np.float32)
    return config.replace(epsilon=min(max(config.epsilon / config.input_scale, float(limits.tiny)), float(limits.max)))


def learning_rate(config: Config, step: int, total_steps: int) -> float:
    """Return the learning rate of a step: it rises linearly, then stays or falls towards 0. Implements S27.

    Parameters
    ----------
    config : Config
    step : int
        From 1.
    total_steps : int
        Steps of the whole run; a decaying rate reaches 0 at its end.

    Returns
    -------
    float
    """
    largest = largest_rate(config, total_steps)
    if step <= config.warmup_steps:
        return largest * step / config.warmup_steps
    if config.decay == "constant":
        return largest
    done = (step - 1 - config.warmup_steps) / max(total_steps - config.warmup_steps, 1)
    left = max(1 - done, 0.0)
    if config.decay == "linear":
        return largest * left
    return largest * (1 - math.cos(math.pi * left)) / 2


def workers_at(step: int, n_workers: int) -> int:
    """Return how many workers train at the same time after `step` steps in all runs have begun. Implements S33."""
    return min(n_workers, TOGETHER + step // STEPS_A_WORKER)


def joined_after(n_workers: int) -> int:
    """Return the number of steps after which all workers train. Implements S33."""
    return max(0, n_workers - TOGETHER) * STEPS_A_WORKER


def rebuild_steps(config: Config, total_steps: int) -> Iterator[int]:
    """Yield the steps of a run after which tables are rebuilt, in ascending order. Implements S14.

    Parameters
    ----------
    config : Config
    total_steps : int
        Steps of the whole run.
    """
    after_in_batch, near = in_batch_steps(config, total_steps), config.rebuild_gap
    total, before = 0.0, 0
    for i in itertools.count():
        gap = near * math.exp(min(config.rebuild_growth * i, 700.0))  # e^710 is no number
        total = min(total + gap, NEVER_REACHED)
        step = math.floor(total)
        if before < after_in_batch <= step and after_in_batch < total_steps:
            yield after_in_batch
        if step >= min(total_steps, NEVER_REACHED):
            return
        if not after_in_batch <= step < after_in_batch + near and step <= total_steps - near:
            yield step
        before = step
