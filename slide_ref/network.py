"""A network, and forward and backward passes over its active neurons (paper, sections 3.1 and 4.2).

An activation is a sparse vector: the ids of the neurons that were computed and their values. All other neurons count as
zero, send nothing forward and receive no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .common.config import Config
from .common.hash_constants import HashConstants
from .common.parameters import Layer
from .common.parts import Part
from .common.sparse_rows import SparseRows
from .hash_tables import Tables


class Activation(NamedTuple):
    """One sample's values at the active neurons of a layer; `ids` ascending."""

    ids: np.ndarray
    values: np.ndarray


class RowGradient(NamedTuple):
    """Gradient of the loss for the touched rows of one layer (S11).

    Attributes
    ----------
    ids : ndarray of int64, shape (n_rows,)
        Ascending. First layer: features stored in the micro-batch; other layers: neurons in an active set.
    W : ndarray, shape (n_rows, n_columns)
    b : ndarray
        First layer: shape (n_neurons,), all of them; other layers: shape (n_rows,).
    """

    ids: np.ndarray
    W: np.ndarray
    b: np.ndarray


@dataclass
class Network:
    """Parameters, hash functions and tables. Any layer after the first may have tables.

    Attributes
    ----------
    config : Config
    layers : list of Layer
    parts : dict of int to Part
        Layers and shards that have tables, by their words in keys (S31).
    constants : dict of int to ndarray
        Constants of their hash functions; for a centroid table, its centroids.
    tables : dict of int to HashTables or CentroidTable
        Their tables; empty until `rebuild` is called.
    priors : ndarray of float64, or None
        From `label_priors` of the training samples; None: logits are not corrected (S30).
    is_by_heart : bool
        Whether the run memorises its samples (S37).
    """

    config: Config
    layers: list[Layer]
    parts: dict[int, Part]
    constants: dict[int, HashConstants]
    tables: dict[int, Tables]
    priors: np.ndarray | None = None
    is_by_heart: bool = False


Trace = list[list[Activation]]
Choose = Callable[[int, list[Activation]], list[np.ndarray]]


def forward(layers: list[Layer], features: SparseRows, choose: Choose) -> Trace:
    """Evaluate the active neurons of every layer.

    Parameters
    ----------
    layers : list of Layer
    features : SparseRows, shape (n_samples, n_features)
    choose : callable
        ``choose(l, inputs)`` returns each sample's active set in layer l >= 1, given the activations of the layer
        before. The first layer is always computed in full.

    Returns
    -------
    list over layers of lists over samples of Activation
        Item 0 holds the features themselves, item l + 1 the outputs of layer l. Hidden layers use ReLU; the values of
        the last layer are logits.
    """
    dtype = layers[0].W.dtype
    trace: Trace = [[]]
    for i in range(features.n_rows):
        ids, values = features.row(i)
        trace[0].append(Activation(ids.astype(np.int64), values.astype(dtype)))
    for l, layer in enumerate(layers):
        active = [np.arange(len(layer.b))] * features.n_rows if l == 0 else choose(l, trace[l])
        outputs = []
        for inputs, ids in zip(trace[l], active, strict=True):
            if l == 0:
                z = inputs.values @ layer.W[inputs.ids] + layer.b
            else:
                z = layer.W[ids][:, inputs.ids] @ inputs.values + layer.b[ids]
            is_output = l == len(layers) - 1
            outputs.append(Activation(ids, z if is_output else np.maximum(z, 0)))
        trace.append(outputs)
    return trace


def sample_weights(n: int, weights: np.ndarray | None) -> np.ndarray:
    """Return the share of each of n labelled rows in the loss, float64: by weight, or equal. Implements S10."""
    return np.full(n, 1 / n) if weights is None else weights / weights.sum(dtype=np.float64)


def corrected(logits: Activation, inclusion: np.ndarray) -> Activation:
    """Subtract the logarithm of the inclusion probability from each logit. Implements S30.

    Their softmax estimates the softmax over all neurons: a neuron that is active one time in a hundred represents a
    hundred neurons.
    """
    return logits._replace(values=logits.values - np.log(inclusion).astype(logits.values.dtype))


def softmax_loss(logits: Activation, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the cross-entropy of each true label against the active neurons that are not labels. Implements S10.

    Parameters
    ----------
    logits : Activation
        Its ids contain all of `labels`.
    labels : ndarray of int, at least one
        True labels. They do not compete with each other (Gupta et al. 2024).

    Returns
    -------
    loss : float
        Mean over the true labels.
    gradient : ndarray, of the shape of the logits
    """
    is_label = np.isin(logits.ids, labels)
    own, others = logits.values[is_label], logits.values[~is_label]
    gradient = np.zeros_like(logits.values)
    if len(others) == 0:
        return 0.0, gradient
    largest = others.max()
    exponentials = np.exp(others - largest)
    total = exponentials.sum()
    behind = np.log(total) + (largest - own)  # the log-odds against each true label
    loss = float(np.mean(np.logaddexp(0, behind), dtype=np.float64))
    pull = np.exp(-np.logaddexp(0, -behind)) / gradient.dtype.type(len(labels))
    gradient[is_label] = -pull
    gradient[~is_label] = exponentials * (pull.sum() / total)
    return loss, gradient


def backward(
    layers: list[Layer],
    trace: Trace,
    labels: SparseRows,
    weights: np.ndarray | None = None,
    inclusion: list[np.ndarray] | None = None,
) -> tuple[float, list[RowGradient]]:
    """Return the loss and gradient of a micro-batch of labelled rows, by backpropagation. Implements S10 and S11.

    Parameters
    ----------
    layers : list of Layer
    trace : list
        From `forward`.
    labels : SparseRows, shape (n_samples, n_labels)
        No row is empty.
    weights : ndarray of float64, shape (n_samples,), optional
        Above 0.
    inclusion : list of ndarrays of float64, optional
        Inclusion probabilities from `slide_ref.correction.inclusion`; None: logits are not corrected.

    Returns
    -------
    loss : float
        Weighted mean over the rows, summed in float64.
    gradients : list of RowGradient, one per layer
    """
    loss = 0.0
    deltas = []
    for i, share in enumerate(sample_weights(labels.n_rows, weights)):
        logits = trace[-1][i] if inclusion is None else corrected(trace[-1][i], inclusion[i])
        row_loss, delta = softmax_loss(logits, labels.row(i)[0])
        loss += float(share) * row_loss
        deltas.append(delta * delta.dtype.type(share))
    gradients = []
    for l in reversed(range(len(layers))):
        gradients.append(_gradient_of_layer(layers[l], trace[l], trace[l + 1], deltas, is_first=l == 0))
        if l > 0:
            deltas = [
                (delta @ layers[l].W[out.ids][:, inputs.ids]) * (inputs.values > 0)
                for delta, out, inputs in zip(deltas, trace[l + 1], trace[l], strict=True)
            ]
    return loss, gradients[::-1]


def _gradient_of_layer(
    layer: Layer, inputs: list[Activation], outputs: list[Activation], deltas: list[np.ndarray], is_first: bool
) -> RowGradient:
    """Sum the outer products of errors and inputs over the samples, for the touched rows."""
    rows = np.unique(np.concatenate([a.ids for a in (inputs if is_first else outputs)]))
    W = np.zeros((len(rows), layer.W.shape[1]), dtype=layer.W.dtype)
    b = np.zeros(len(layer.b) if is_first else len(rows), dtype=layer.b.dtype)
    for source, out, delta in zip(inputs, outputs, deltas, strict=True):
        if is_first:
            W[np.searchsorted(rows, source.ids)] += np.outer(source.values, delta)
            b += delta
        else:
            at = np.searchsorted(rows, out.ids)
            W[np.ix_(at, source.ids)] += np.outer(delta, source.values)
            b[at] += delta
    return RowGradient(rows, W, b)
