"""Inference with a trained model and its index, used by Python and the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from slide_ref.common.checks import share, whole
from slide_ref.common.errors import DataError
from slide_ref.common.index import IndexSamples, recall_measured, samples_for_index, size_for
from slide_ref.common.parameters import layers_of
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.model_folder import Model
from slide_ref.common.storage.precision import with_dtype

from ..indexing import build_index
from ..kernels.scratch import scratch_of_thread
from ..parallel.machine import available_cpus
from ..prediction import FEW, ROWS_AT_ONCE, few_through_index, predict_topk, predict_topk_index

BLOCKS_A_THREAD = 4
FEWEST = 256  # samples of which an index can be made, where no others are at hand


class Answers(NamedTuple):
    """The best labels of some samples.

    Attributes
    ----------
    ids : ndarray of int32, shape (n_samples, k)
        Best first; -1 where there are fewer than k labels.
    scores : ndarray of float32, shape (n_samples, k)
        Logits; -inf where the id is -1.
    n_candidates : int
        Number of labels scored per sample.
    totals : ndarray of float64, shape (n_samples,), or None
        Logarithm of the sum of exp(logit) over the labels scored.
    """

    ids: np.ndarray
    scores: np.ndarray
    n_candidates: int
    totals: np.ndarray | None = None

    @property
    def probabilities(self) -> np.ndarray:
        """Return the softmax over the labels scored, for the best ones: float64, shape (n_samples, k)."""
        assert self.totals is not None
        return np.exp(self.scores - self.totals[:, None])


def require_finite(scores: np.ndarray, ids: np.ndarray | None = None, first: int = 0) -> None:
    """Raise DataError if a score is NaN or infinite, but where its id is -1; rows are numbered from `first`."""
    scores = scores if ids is None else np.where(ids < 0, 0, scores)
    is_finite = np.isfinite(scores.max(axis=1, initial=0)) & np.isfinite(scores.min(axis=1, initial=0))
    if not is_finite.all():
        row = first + int(np.argmin(is_finite))
        raise DataError(f"row {row}: the values are too large: scores are not finite; scale them as in training")


def with_index(model: Model, samples: IndexSamples, n_threads: int | None = None) -> Model:
    """Return the model with a new index, built by `n_threads` threads; default: one per CPU."""
    layers = layers_of(with_dtype(model, "float32").arrays)
    index = build_index(layers, samples, n_threads or available_cpus())
    return dataclasses.replace(model, index=index)


def indexed_by(model: Model, features: SparseRows, n_threads: int | None = None) -> Model:
    """Return the model with an index built from samples to predict for, or unchanged if they are too few."""
    if features.n_rows < FEWEST:
        return model
    return with_index(model, samples_for_index(model.config.seed, features), n_threads)


class Predictor:
    """Finds the best labels of samples, among all labels or among the candidates of the model's index.

    Parameters
    ----------
    model : Model
    n_threads : int, optional
        Default: one per CPU that this process may use, counted at each call.
    """

    def __init__(self, model: Model, n_threads: int | None = None):
        self.model, self.layers, self._n_threads = model, layers_of(model.arrays), n_threads
        self._sizes: dict[tuple[int, float], int | None] = {}

    @property
    def n_threads(self) -> int:
        """Number of threads that share the samples of a call."""
        return self._n_threads or available_cpus()

    def size(self, k: int, recall: float) -> int | None:
        """Return the number of neurons per bucket that reaches a recall of the exact top k.

        None: all labels must be scored, or the model has no index. Raises ConfigError if k or the recall is out of
        range.
        """
        if self.model.index is None:
            whole("k", k, 1), share("recall", recall)
            return None
        if (k, recall) not in self._sizes:
            self._sizes[k, recall] = size_for(self.model.index, k, recall, self.model.n_labels)
        return self._sizes[k, recall]

    def recall_measured(self, k: int, recall: float) -> float:
        """Return the recall of the exact top k measured on the index's held-out samples."""
        size, index = self.size(k, recall), self.model.index
        return 1.0 if index is None else recall_measured(index, k, size, self.model.n_labels)

    def topk(
        self, features: SparseRows, k: int, recall: float | None = None, with_totals: bool = False, first: int = 0
    ) -> Answers:
        """Return the k best labels of each sample, among all or, given a recall, among the index's candidates.

        Raises DataError if scores are not finite; rows are numbered from `first` in its message.
        """
        size, index = None if recall is None else self.size(k, recall), self.model.index
        totals = np.full(features.n_rows, -np.inf) if with_totals else None
        if size is None or index is None:
            best, size = predict_topk(self.layers, features, k, self._n_threads, totals), self.model.n_labels
        elif features.n_rows > FEW:
            best = predict_topk_index(self.layers, features, k, index, size, self.n_threads, totals)
        else:
            best = few_through_index(self.layers, features, k, index, size, scratch_of_thread(), totals)
        require_finite(best[1], best[0], first)
        return Answers(*best, size, totals)

    def blocks(
        self, features: SparseRows, k: int, recall: float | None = None, with_totals: bool = False
    ) -> Iterator[tuple[int, Answers]]:
        """Yield answers in blocks: the number of samples done so far, and the result of `topk` for the block."""
        at_once = ROWS_AT_ONCE * self.n_threads * BLOCKS_A_THREAD
        for first in range(0, features.n_rows, at_once):
            rows = np.arange(first, min(first + at_once, features.n_rows))
            yield first + len(rows), self.topk(features.take(rows), k, recall, with_totals, first)
