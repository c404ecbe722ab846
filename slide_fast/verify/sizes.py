"""Sizes of sums, which are the sums of their terms' absolute values, and numbers of terms: what rounding grows with."""

from __future__ import annotations

import dataclasses

import numpy as np

import slide_ref as ref
import slide_ref.network
from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows

from .comparison import weights_in_float64


def without_signs(layers: list[Layer], features: SparseRows) -> tuple[list[Layer], SparseRows]:
    """Return absolute values of parameters and samples in float64, whose results are the sizes of sums."""
    data = None if features.data is None else np.abs(features.data)
    positive = [Layer(np.abs(layer.W), np.abs(layer.b)) for layer in weights_in_float64(layers)]
    return positive, dataclasses.replace(features, data=data)


def corrected(trace: ref.network.Trace, inclusion: list[np.ndarray] | None) -> list[ref.network.Activation]:
    """Correct the logits of a trace as the reference does."""
    if inclusion is None:
        return trace[-1]
    return [ref.network.corrected(*pair) for pair in zip(trace[-1], inclusion, strict=True)]


def widths(trace: ref.network.Trace) -> list[int]:
    """Return the largest number of active neurons of a sample, layer by layer from the features on."""
    return [max((len(a.ids) for a in activations), default=0) for activations in trace]


def terms_of_gradient(trace: ref.network.Trace, l: int) -> int:
    """Return how many numbers are summed one after another for a gradient of layer l.

    These are the softmax over the active labels, what the layers after l send back, and the samples.
    """
    n_active = widths(trace)
    return n_active[-1] + sum(n_active[l + 2 :]) + len(trace[0])


def gradient_sizes(
    layers: list[Layer],
    trace: ref.network.Trace,
    labels: SparseRows,
    weights: np.ndarray | None = None,
    inclusion: list[np.ndarray] | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return sizes of the gradients of W and b, one pair per layer, by backpropagation without signs."""
    rows = [np.unique(np.concatenate([a.ids for a in activations])) for activations in trace]
    values = []
    for activations, ids in zip(trace, rows, strict=True):
        values.append(np.zeros((len(activations), len(ids))))
        for row, a in zip(values[-1], activations, strict=True):
            row[np.searchsorted(ids, a.ids)] = np.abs(a.values)
    size = np.zeros(values[-1].shape)
    for i, logits in enumerate(corrected(trace, inclusion)):
        own = labels.row(i)[0]
        size[i, np.searchsorted(rows[-1], logits.ids)] = np.abs(ref.network.softmax_loss(logits, own)[1])
    size *= ref.network.sample_weights(labels.n_rows, weights)[:, None]
    sizes = []
    for l in reversed(range(len(layers))):
        sizes.append((size.T @ values[l], size.sum(axis=0)))
        if l > 0:
            size = size @ np.abs(layers[l].W[rows[l + 1]][:, rows[l]]) * (values[l] > 0)
    return sizes[::-1]
