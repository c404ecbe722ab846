"""Lazy Adam and SGD on the touched rows, in blocks that fit in the processor's cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from slide_ref.common.config import LARGEST_STEP, Config
from slide_ref.common.parameters import Layer
from slide_ref.common.schedule import scaled_to_inputs

from .kernels.scratch import Scratch
from .kernels.sparse_products import Multiples
from .network import RowGradient, gather

ELEMENTS_AT_ONCE = 1 << 16
Arrays = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]
"""Parameters, first and second moments."""


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
    for block in _blocks(len(g), math.prod(g.shape[1:])):
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


def adam_multiples(
    w: np.ndarray, v: np.ndarray, g: Multiples, step: Step, scratch: Scratch, weight_decay: float = 0.0
) -> None:
    """Update rows as `adam_rows` does, without first moments, if their gradients are multiples. Implements S12.

    Their mean squares follow from those of the few rows of `g.base`, and they are scaled as they are computed. Rows of
    `g.base` are divided by their largest element, so that no number is out of range where the gradient is not.
    """
    number, largest = w.dtype.type, np.abs(g.base).max(axis=1, initial=0)
    base = g.base / np.where(largest > 0, largest, 1)[:, None]
    factors = g.factors * largest[g.rows]
    squares = (factors * np.sqrt(_mean_squares(base))[g.rows]) ** 2
    own_v = number(step.config.beta2) * v[g.ids] + number(1 - step.config.beta2) * squares
    v[g.ids] = own_v
    moves = g._replace(factors=factors * _rates_of_rows(squares, own_v, step), base=base)
    for block in _blocks(len(g.ids), w.shape[1]):
        some = g.ids[block]
        wb = gather(w, some, scratch, "adam_w")
        if weight_decay:
            wb *= number(1 - step.rate * weight_decay)
        wb -= moves.compute(scratch.empty("adam_g", wb.shape, w.dtype), block)
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
    for block in _blocks(len(g), math.prod(g.shape[1:])):
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


def _blocks(n_rows: int, size: int) -> Iterator[slice]:
    """Yield consecutive slices that cover all rows, which have this many elements each."""
    at_once = max(1, ELEMENTS_AT_ONCE // size)
    for start in range(0, n_rows, at_once):
        yield slice(start, start + at_once)


def update(
    layers: list[Layer], gradients: list[RowGradient], step: int, rate: float, config: Config, scratch: Scratch
) -> None:
    """Apply one micro-batch's gradients to the touched rows and to nothing else. Implements S11 and S39.

    Like `slide_ref.optimizers.update`, but overwrites the gradients.
    """
    this = Step(step, rate, config)
    for l, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
        weights, biases = (layer.W, layer.W_m, layer.W_v), (layer.b, layer.b_m, layer.b_v)
        own_rate, decay, own_config = scaled_to_inputs(rate, config) if l == 0 else (rate, 0.0, config)
        own = this._replace(rate=own_rate, config=own_config)
        _update_rows(weights, gradient.ids, gradient.W, own, scratch, decay)
        if gradient.multiples is not None:
            _update_multiples(weights, gradient.multiples, own, scratch, decay)
        _update_rows(biases, None if l == 0 else gradient.ids, gradient.b, this, scratch)


def _update_rows(
    arrays: Arrays, ids: np.ndarray | None, g: np.ndarray, step: Step, scratch: Scratch, weight_decay: float = 0.0
) -> None:
    w, m, v = arrays
    if step.config.optimizer == "sgd":
        sgd_rows(w, m, ids, g, step, scratch)
        return
    assert v is not None
    if g.ndim == 1:  # each bias is a row of one number
        w, m, g = w[:, None], None if m is None else m[:, None], g[:, None]
    adam_rows(w, m, v, ids, g, step, scratch, weight_decay)


def _update_multiples(arrays: Arrays, g: Multiples, step: Step, scratch: Scratch, weight_decay: float) -> None:
    w, m, v = arrays
    if step.config.optimizer == "adam" and m is None:
        assert v is not None
        adam_multiples(w, v, g, step, scratch, weight_decay)
        return
    rows = g.compute(scratch.empty("multiples", (len(g.ids), w.shape[1]), w.dtype))
    _update_rows(arrays, g.ids, rows, step, scratch, weight_decay)
