"""Lazy Adam and SGD on the touched rows, in blocks that stay in the processor's cache."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from slide_ref.common.config import LARGEST_STEP, Config
from slide_ref.common.parameters import Layer

from .kernels.scratch import Scratch
from .network import RowGradient, gather

ELEMENTS_AT_ONCE = 1 << 16


def adam_rows(
    w: np.ndarray,
    m: np.ndarray | None,
    v: np.ndarray,
    ids: np.ndarray | None,
    g: np.ndarray,
    step: int,
    rate: float,
    config: Config,
    scratch: Scratch,
    weight_decay: float = 0.0,
) -> None:
    """Adam's update of some rows of an array, in place, with the decay of weights apart from it. Implements S12.

    The operations are the reference's, in their order, so the result is the same to the bit. The rows are read again
    just before they are written: what other workers did to them since the forward pass is kept, and the time in which
    an update can be lost is short.

    Parameters
    ----------
    w, m, v : ndarray of float, shape (n, ...)
        Parameters, first and second moments; changed. `m` is None where beta1 is 0: the gradient takes its place.
    ids : ndarray of int64, shape (n_rows,), or None
        Distinct rows; None: all.
    g : ndarray, shape (n_rows, ...)
        Gradient; overwritten.
    step : int
        Number of the step over the whole run, from 1.
    rate : float
        Learning rate of the step (S27).
    config : Config
    scratch : Scratch
    weight_decay : float
        What is taken off the weights, in units of the learning rate (Loshchilov and Hutter 2019, algorithm 2).
    """
    number = w.dtype.type
    decay1, decay2 = number(config.beta1), number(config.beta2)
    fresh1, fresh2 = number(1 - config.beta1), number(1 - config.beta2)
    correction1, correction2 = 1 - config.beta1**step, 1 - config.beta2**step
    limit = number(min(LARGEST_STEP, config.adam_limit * math.sqrt(correction2) / correction1))
    for block in _blocks(g):
        rows = block if ids is None else ids[block]
        gb = g[block]
        vb = v[block] if ids is None else gather(v, rows, scratch, "adam_v")
        squares = scratch.empty("adam_t", gb.shape, w.dtype)
        np.multiply(gb, fresh2, out=squares)
        squares *= gb
        vb *= decay2
        vb += squares
        if ids is not None:
            v[rows] = vb
        if m is not None:
            mb = m[block] if ids is None else gather(m, rows, scratch, "adam_m")
            gb *= fresh1
            mb *= decay1
            mb += gb
            if ids is not None:
                m[rows] = mb
            np.divide(mb, number(correction1), out=gb)
        np.divide(vb, number(correction2), out=squares)
        np.sqrt(squares, out=squares)
        squares += number(config.epsilon)
        np.divide(gb, squares, out=squares)
        np.clip(squares, -limit, limit, out=squares)
        squares *= number(rate)
        wb = w[block] if ids is None else gather(w, rows, scratch, "adam_w")
        if weight_decay:
            wb *= number(1 - rate * weight_decay)
        wb -= squares
        if ids is not None:
            w[rows] = wb


def sgd_rows(
    w: np.ndarray,
    m: np.ndarray | None,
    ids: np.ndarray | None,
    g: np.ndarray,
    rate: float,
    config: Config,
    scratch: Scratch,
) -> None:
    """Gradient descent on some rows of an array, in place. Implements S26.

    Parameters
    ----------
    w, m : ndarray of float, shape (n, ...)
        Parameters and first moments; changed. Without momentum `m` is None.
    ids : ndarray of int64, shape (n_rows,), or None
        Distinct rows; None: all.
    g : ndarray, shape (n_rows, ...)
        Gradient; overwritten.
    rate : float
        Learning rate of the step (S27).
    config : Config
    scratch : Scratch
    """
    number = w.dtype.type
    for block in _blocks(g):
        rows = block if ids is None else ids[block]
        move = g[block]
        if m is not None:
            mb = m[block] if ids is None else gather(m, rows, scratch, "sgd_m")
            mb *= number(config.momentum)
            mb += move
            if ids is not None:
                m[rows] = mb
            move[...] = mb
        move *= number(rate)
        w[rows] -= move


def _blocks(g: np.ndarray) -> Iterator[slice]:
    """Slices of some rows each, together all of them."""
    n_rows = max(1, ELEMENTS_AT_ONCE // math.prod(g.shape[1:]))
    for start in range(0, len(g), n_rows):
        yield slice(start, start + n_rows)


def update(
    layers: list[Layer], gradients: list[RowGradient], step: int, rate: float, config: Config, scratch: Scratch
) -> None:
    """Apply one micro-batch's gradients to the rows they name and to nothing else. Implements S11.

    Parameters
    ----------
    layers : list of Layer
        Changed in place.
    gradients : list of RowGradient, one a layer
        Ids are distinct within each; overwritten.
    step : int
        From 1.
    rate : float
        Learning rate of the step (S27).
    config : Config
    scratch : Scratch
    """
    for l, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
        bias_ids = None if l == 0 else gradient.ids
        if config.optimizer == "adam":
            decay = config.weight_decay if l == 0 else 0.0
            adam_rows(layer.W, layer.W_m, layer.W_v, gradient.ids, gradient.W, step, rate, config, scratch, decay)
            adam_rows(layer.b, layer.b_m, layer.b_v, bias_ids, gradient.b, step, rate, config, scratch)
        else:
            sgd_rows(layer.W, layer.W_m, gradient.ids, gradient.W, rate, config, scratch)
            sgd_rows(layer.b, layer.b_m, bias_ids, gradient.b, rate, config, scratch)
