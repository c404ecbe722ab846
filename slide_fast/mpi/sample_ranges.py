"""Samples divided among ranks and their workers, and merging of their predictions."""

from __future__ import annotations

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows

from ..engine.data_summary import n_labelled
from ..engine.layout import dataset_of
from ..kernels.sparse_products import values_of
from ..parallel.shared_arrays import Layout
from ..readers.growing_rows import joined
from .communicator import Communicator, together
from .process_grid import Place, shared_by_workers


def range_of(n: int, ranks: Communicator) -> range:
    """Return the range of n samples, or other items, that this rank keeps."""
    return range(ranks.rank * n // ranks.size, (ranks.rank + 1) * n // ranks.size)


def _pack(data: Dataset, weights: np.ndarray | None) -> np.ndarray:
    """Pack samples and their weights into one array of 32-bit words."""
    features, labels = data
    lengths = [np.diff(rows.indptr).astype(np.int32) for rows in data]
    own = [] if weights is None else [weights.astype(np.float64, copy=False).view(np.int32)]
    words = [*lengths, features.indices, values_of(features, np.float32).view(np.int32), labels.indices, *own]
    return np.concatenate(words, dtype=np.int32)  # whatever the integers of the ids are


def _unpack(words: np.ndarray, n: int, n_features: int, n_labels: int) -> tuple[Dataset, np.ndarray]:
    """Return `n` samples from the output of `_pack`; weights are None if there were none."""
    indptrs = np.zeros((2, n + 1), dtype=np.int64)
    np.cumsum(words[: 2 * n].reshape(2, n), axis=1, out=indptrs[:, 1:])
    nnz, n_ids = indptrs[:, -1].tolist()
    ids, values, labels, weights = np.split(words[2 * n :], [nnz, 2 * nnz, 2 * nnz + n_ids])
    features = SparseRows(indptrs[0], ids, values.view(np.float32), n_features)
    return Dataset(features, SparseRows(indptrs[1], labels, None, n_labels)), weights.copy().view(np.float64)


def pooled(own: Dataset, weights: np.ndarray | None, place: Place) -> tuple[Dataset, np.ndarray | None]:
    """Copy the samples and weights of a rank's workers, in order, into memory that they share.

    All processes must call. If a rank has one worker, its samples are returned unchanged.
    """
    workers = place.workers
    if workers.size == 1:
        return own, weights
    sizes = [own.n_samples, own.features.nnz, own.labels.nnz]
    found = np.concatenate(workers.allgather(np.array([[*sizes, *_columns(own, weights)]])))
    with together(place.everyone):
        _check_columns(found[:, 3:])
    n, n_features, n_labels = found[:, :3].sum(axis=0).tolist()
    layout: Layout = {"own_features_data": ((n_features,), np.float32)}
    layout |= {} if weights is None else {"weights": ((n,), np.float64)}
    for name, length in (("features", n_features), ("labels", n_labels)):
        layout |= {f"own_{name}_indptr": ((n + 1,), np.int64), f"own_{name}_indices": ((length,), np.int32)}
    arrays = shared_by_workers(layout, place).arrays
    start, *firsts = found[: workers.rank, :3].sum(axis=0).tolist()
    mine = slice(start, start + own.n_samples)
    for name, rows, first in zip(Dataset._fields, own, firsts, strict=True):
        arrays[f"own_{name}_indptr"][1:][mine] = rows.indptr[1:] + first
        arrays[f"own_{name}_indices"][first : first + rows.nnz] = rows.indices
    arrays["own_features_data"][firsts[0] : firsts[0] + own.features.nnz] = values_of(own.features, np.float32)
    if weights is not None:
        arrays["weights"][mine] = weights
    workers.barrier()
    return dataset_of("own", arrays, own.features.n_columns, own.labels.n_columns), arrays.get("weights")


def _columns(own: Dataset, weights: np.ndarray | None) -> list[int]:
    """Return what must agree in all processes: numbers of columns, and whether samples have weights."""
    return [own.features.n_columns, own.labels.n_columns, weights is not None]


def _check_columns(found: np.ndarray) -> None:
    """Raise DataError if the `_columns` of processes, one row each, differ."""
    if (found[:, :2] != found[0, :2]).any():
        raise DataError("the ranks count different features or labels; give all of them the same files")
    if (found != found[0]).any():
        raise DataError("some ranks give weights of their samples, some do not; give weights on all ranks or on none")


class SharedSamples:
    """Samples divided among the ranks, in the order of the ranks.

    Parameters
    ----------
    own : Dataset
        The samples of this rank.
    ranks : Communicator
    weights : ndarray of float64, shape (n_samples,), optional
        Weights of these samples (S10); either all ranks give weights, or none does.

    Attributes
    ----------
    n_samples, n_labelled, n_features, n_labels : int
        Totals over all ranks.
    first : int
        The number of this rank's first sample.
    """

    def __init__(self, own: Dataset, ranks: Communicator, weights: np.ndarray | None = None):
        self.own, self.weights, self._ranks = own, weights, ranks
        self.n_features, self.n_labels = own.features.n_columns, own.labels.n_columns
        found = np.concatenate(ranks.allgather(np.array([[own.n_samples, n_labelled(own), *_columns(own, weights)]])))
        _check_columns(found[:, 2:])
        self._ends, self.n_labelled = np.cumsum(found[:, 0]), int(found[:, 1].sum())
        self.n_samples = int(self._ends[-1])
        self.first = int(self._ends[ranks.rank]) - own.n_samples

    def take(self, samples: np.ndarray) -> tuple[Dataset, np.ndarray | None]:
        """Return the given samples and their weights, in this order, on all ranks; all must pass the same.

        Parameters
        ----------
        samples : ndarray of int64
        """
        owners = np.searchsorted(self._ends, samples, side="right")
        own = samples[owners == self._ranks.rank] - self.first
        counts = np.bincount(owners, minlength=self._ranks.size).tolist()
        words = self._ranks.allgather(_pack(self.own.take(own), None if self.weights is None else self.weights[own]))
        pairs = (_unpack(*part, self.n_features, self.n_labels) for part in zip(words, counts, strict=True))
        parts, weights = zip(*pairs, strict=True)
        features, labels = zip(*parts, strict=True)
        gathered = Dataset(joined(features, self.n_features), joined(labels, self.n_labels, has_values=False))
        place = np.empty(len(samples), dtype=np.int64)
        place[np.argsort(owners, kind="stable")] = np.arange(len(samples))
        return gathered.take(place), None if self.weights is None else np.concatenate(weights)[place]

    def all_labels(self) -> SparseRows:
        """Return the labels of all samples on rank 0; the others get only their own."""
        lengths, ids = np.diff(self.own.labels.indptr), self.own.labels.indices
        lengths, ids = (np.concatenate(self._ranks.gather(rows)) for rows in (lengths, ids))
        return SparseRows(np.concatenate([[0], np.cumsum(lengths)]), ids, None, self.n_labels)


def merge_best(ids: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Merge the ranks' best labels, each among its own labels, into the k best of all. Implements S15.

    Parameters
    ----------
    ids : ndarray of int32, shape (n_ranks, n_samples, k)
        Ids of the whole layer; -1 where there are fewer than k.
    scores : ndarray of float32, of the same shape
        -inf where the id is -1.
    k : int

    Returns
    -------
    ids, scores : ndarray, shape (n_samples, k)
        Best first; ties go to the lower id.
    """
    ids, scores = (np.concatenate(list(parts), axis=1) for parts in (ids, scores))
    best = np.lexsort((ids, -scores), axis=1)[:, :k]
    return np.take_along_axis(ids, best, axis=1), np.take_along_axis(scores, best, axis=1)
