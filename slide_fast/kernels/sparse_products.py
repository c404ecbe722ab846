"""The first layer's products with sparse samples, one pair of sample and stored feature at a time.

Samples made dense over the distinct features of their micro-batch allow fast matrix products, but mostly of zeros. In a
sparse micro-batch, stored values are processed one by one instead: rows of weights are gathered for a few samples, and
the gradient of a feature is summed over the errors of the few samples that hold it. Most features occur in one sample
only; their gradients are multiples of its errors and are not even computed before the update.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from slide_ref.common.sparse_rows import SparseRows

from .ordering import concatenate_slices, grouped
from .scratch import Scratch, computed, positions

DENSITY = 1 / 32  # share of stored values from which on a dense product is faster (benchmarks/LOG.md)
FREQUENT = 6  # a feature of more samples than this gets its gradient from a product
FEATURES_AT_ONCE = 1024  # whose terms are held besides the gradient, and whose rows BLAS copies for a product
ELEMENTS_AT_ONCE = 1 << 16  # weights that are gathered for several samples at most


class ByFeature(NamedTuple):
    """Stored values of a micro-batch, feature by feature.

    Attributes
    ----------
    ids : ndarray of int64, shape (n_distinct,)
        The distinct features, ascending.
    starts : ndarray of int64, shape (n_distinct + 1,)
        Feature ``ids[i]`` has the values from ``starts[i]`` to ``starts[i + 1]``.
    samples : ndarray of int64, shape (nnz,)
        The sample of each value, ascending for each feature.
    values : ndarray of float, shape (nnz,)
    """

    ids: np.ndarray
    starts: np.ndarray
    samples: np.ndarray
    values: np.ndarray


class Multiples(NamedTuple):
    """Rows that are multiples of few others: row i is ``factors[i] * base[rows[i]]``.

    Attributes
    ----------
    ids : ndarray of int64, shape (n,)
        Where the rows belong; distinct.
    rows : ndarray of int64, shape (n,)
        Of which row of `base` each is a multiple.
    factors : ndarray of float, shape (n,)
    base : ndarray of float, shape (n_base, n_columns)
    """

    ids: np.ndarray
    rows: np.ndarray
    factors: np.ndarray
    base: np.ndarray

    def compute(self, out: np.ndarray, some: slice = slice(None)) -> np.ndarray:
        """Write the rows, or some of them, to `out`, of the dtype of `base`, and return it."""
        self.base.take(self.rows[some], axis=0, out=out, mode="clip")
        out *= self.factors[some, None]
        return out


def is_sparse(features: SparseRows, n_distinct: int) -> bool:
    """Tell whether a micro-batch with so many distinct features is better processed pair by pair."""
    return features.nnz < DENSITY * features.n_rows * n_distinct


def by_feature(features: SparseRows, dtype: np.typing.DTypeLike) -> ByFeature:
    """Sort the stored values of samples by feature."""
    ids, starts, places = grouped(features.indices)
    return ByFeature(ids, starts, features.row_of()[places], values_of(features, dtype)[places])


def densify(features: SparseRows, ids: np.ndarray, dtype: np.typing.DTypeLike, scratch: Scratch) -> np.ndarray:
    """Make samples dense, (n_samples, len(ids)), over the features `ids`, which must include all that occur."""
    dense = scratch.zeros("dense", (features.n_rows, len(ids)), dtype)
    dense[features.row_of(), positions(scratch, ids, features.indices, features.n_columns)] = values_of(features, dtype)
    return dense


def values_of(features: SparseRows, dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return the stored values; ones if the rows hold only ids."""
    return np.ones(features.nnz, dtype) if features.data is None else features.data.astype(dtype, copy=False)


def sparse_product(features: SparseRows, W: np.ndarray, scratch: Scratch, name: str) -> np.ndarray:
    """Multiply samples by weights: a separate product for each sample and the rows of its features.

    Rows are gathered for as many samples at once as the processor's cache holds, or for one.

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
    n, n_neurons = features.n_rows, W.shape[1]
    out = scratch.empty(name, (n, n_neurons), dtype)
    ends, ids, values = features.indptr.tolist(), features.indices, values_of(features, dtype)
    first = last = 0
    while last < n:
        first, start = last, ends[last]
        last = max(first + 1, bisect_right(ends, start + ELEMENTS_AT_ONCE // n_neurons) - 1)
        rows = scratch.empty("rows", (ends[last] - start, n_neurons), W.dtype)
        weights = computed(W.take(ids[start : ends[last]], axis=0, out=rows, mode="clip"), scratch)
        for i in range(first, last):
            own = slice(ends[i] - start, ends[i + 1] - start)
            np.dot(values[ends[i] : ends[i + 1]], weights[own], out=out[i])
    return out


def sparse_gradient(
    features: SparseRows, delta: np.ndarray, scratch: Scratch
) -> tuple[np.ndarray, np.ndarray, Multiples]:
    """Sum each feature's gradient of the weights over its samples: their errors times its values.

    Gradients of frequent features are rows of a matrix product. Those of the other features that several samples hold
    are summed term by term, of all of these features at once.

    Parameters
    ----------
    features : SparseRows, shape (n_samples, n_features)
    delta : ndarray of float, shape (n_samples, n_neurons)
        Errors.
    scratch : Scratch

    Returns
    -------
    ids : ndarray of int64, shape (n_shared,)
        Features of more than one sample, by falling number of samples.
    gradient : ndarray, shape (n_shared, n_neurons)
    of_one : Multiples
        Gradients of the features of one sample; refers to `delta`.
    """
    entries = by_feature(features, delta.dtype)
    counts, starts = np.diff(entries.starts), entries.starts[:-1]
    single = counts == 1
    of_one = _terms(entries, delta, entries.ids[single], starts[single])
    shared = np.flatnonzero(~single)
    shared = shared[np.argsort(-counts[shared], kind="stable")]
    ids, counts, starts = entries.ids[shared], counts[shared], starts[shared]
    gradient = scratch.empty("W0", (len(ids), delta.shape[1]), delta.dtype)
    n_frequent = int(np.count_nonzero(counts > FREQUENT))
    if n_frequent:
        frequent, sizes = np.repeat(np.arange(n_frequent), counts[:n_frequent]), counts[:n_frequent]
        stored = concatenate_slices(starts[:n_frequent], sizes)
        dense = scratch.zeros("dense", (n_frequent, features.n_rows), delta.dtype)
        dense[frequent, entries.samples[stored]] = entries.values[stored]
        for some in _blocks(0, n_frequent):
            np.matmul(dense[some], delta, out=gradient[some])
    for number in range(int(counts[n_frequent:].max(initial=0))):
        n_left = int(np.count_nonzero(counts > number))
        for some in _blocks(n_frequent, n_left):
            terms, sums = _terms(entries, delta, ids[some], starts[some] + number), gradient[some]
            if number:
                sums += terms.compute(scratch.empty("terms", sums.shape, delta.dtype))
            else:
                terms.compute(sums)
    return ids, gradient, of_one


def _blocks(first: int, last: int) -> Iterator[slice]:
    """Yield consecutive slices of features from `first` to `last` - 1."""
    for start in range(first, last, FEATURES_AT_ONCE):
        yield slice(start, min(start + FEATURES_AT_ONCE, last))


def _terms(entries: ByFeature, delta: np.ndarray, ids: np.ndarray, places: np.ndarray) -> Multiples:
    """Return one term of the gradient of each of some features: that of the stored value at its place."""
    return Multiples(ids, entries.samples[places], entries.values[places], delta)
