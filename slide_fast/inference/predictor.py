"""A trained model in use, and the indexes made for it: what predictions from Python and the command line go through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from slide_ref.common.parameters import layers_of
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.model_folder import Model

from ..parallel.machine import available_cpus
from ..prediction import ROWS_AT_ONCE, Index, predict_topk, predict_topk_lsh
from .index_choice import RECALL, index_of

BLOCKS_A_THREAD = 4


class Answers(NamedTuple):
    """The best labels of some samples.

    Attributes
    ----------
    ids : ndarray of int32, shape (n_samples, k)
        Best first; -1 where there are fewer than k.
    scores : ndarray of float32, shape (n_samples, k)
        Logits; -inf where the id is -1.
    n_candidates : int
        Labels whose logits were computed, over all samples.
    """

    ids: np.ndarray
    scores: np.ndarray
    n_candidates: int


class Predictor:
    """Find the best labels of samples, among all labels or among those that an index finds.

    Parameters
    ----------
    model : Model
    n_threads : int, optional
        Default: as many as there are CPUs that this process may use, at each call.
    """

    def __init__(self, model: Model, n_threads: int | None = None):
        self.model, self.layers, self._n_threads = model, layers_of(model.arrays), n_threads
        self._indexes: dict[tuple[int, float], Index] = {}

    @property
    def n_threads(self) -> int:
        """Threads that share the samples of a call."""
        return self._n_threads or available_cpus()

    def index(self, features: SparseRows, k: int, recall: float = RECALL) -> Index:
        """Return an index that finds a share of the exact answers to samples like these.

        It is chosen and built in the first call for each k and recall. Raises ConfigError if there can be none.
        """
        if (k, recall) not in self._indexes:
            self._indexes[k, recall] = index_of(self.model, features, k, recall, self.n_threads)[0]
        return self._indexes[k, recall]

    def topk(self, features: SparseRows, k: int, index: Index | None = None) -> Answers:
        """Return the k best labels of each sample, among all or among those that an index finds."""
        if index is None:
            ids, scores = predict_topk(self.layers, features, k, self.n_threads)
            return Answers(ids, scores, features.n_rows * self.model.n_labels)
        ids, scores, found = predict_topk_lsh(self.layers, features, k, index, n_threads=self.n_threads)
        return Answers(ids, scores, int(found.sum()))

    def blocks(self, features: SparseRows, k: int, index: Index | None = None) -> Iterator[tuple[int, Answers]]:
        """Yield answers block by block: how many of the samples are done with this block, and `topk` of it."""
        at_once = ROWS_AT_ONCE * self.n_threads * BLOCKS_A_THREAD
        for first in range(0, features.n_rows, at_once):
            rows = np.arange(first, min(first + at_once, features.n_rows))
            yield first + len(rows), self.topk(features.take(rows), k, index)
