"""The first layer's products with sparse samples, one pair of sample and stored feature at a time.

Samples made dense over the distinct features of their micro-batch allow fast matrix products, but mostly of zeros. In a
sparse micro-batch, stored values are processed one by one instead: rows of weights are gathered for each sample, and
the gradient of a feature is summed over the errors of the few samples that hold it.
"""

from __future__ import annotations

import numpy as np

from slide_ref.common.sparse_rows import SparseRows

from .scratch import Scratch, computed, positions

DENSITY = 1 / 32  # share of stored values from which on a dense product is faster (benchmarks/LOG.md)
FREQUENT = 4  # a feature of more samples than this gets its gradient from a product
FEATURES_AT_ONCE = 1024  # whose terms or products are held besides the gradient


def is_sparse(features: SparseRows, n_distinct: int) -> bool:
    """Tell whether a micro-batch with so many distinct features is better processed pair by pair."""
    return features.nnz < DENSITY * features.n_rows * n_distinct


def values_of(features: SparseRows, dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return the stored values; ones if the rows hold only ids."""
    return np.ones(features.nnz, dtype) if features.data is None else features.data.astype(dtype, copy=False)


def sparse_product(features: SparseRows, W: np.ndarray, scratch: Scratch, name: str) -> np.ndarray:
    """Multiply samples by weights: a separate product for each sample and the rows of its features.

    Parameters
    ----------
    features : SparseRows, shape (n_samples, n_features)
    W : ndarray of float, shape (n_features, n_neurons)
        If it is float16, products are float32.
    scratch : Scratch
    name : str
        Name of the buffer for the result.

    Returns
    -------
    ndarray, shape (n_samples, n_neurons)
    """
    dtype = np.result_type(W.dtype, np.float32)
    out = scratch.empty(name, (features.n_rows, W.shape[1]), dtype)
    ends, ids, values = features.indptr.tolist(), features.indices, values_of(features, dtype)
    rows = scratch.empty("rows", (max(np.diff(features.indptr).max(initial=0), 1), W.shape[1]), W.dtype)
    for start, end, own in zip(ends, ends[1:], out, strict=False):
        weights = W.take(ids[start:end], axis=0, out=rows[: end - start], mode="clip")
        np.dot(values[start:end], computed(weights, scratch), out=own)
    return out


def sparse_gradient(features: SparseRows, ids: np.ndarray, delta: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Sum each feature's gradient of the weights over its samples: their errors times its values.

    Most features of a sparse micro-batch occur in one sample. A first pass sets each feature's gradient to the term of
    its first sample; those of frequent features are then replaced by rows of a matrix product, and the remaining terms
    of the others are added one by one.

    Parameters
    ----------
    features : SparseRows, shape (n_samples, n_features)
    ids : ndarray of int64, shape (n_distinct,)
        The distinct features, ascending.
    delta : ndarray of float, shape (n_samples, n_neurons)
    scratch : Scratch

    Returns
    -------
    ndarray, shape (n_distinct, n_neurons)
    """
    place = positions(scratch, ids, features.indices, features.n_columns)
    order = np.argsort(place.astype(np.min_scalar_type(len(ids))), kind="stable")  # 16 bits: by radix
    row_of = features.row_of()[order]
    values = values_of(features, delta.dtype)[order]
    counts = np.bincount(place, minlength=len(ids))
    starts = np.cumsum(counts) - counts

    def terms(entries: np.ndarray, name: str) -> np.ndarray:
        out = scratch.empty(name, (len(entries), delta.shape[1]), delta.dtype)
        delta.take(row_of[entries], axis=0, out=out, mode="clip")
        out *= values[entries, None]
        return out

    gradient = terms(starts, "W0")
    frequent = np.flatnonzero(counts > FREQUENT)
    if len(frequent):
        dense = scratch.zeros("dense", (len(frequent), features.n_rows), delta.dtype)
        stored = np.flatnonzero(np.repeat(counts > FREQUENT, counts))
        dense[np.repeat(np.arange(len(frequent)), counts[frequent]), row_of[stored]] = values[stored]
        for first in range(0, len(frequent), FEATURES_AT_ONCE):
            last = first + FEATURES_AT_ONCE
            gradient[frequent[first:last]] = dense[first:last] @ delta
    number, rest = 1, np.flatnonzero((counts > 1) & (counts <= FREQUENT))
    while len(rest):
        for first in range(0, len(rest), FEATURES_AT_ONCE):
            some = rest[first : first + FEATURES_AT_ONCE]
            gradient[some] += terms(starts[some] + number, "terms")
        number += 1
        rest = rest[counts[rest] > number]
    return gradient
