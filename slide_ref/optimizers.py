"""Lazy Adam and SGD: only touched rows are updated, and only their moments decay (paper, section 3.1).

Adam has one second moment per row; in the paper it has one per weight.
"""

from __future__ import annotations

import math

import numpy as np

from .common.config import LARGEST_STEP, Config
from .common.parameters import Layer
from .common.schedule import scaled_to_inputs
from .network import RowGradient


def adam_row(
    w: np.ndarray,
    m: np.ndarray | None,
    v: np.ndarray,
    g: np.ndarray,
    step: int,
    rate: float,
    config: Config,
    weight_decay: float = 0.0,
) -> None:
    """Update one row by Adam in place, with one shared second moment and decoupled decay. Implements S12.

    Steps are limited for two reasons. A rarely touched row would take far larger steps than others. And if several
    workers update the same row at the same time, it can end up with the first moments of one update and the second
    moment of another.

    Parameters
    ----------
    w : ndarray of float, any shape
        Parameters of the row; changed.
    m : ndarray, of the same shape, or None
        First moments; changed. None if beta1 is 0: the gradient is used instead.
    v : ndarray, shape (1,)
        Second moment, of the mean square of the row's gradient; changed.
    g : ndarray, of the shape of `w`
        Gradient.
    step : int
        Step number over the whole run, from 1: bias correction does not depend on how often this row was touched.
    rate : float
        Learning rate of the step (S27).
    config : Config
    weight_decay : float
        Decoupled weight decay, in units of the learning rate (Loshchilov and Hutter 2019, algorithm 2).
    """
    number = w.dtype.type
    if m is not None:
        m[...] = number(config.beta1) * m + number(1 - config.beta1) * g
    v[...] = number(config.beta2) * v + number(1 - config.beta2) * np.mean(g * g)
    correction1, correction2 = 1 - config.beta1**step, 1 - config.beta2**step
    mean = g if m is None else m / number(correction1)
    root = np.sqrt(v / number(correction2)) + number(config.epsilon)
    limit = number(min(LARGEST_STEP, config.adam_limit * math.sqrt(correction2) / correction1))
    length = np.sqrt(np.mean(mean * mean)) / root
    w[...] = number(1 - rate * weight_decay) * w - number(rate) * mean / root * (limit / np.maximum(length, limit))


def sgd_row(w: np.ndarray, m: np.ndarray | None, g: np.ndarray, rate: float, config: Config) -> None:
    """Update one array by SGD in place, with or without momentum. Implements S26.

    Parameters
    ----------
    w : ndarray of float, any shape
        Parameters; changed.
    m : ndarray, of the same shape, or None
        First moments; changed. None without momentum.
    g : ndarray, of the same shape
        Gradient.
    rate : float
        Learning rate of the step (S27).
    config : Config
    """
    number = w.dtype.type
    if m is not None:
        m[...] = number(config.momentum) * m + g
    w -= number(rate) * (g if m is None else m)


def update(layers: list[Layer], gradients: list[RowGradient], step: int, rate: float, config: Config) -> None:
    """Apply one micro-batch's gradients to the touched rows and to nothing else. Implements S11 and S39.

    Parameters
    ----------
    layers : list of Layer
        Changed in place.
    gradients : list of RowGradient, one per layer
        Ids are distinct within each layer.
    step : int
        From 1.
    rate : float
        Learning rate of the step (S27).
    config : Config
    """
    for l, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
        weights, biases = (layer.W, layer.W_m, layer.W_v), (layer.b, layer.b_m, layer.b_v)
        own_rate, weight_decay, own = scaled_to_inputs(rate, config) if l == 0 else (rate, 0.0, config)
        for row, g in zip(gradient.ids, gradient.W, strict=True):
            _update_row(weights, slice(row, row + 1), g[None], step, own_rate, own, weight_decay)
        for i, row in enumerate(range(len(layer.b)) if l == 0 else gradient.ids):
            _update_row(biases, slice(row, row + 1), gradient.b[i : i + 1], step, rate, config)


def _update_row(
    arrays: tuple[np.ndarray, np.ndarray | None, np.ndarray | None],
    row: slice,
    g: np.ndarray,
    step: int,
    rate: float,
    config: Config,
    weight_decay: float = 0.0,
) -> None:
    w, (m, v) = arrays[0][row], (None if array is None else array[row] for array in arrays[1:])
    if config.optimizer == "adam":
        assert v is not None
        adam_row(w, m, v, g, step, rate, config, weight_decay)
    else:
        sgd_row(w, m, g, rate, config)
