"""Forward and backward passes over active neurons: gather the rows of the union once, then matrix products.

A micro-batch touches few distinct features and few distinct neurons. Their rows are gathered into compact arrays; the
rest is three matrix products per layer. For the first of them samples are made dense over the distinct features, or
processed pair by pair if they are sparse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows

from .active_sets import ids_between
from .kernels.blas_warnings import without_false_alarms
from .kernels.ordering import distinct
from .kernels.scratch import Scratch, computed, positions
from .kernels.sparse_products import Multiples, densify, is_sparse, sparse_gradient, sparse_product
from .sampling import Active


def alone(array: np.ndarray, how: str = "sum") -> np.ndarray:
    """Return an array unchanged: all labels are local, so there is nothing to combine."""
    return array


class RowGradient(NamedTuple):
    """Gradient of the loss for the touched rows of one layer (S11).

    Like `slide_ref.network.RowGradient`, but if `ids` is None, all rows are touched. If the samples are sparse,
    features that occur in one of them are not among `ids`, but in `multiples`, and `ids` do not ascend.
    """

    ids: np.ndarray | None
    W: np.ndarray
    b: np.ndarray
    multiples: Multiples | None = None


class LayerPass(NamedTuple):
    """Results of a layer's forward pass that the backward pass needs.

    Attributes
    ----------
    ids : ndarray of int64, shape (n_rows,), or None
        Gathered rows of the layer's weights; None: all.
    columns : ndarray of int64, shape (n_inputs,), or None
        Gathered columns of the layer's weights: the active neurons of the previous layer if it is sampled; None: all.
    weights : ndarray, shape (n_rows, n_inputs)
        These rows and columns; in the first layer shape (n_rows, n_neurons), or all weights if inputs are sparse.
    mask : ndarray of bool, shape (n_samples, n_rows), or None
        Which outputs are active for each sample; None: all.
    inputs : ndarray, shape (n_samples, n_inputs), or SparseRows
        First layer: the samples, dense over the features `ids` or sparse.
    outputs : ndarray, shape (n_samples, n_outputs)
        Hidden layers: after ReLU, 0 where a neuron is not active; last layer: logits.
    inclusion : ndarray of float64, or None
        As in `slide_fast.sampling.Active`.
    """

    ids: np.ndarray | None
    columns: np.ndarray | None
    weights: np.ndarray
    mask: np.ndarray | None
    inputs: np.ndarray | SparseRows
    outputs: np.ndarray
    inclusion: np.ndarray | None = None


Choose = Callable[[int, np.ndarray], "Active | None"]
Reduce = Callable[..., np.ndarray]


def gather(array: np.ndarray, ids: np.ndarray | None, scratch: Scratch, name: str) -> np.ndarray:
    """Copy rows `ids` of an array into a scratch buffer; return the array itself if `ids` is None.

    Float16 is converted to float32.
    """
    if ids is not None:
        out = scratch.empty(name, (len(ids), *array.shape[1:]), array.dtype)
        array = array.take(ids, axis=0, out=out, mode="clip")
    return computed(array, scratch, f"{name}_computed")


def gather_columns(rows: np.ndarray, columns: np.ndarray | None, scratch: Scratch, name: str) -> np.ndarray:
    """Copy some columns of an array into a scratch buffer; return the array itself if `columns` is None."""
    if columns is None:
        return rows
    out = scratch.empty(name, (len(rows), len(columns)), rows.dtype)
    return rows.take(columns, axis=1, out=out, mode="clip")


def spread(compact: np.ndarray, columns: np.ndarray | None, n: int, scratch: Scratch, name: str) -> np.ndarray:
    """Scatter `compact` into `columns` of an array of n columns of zeros; return `compact` if `columns` is None."""
    if columns is None:
        return compact
    full = scratch.zeros(name, (len(compact), n), compact.dtype)
    full[:, columns] = compact
    return full


def _first_layer(layer: Layer, features: SparseRows, scratch: Scratch) -> LayerPass:
    """Evaluate the first layer on the samples, without biases."""
    ids = distinct(features.n_columns, features.indices)
    if is_sparse(features, len(ids)):
        outputs = sparse_product(features, layer.W, scratch, "outputs0")
        return LayerPass(None, None, layer.W, None, features, outputs)
    inputs, weights = densify(features, ids, layer.b.dtype, scratch), gather(layer.W, ids, scratch, "W0")
    outputs = scratch.empty("outputs0", (features.n_rows, weights.shape[1]), weights.dtype)
    return LayerPass(ids, None, weights, None, inputs, np.matmul(inputs, weights, out=outputs))


def _later_layer(l: int, layer: Layer, before: LayerPass, choose: Choose, scratch: Scratch) -> LayerPass:
    """Evaluate a later layer on the outputs of the previous one, without biases."""
    inputs, columns = before.outputs, before.ids if l > 1 else None
    active = choose(l, spread(inputs, columns, layer.W.shape[1], scratch, "inputs"))
    ids, mask, inclusion = (None, None, None) if active is None else active
    weights = gather_columns(gather(layer.W, ids, scratch, f"W{l}"), columns, scratch, f"columns{l}")
    outputs = scratch.empty(f"outputs{l}", (len(inputs), len(weights)), weights.dtype)
    return LayerPass(ids, columns, weights, mask, inputs, np.matmul(inputs, weights.T, out=outputs), inclusion)


@without_false_alarms
def forward(layers: list[Layer], features: SparseRows, choose: Choose, scratch: Scratch) -> list[LayerPass]:
    """Evaluate the active neurons of every layer for a micro-batch. Implements S25.

    Parameters
    ----------
    layers : list of Layer
    features : SparseRows, shape (n_samples, n_features)
    choose : callable
        ``choose(l, inputs)`` returns the active sets of layer l >= 1 as `Active`, or None for the whole layer, given
        the activations (n_samples, n_neurons) of the previous layer, 0 where not computed.
    scratch : Scratch
        Owns the returned arrays.

    Returns
    -------
    list of LayerPass, one per layer
    """
    passes: list[LayerPass] = []
    for l, layer in enumerate(layers):
        this = _later_layer(l, layer, passes[-1], choose, scratch) if l else _first_layer(layer, features, scratch)
        outputs = this.outputs
        outputs += gather(layer.b, this.ids if l else None, scratch, f"b{l}")
        if l < len(layers) - 1:
            np.maximum(outputs, 0, out=outputs)
            if this.mask is not None:
                outputs *= this.mask
        passes.append(this)
    return passes


def sample_weights(n: int, weights: np.ndarray | None) -> np.ndarray:
    """Return the share of each of n labelled rows in the loss, float64: by weight, or equal. Implements S10."""
    return np.full(n, 1 / n) if weights is None else weights / weights.sum(dtype=np.float64)


def softmax_loss(
    output: LayerPass,
    labels: SparseRows,
    scratch: Scratch,
    n_labels: int,
    weights: np.ndarray | None = None,
    reduce: Reduce = alone,
    first_label: int = 0,
) -> float:
    """Return the loss of a micro-batch; replace its logits by their gradient. Implements S10 and S30.

    Like `slide_ref.network.softmax_loss` and `corrected`, with the weighted mean over the samples.

    Parameters
    ----------
    output : LayerPass
        Pass of the last layer. Its logits are corrected if it has inclusion probabilities.
    labels : SparseRows, shape (n_samples, number of all labels)
        No row is empty; every label is active.
    n_labels, first_label : int
        Range of labels that `output` holds: `n_labels` from `first_label` on.
    reduce : callable
        ``reduce(array, how)`` combines an array, in place, with those of processes that hold other labels: the
        ``"max"`` of the largest logit of each sample's negatives, and the ``"sum"`` of their exponentials and of its
        labels' terms.
    """
    logits, n = output.outputs, labels.n_rows
    if output.mask is not None:
        np.copyto(logits, -np.inf, where=~output.mask)
    own = ids_between(labels, first_label, first_label + n_labels)
    columns = own.indices if output.ids is None else positions(scratch, output.ids, own.indices, n_labels)
    row_of = own.row_of()
    of_labels = logits[row_of, columns].astype(np.float64)  # not corrected: they are active for certain
    if output.inclusion is not None:
        logits -= np.log(output.inclusion).astype(logits.dtype)
    logits[row_of, columns] = -np.inf
    largest = reduce(logits.max(axis=1, initial=-np.inf), "max")
    largest[np.isneginf(largest)] = 0  # nobody but true labels
    logits -= largest[:, None]
    np.exp(logits, out=logits)
    totals = reduce(logits @ np.ones(logits.shape[1], logits.dtype))  # faster than sum
    with np.errstate(divide="ignore"):
        behind = np.log(totals.astype(np.float64))[row_of] + largest[row_of] - of_labels  # log-odds against each label
    share = sample_weights(n, weights)
    targets = (share / np.diff(labels.indptr))[row_of]
    pull = targets * np.exp(-np.logaddexp(0, -behind))
    loss = (targets * np.logaddexp(0, behind)).sum()
    sums = reduce(np.append(np.bincount(row_of, pull, n), loss))
    logits *= (sums[:-1] / np.maximum(totals, np.finfo(totals.dtype).tiny)).astype(logits.dtype)[:, None]
    logits[row_of, columns] = -pull
    return float(sums[-1])


@without_false_alarms
def backward(
    layers: list[Layer],
    passes: list[LayerPass],
    labels: SparseRows,
    scratch: Scratch,
    weights: np.ndarray | None = None,
    reduce: Reduce = alone,
    first_label: int = 0,
) -> tuple[float, list[RowGradient]]:
    """Return the loss of labelled rows and its gradient by backpropagation. Implements S10 and S11.

    Like `slide_ref.network.backward`, but consumes the passes of `forward`: outputs, and gathered rows, are overwritten
    by gradients. `scratch` owns the returned arrays. `reduce` and `first_label` are as in `softmax_loss`; `reduce` also
    sums what all labels send back to the previous layer.
    """
    loss = softmax_loss(passes[-1], labels, scratch, len(layers[-1].b), weights, reduce, first_label)
    delta = passes[-1].outputs
    gradients = []
    for l in reversed(range(len(layers))):
        this, above = passes[l], delta
        if l > 0:
            inputs = passes[l - 1].outputs
            delta = scratch.empty(f"delta{l}", inputs.shape, above.dtype)
            np.matmul(above, this.weights, out=delta)
            if l == len(layers) - 1:
                reduce(delta)
            delta *= inputs > 0
        b = above.sum(axis=0)
        if isinstance(this.inputs, SparseRows):
            ids, W, of_one = sparse_gradient(this.inputs, above, scratch)
            gradients.append(RowGradient(ids, W, b, of_one))
        else:
            W = _weight_gradient(l, this, above, scratch)
            W = spread(W, this.columns, layers[l].W.shape[1], scratch, f"W{l}")
            gradients.append(RowGradient(this.ids, W, b))
    return loss, gradients[::-1]


def _weight_gradient(l: int, this: LayerPass, delta: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Return the gradient of the rows and columns that layer l used; it overwrites gathered weights, if any."""
    assert isinstance(this.inputs, np.ndarray)
    is_view = this.ids is None and this.columns is None
    W = scratch.empty(f"gradient{l}", this.weights.shape, delta.dtype) if is_view else this.weights
    return np.matmul(*((this.inputs.T, delta) if l == 0 else (delta.T, this.inputs)), out=W)
