"""Lazy Adam: only touched rows are updated, and only they decay (paper, section 3.1)."""

from __future__ import annotations

import numpy as np

from .common.config import Config
from .common.parameters import Layer
from .network import RowGradient


def adam_row(w: np.ndarray, m: np.ndarray, v: np.ndarray, g: np.ndarray, step: int, config: Config) -> None:
    """Adam's update of one array, in place. Implements S12.

    Parameters
    ----------
    w, m, v : ndarray of float, any shape
        Parameters, first and second moments; changed.
    g : ndarray, of the same shape
        Gradient.
    step : int
        Number of the step over the whole run, from 1: the corrections of the moments do not depend on how often
        this row was touched.
    config : Config
    """
    number = w.dtype.type
    m[...] = number(config.beta1) * m + number(1 - config.beta1) * g
    v[...] = number(config.beta2) * v + number(1 - config.beta2) * g * g
    m_hat = m / number(1 - config.beta1**step)
    v_hat = v / number(1 - config.beta2**step)
    w -= number(config.learning_rate) * m_hat / (np.sqrt(v_hat) + number(config.epsilon))


def update(layers: list[Layer], gradients: list[RowGradient], step: int, config: Config) -> None:
    """Apply one micro-batch's gradients to the rows they name and to nothing else. Implements S11.

    Parameters
    ----------
    layers : list of Layer
        Changed in place.
    gradients : list of RowGradient, one a layer
        Ids are distinct within each.
    step : int
        From 1.
    config : Config
    """
    for l, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
        for row, g in zip(gradient.ids, gradient.W, strict=True):
            adam_row(layer.W[row], layer.W_m[row], layer.W_v[row], g, step, config)
        for i, row in enumerate(range(len(layer.b)) if l == 0 else gradient.ids):
            at = slice(row, row + 1)
            adam_row(layer.b[at], layer.b_m[at], layer.b_v[at], gradient.b[i : i + 1], step, config)
