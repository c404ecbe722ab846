"""Contributions of features to a logit: gradient times input."""

from __future__ import annotations

import numpy as np

from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows


def contributions(layers: list[Layer], sample: SparseRows, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Attribute logits of one sample to its features: the gradient of the logit times the feature's value.

    A ReLU network is linear as long as no unit switches on or off, so these contributions and that of the biases add up
    to the logit.

    Returns
    -------
    by_feature : ndarray of float64, shape (n_labels, nnz)
        In the order of the sample's features.
    rest : ndarray of float64, shape (n_labels,)
        The logits minus the sums of `by_feature`: the contribution of the biases.
    """
    ids, values = sample.row(0)
    inputs = values.astype(np.float64)[:, None] * layers[0].W[ids].astype(np.float64)
    outputs = inputs.sum(axis=0) + layers[0].b
    is_on = [outputs > 0]
    for layer in layers[1:-1]:
        outputs = layer.W.astype(np.float64) @ np.maximum(outputs, 0) + layer.b
        is_on.append(outputs > 0)
    output = layers[-1]
    gradients = output.W[labels].astype(np.float64)
    logits = gradients @ np.maximum(outputs, 0) + output.b[labels]
    for layer, mask in zip(layers[-2:0:-1], is_on[:0:-1], strict=True):
        gradients = (gradients * mask) @ layer.W.astype(np.float64)
    by_feature = (gradients * is_on[0]) @ inputs.T
    return by_feature, logits - by_feature.sum(axis=1)
