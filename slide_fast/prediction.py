"""Exact top-k over all labels, without ever holding all logits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows

from .network import forward
from .scratch import Scratch

ROWS_AT_ONCE = 256
LABELS_AT_ONCE = 8192
GROUP = 64


def _keys(scores: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Scores and ids as one whole number a pair, larger for a larger score and, among equals, for a lower id."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    ordered = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    return (ordered << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - ids.astype(np.uint64))


def _unpack(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `_keys`."""
    ordered = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ordered >> np.uint32(31), ordered ^ np.uint32(1 << 31), ~ordered)
    ids = np.uint64(0xFFFFFFFF) - (keys & np.uint64(0xFFFFFFFF))
    return bits.view(np.float32), ids.astype(np.int32)


def _largest(keys: np.ndarray, k: int) -> np.ndarray:
    """The k largest keys of each row, in no order."""
    return np.partition(keys, keys.shape[1] - k, axis=1)[:, -k:] if k < keys.shape[1] else keys


def _block_topk(scores: np.ndarray, first: int, k: int) -> np.ndarray:
    """Keys of the k best labels for each sample, from the scores (n_labels, n_samples) of labels `first` and on.

    The number of labels is a multiple of `GROUP`. The k best lie in the k groups with the best maxima, so only these
    are searched.
    """
    n_samples = scores.shape[1]
    groups = scores.reshape(-1, GROUP, n_samples)
    if len(groups) <= k:
        return _largest(_keys(scores.T, first + np.arange(len(scores))), k)
    best = _unpack(_largest(_keys(groups.max(axis=1).T, np.arange(len(groups))), k))[1]
    candidates = groups[best, :, np.arange(n_samples)[:, None]].reshape(n_samples, -1)
    ids = (best[:, :, None] * GROUP + np.arange(GROUP)).reshape(n_samples, -1)
    return _largest(_keys(candidates, first + ids), k)


def topk_rows(layers: list[Layer], features: SparseRows, k: int, scratch: Scratch) -> tuple[np.ndarray, np.ndarray]:
    """`predict_topk` for a few rows, by one thread."""
    *hidden, output = layers
    inputs = forward(hidden, features, lambda l, _: None, scratch)[-1].outputs
    np.maximum(inputs, 0, out=inputs)  # `forward` leaves the last layer it is given as it is
    n = len(output.b)
    best: list[np.ndarray] = []
    for first in range(0, n, LABELS_AT_ONCE):
        W, b = output.W[first : first + LABELS_AT_ONCE], output.b[first : first + LABELS_AT_ONCE]
        scores = scratch.empty(f"outputs{len(hidden)}", (-(-len(b) // GROUP) * GROUP, len(inputs)), W.dtype)
        np.matmul(W, inputs.T, out=scores[: len(b)])
        scores[: len(b)] += b[:, None]
        scores[len(b) :] = -np.inf
        best.append(_block_topk(scores, first, k))
    found_scores, found_ids = _unpack(np.sort(_largest(np.concatenate(best, axis=1), k), axis=1)[:, ::-1])
    ids = np.full((len(inputs), k), -1, dtype=np.int32)
    scores = np.full((len(inputs), k), -np.inf, dtype=np.float32)
    n_found = min(k, n)
    ids[:, :n_found], scores[:, :n_found] = found_ids[:, :n_found], found_scores[:, :n_found]
    return ids, scores


def predict_topk(
    layers: list[Layer], features: SparseRows, k: int, n_threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The k labels of largest logit for each row. Implements S15.

    Parameters
    ----------
    layers : list of Layer
        float32.
    features : SparseRows, shape (n_samples, n_features)
    k : int
        1 or more.
    n_threads : int
        Threads that share the rows; the answer does not depend on it.

    Returns
    -------
    ids : ndarray of int32, shape (n_samples, k)
        Best first; of equal scores the lower id comes first; -1 where there are fewer than k labels.
    scores : ndarray of float32, shape (n_samples, k)
        Logits; -inf where the id is -1.
    """
    ids = np.empty((features.n_rows, k), dtype=np.int32)
    scores = np.empty((features.n_rows, k), dtype=np.float32)

    def part(start: int) -> None:
        rows = np.arange(start, min(start + ROWS_AT_ONCE, features.n_rows))
        ids[rows], scores[rows] = topk_rows(layers, features.take(rows), k, Scratch())

    with threadpool_limits(1), ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(part, range(0, features.n_rows, ROWS_AT_ONCE)))
    return ids, scores
