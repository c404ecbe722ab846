"""Lazy Adam: only touched rows are updated, and only they decay (paper, section 3.1)."""

from __future__ import annotations

import math

import numpy as np

from .common.config import Config
from .common.parameters import Layer
from .network import RowGradient


def adam_row(w: np.ndarray, m: np.ndarray, v: np.ndarray, g: np.ndarray, step: int, config: Config) -> None:
    """Adam's update of one array, in place. Implements S12.

    The clip changes nothing where updates come one after another. Where several workers update the same row at the
    same time, a row can be left with the first moment of one update and the second moment of another.

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
    correction1, correction2 = 1 - config.beta1**step, 1 - config.beta2**step
    limit = number(config.adam_limit * math.sqrt(correction2) / correction1)
    ratio = (m / number(correction1)) / (np.sqrt(v / number(correction2)) + number(config.epsilon))
    w -= number(config.learning_rate) * np.clip(ratio, -limit, limit)


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
