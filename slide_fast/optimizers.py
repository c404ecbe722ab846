"""Lazy Adam and SGD on the touched rows, in blocks that fit in the processor's cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from slide_ref.common.config import LARGEST_STEP, Config
from slide_ref.common.parameters import Layer
from slide_ref.common.schedule import rate_of_inputs

from .kernels.scratch import Scratch
from .network import RowGradient, gather

ELEMENTS_AT_ONCE = 1 << 16


class Step(NamedTuple):
    """Parameters of one update: its step number over the whole run, from 1, the learning rate (S27), the settings."""

    number: int
    rate: float
    config: Config


def adam_rows(
    w: np.ndarray,
    m: np.ndarray | None,
    v: np.ndarray,
    ids: np.ndarray | None,
    g: np.ndarray,
    step: Step,
    scratch: Scratch,
    weight_decay: float = 0.0,
) -> None:
    """Update some rows of a matrix in place by Adam, as `slide_ref.optimizers.adam_row` does each. Implements S12.

    Rows are read again just before they are written, so that updates of other workers since the forward pass are kept,
    and the time window for lost updates is short. `v` holds one number per row. `ids` are distinct rows, None: all;
    their gradients `g` are overwritten.
    """
    number, config = w.dtype.type, step.config
    for block in _blocks(g):
        some = None if ids is None else ids[block]
        rows = block if some is None else some
        gb = g[block]
        squares = _mean_squares(gb)
        vb = number(config.beta2) * v[rows] + number(1 - config.beta2) * squares
        v[rows] = vb
        if m is not None:
            mb = m[block] if some is None else gather(m, some, scratch, "adam_m")
            mb *= number(config.beta1)
            gb *= number(1 - config.beta1)
            mb += gb
            if some is not None:
                m[some] = mb
            np.divide(mb, number(1 - config.beta1**step.number), out=gb)
            squares = _mean_squares(gb)
        gb *= _rates_of_rows(squares, vb, step)[:, None]
        wb = w[block] if some is None else gather(w, some, scratch, "adam_w")
        if weight_decay:
            wb *= number(1 - step.rate * weight_decay)
        wb -= gb
        if some is not None:
            w[some] = wb


def _mean_squares(rows: np.ndarray) -> np.ndarray:
    return np.vecdot(rows, rows) / rows.dtype.type(rows.shape[1])


def _rates_of_rows(squares: np.ndarray, v: np.ndarray, step: Step) -> np.ndarray:
    """Return the factors of Adam for the first moments of rows with these mean squares of gradients (S12)."""
    number, config = v.dtype.type, step.config
    correction1, correction2 = 1 - config.beta1**step.number, 1 - config.beta2**step.number
    limit = number(min(LARGEST_STEP, config.adam_limit * math.sqrt(correction2) / correction1))
    root = np.sqrt(v / number(correction2)) + number(config.epsilon)
    return number(step.rate) / root * (limit / np.maximum(np.sqrt(squares) / root, limit))


def sgd_rows(
    w: np.ndarray,
    m: np.ndarray | None,
    ids: np.ndarray | None,
    g: np.ndarray,
    step: Step,
    scratch: Scratch,
) -> None:
    """Update some rows of an array in place, as `slide_ref.optimizers.sgd_row` does each. Implements S26.

    `ids` are distinct rows, None: all; their gradients `g` are overwritten.
    """
    number = w.dtype.type
    for block in _blocks(g):
        rows = None if ids is None else ids[block]
        move = g[block]
        if m is not None:
            mb = m[block] if rows is None else gather(m, rows, scratch, "sgd_m")
            mb *= number(step.config.momentum)
            mb += move
            if rows is not None:
                m[rows] = mb
            move[...] = mb
        move *= number(step.rate)
        w[block if rows is None else rows] -= move


def _blocks(g: np.ndarray) -> Iterator[slice]:
    """Yield consecutive slices that cover all rows."""
    n_rows = max(1, ELEMENTS_AT_ONCE // math.prod(g.shape[1:]))
    for start in range(0, len(g), n_rows):
        yield slice(start, start + n_rows)


def update(
    layers: list[Layer], gradients: list[RowGradient], step: int, rate: float, config: Config, scratch: Scratch
) -> None:
    """Apply one micro-batch's gradients to the touched rows and to nothing else. Implements S11 and S39.

    Like `slide_ref.optimizers.update`, but overwrites the gradients.
    """
    this = Step(step, rate, config)
    for l, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
        bias_ids = None if l == 0 else gradient.ids
        own_rate, decay = rate_of_inputs(rate, config) if l == 0 else (rate, 0.0)
        own = this._replace(rate=own_rate)
        if config.optimizer == "adam":
            assert layer.W_v is not None and layer.b_v is not None
            adam_rows(layer.W, layer.W_m, layer.W_v, gradient.ids, gradient.W, own, scratch, decay)
            b, b_m = layer.b[:, None], None if layer.b_m is None else layer.b_m[:, None]  # rows of one number
            adam_rows(b, b_m, layer.b_v, bias_ids, gradient.b[:, None], this, scratch)
        else:
            sgd_rows(layer.W, layer.W_m, gradient.ids, gradient.W, own, scratch)
            sgd_rows(layer.b, layer.b_m, bias_ids, gradient.b, this, scratch)
