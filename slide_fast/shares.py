"""Samples that the ranks hold in shares, and answers that they put together."""

from __future__ import annotations

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows

from .communicator import Communicator


def share_of(n_samples: int, ranks: Communicator) -> range:
    """Which samples this rank keeps of so many."""
    return range(ranks.rank * n_samples // ranks.size, (ranks.rank + 1) * n_samples // ranks.size)


def _pack(data: Dataset) -> np.ndarray:
    """Some samples as one array of 32-bit words."""
    features, labels = data
    lengths = [np.diff(rows.indptr).astype(np.int32) for rows in data]
    values = np.ones(features.nnz, dtype=np.float32) if features.data is None else features.data
    return np.concatenate([*lengths, features.indices, values.view(np.int32), labels.indices])


def _unpack(words: np.ndarray, n: int, n_features: int, n_labels: int) -> Dataset:
    """The inverse of `_pack` for `n` samples."""
    indptrs = np.zeros((2, n + 1), dtype=np.int64)
    np.cumsum(words[: 2 * n].reshape(2, n), axis=1, out=indptrs[:, 1:])
    nnz = int(indptrs[0, -1])
    ids, values, labels = np.split(words[2 * n :], [nnz, 2 * nnz])
    features = SparseRows(indptrs[0], ids, values.view(np.float32), n_features)
    return Dataset(features, SparseRows(indptrs[1], labels, None, n_labels))


def _stacked(parts: list[SparseRows]) -> SparseRows:
    """The rows of all parts, one part after the other."""
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    indptr = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=indptr[1:])
    values = [part.data for part in parts if part.data is not None]
    data = np.concatenate(values) if values else None
    return SparseRows(indptr, np.concatenate([part.indices for part in parts]), data, parts[0].n_columns)


class SharedSamples:
    """Samples of which every rank holds some; those of a rank follow those of the rank before.

    Parameters
    ----------
    own : Dataset
        Those of this rank.
    ranks : Communicator

    Attributes
    ----------
    n_samples, n_labelled, n_features, n_labels : int
        Of all ranks together.
    first : int
        The number of this rank's first sample.
    """

    def __init__(self, own: Dataset, ranks: Communicator):
        self.own, self._ranks = own, ranks
        self.n_features, self.n_labels = own.features.n_columns, own.labels.n_columns
        n_labelled = int(np.count_nonzero(np.diff(own.labels.indptr)))
        columns = np.array([[self.n_features, self.n_labels, own.n_samples, n_labelled]])
        found = np.concatenate(ranks.allgather(columns))
        if (found[:, :2] != found[0, :2]).any():
            raise DataError("the ranks count different features or labels; give all of them the same files")
        self._ends, self.n_labelled = np.cumsum(found[:, 2]), int(found[:, 3].sum())
        self.n_samples = int(self._ends[-1])
        self.first = int(self._ends[ranks.rank]) - own.n_samples

    def take(self, samples: np.ndarray) -> Dataset:
        """The given samples, in the given order, on all ranks; all of them must ask for the same.

        Parameters
        ----------
        samples : ndarray of int64
        """
        owners = np.searchsorted(self._ends, samples, side="right")
        own = self.own.take(samples[owners == self._ranks.rank] - self.first)
        counts = np.bincount(owners, minlength=self._ranks.size).tolist()
        words = self._ranks.allgather(_pack(own))
        parts = [_unpack(*part, self.n_features, self.n_labels) for part in zip(words, counts, strict=True)]
        together = Dataset(*(_stacked(list(rows)) for rows in zip(*parts, strict=True)))
        place = np.empty(len(samples), dtype=np.int64)
        place[np.argsort(owners, kind="stable")] = np.arange(len(samples))
        return together.take(place)

    def all_labels(self) -> SparseRows:
        """The labels of all samples; rank 0 gets them, the others their own."""
        lengths, ids = np.diff(self.own.labels.indptr), self.own.labels.indices
        lengths, ids = (np.concatenate(self._ranks.gather(rows)) for rows in (lengths, ids))
        return SparseRows(np.concatenate([[0], np.cumsum(lengths)]), ids, None, self.n_labels)


def merge_best(ids: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of the answers that the ranks found, each among its labels. Implements S15.

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
        Best first; of equal scores the lower id comes first.
    """
    ids, scores = (np.concatenate(list(parts), axis=1) for parts in (ids, scores))
    best = np.lexsort((ids, -scores), axis=1)[:, :k]
    return np.take_along_axis(ids, best, axis=1), np.take_along_axis(scores, best, axis=1)
