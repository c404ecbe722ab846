"""The k best labels: over all of them, without ever holding all logits, or over those of an index."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.hash_constants import HashConstants
from slide_ref.common.lsh_config import LshConfig, whole
from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows

from .hash_tables import HashTables, build_tables
from .hashing import addresses_of, hash_constants
from .kernels.blas_warnings import without_false_alarms
from .kernels.scratch import Scratch
from .network import forward
from .parallel.blas_threads import ONE_BLAS_THREAD
from .parallel.units import size
from .sampling import hard_threshold

MODES = ("exact", "lsh")
ROWS_AT_ONCE = 256
LABELS_AT_ONCE = 8192
GROUP = 64


def _keys(scores: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Pack scores and ids into one whole number a pair, larger for a larger score and, among equals, for a lower id."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    ordered = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    return (ordered << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - ids.astype(np.uint64))


def _unpack(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores and ids of keys: the inverse of `_keys`."""
    ordered = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ordered >> np.uint32(31), ordered ^ np.uint32(1 << 31), ~ordered)
    ids = np.uint64(0xFFFFFFFF) - (keys & np.uint64(0xFFFFFFFF))
    return bits.view(np.float32), ids.astype(np.int32)


def _largest(keys: np.ndarray, k: int) -> np.ndarray:
    """Return the k largest keys of each row, in no order; a copy, so that the others can go."""
    return np.partition(keys, keys.shape[1] - k, axis=1)[:, -k:].copy() if k < keys.shape[1] else keys


def _block_topk(scores: np.ndarray, first: int, k: int) -> np.ndarray:
    """Return keys of each sample's k best labels, from the scores (n_labels, n_samples) of labels `first` and on.

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


def hidden_outputs(layers: list[Layer], features: SparseRows, scratch: Scratch) -> np.ndarray:
    """Return what enters the output layer, shape (n_samples, n_inputs): hidden layers are evaluated in full."""
    inputs = forward(layers[:-1], features, lambda l, _: None, scratch)[-1].outputs
    return np.maximum(inputs, 0, out=inputs)  # `forward` leaves the last layer it is given as it is


def _best_keys(output: Layer, inputs: np.ndarray, k: int, scratch: Scratch) -> np.ndarray:
    """Return keys of the k best neurons of a layer for each row, in no order; fewer if there are not so many."""
    n = len(output.b)
    best = [np.empty((len(inputs), 0), dtype=np.uint64)]
    for first in range(0, n, LABELS_AT_ONCE):
        W, b = output.W[first : first + LABELS_AT_ONCE], output.b[first : first + LABELS_AT_ONCE]
        scores = scratch.empty("scores", (-(-len(b) // GROUP) * GROUP, len(inputs)), W.dtype)
        np.matmul(W, inputs.T, out=scores[: len(b)])
        scores[: len(b)] += b[:, None]
        scores[len(b) :] = -np.inf
        best.append(_block_topk(scores, first, k))
    return _largest(np.concatenate(best, axis=1), min(k, n))


@without_false_alarms
def topk_rows(layers: list[Layer], features: SparseRows, k: int, scratch: Scratch) -> tuple[np.ndarray, np.ndarray]:
    """Do what `predict_topk` does for a few rows, in this thread."""
    inputs = hidden_outputs(layers, features, scratch)
    best = np.sort(_best_keys(layers[-1], inputs, k, scratch), axis=1)[:, ::-1]
    ids, scores = _no_answers(len(inputs), k)
    scores[:, : best.shape[1]], ids[:, : best.shape[1]] = _unpack(best)
    return ids, scores


def predict_topk(
    layers: list[Layer], features: SparseRows, k: int, n_threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k labels of largest logit for each row, as `slide_ref.prediction.predict_topk` does. Implements S15.

    Threads share the rows; the answer does not depend on their number. Weights are float32. Raises ConfigError if k is
    no whole number of 1 or more.
    """
    k = whole("k", k, 1)
    answers = _no_answers(features.n_rows, k)
    _fill_by_threads(answers, lambda rows: topk_rows(layers, rows, k, Scratch()), features, n_threads)
    return answers


def _no_answers(n_rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and scores where nothing is found."""
    try:
        return np.full((n_rows, k), -1, dtype=np.int32), np.full((n_rows, k), -np.inf, dtype=np.float32)
    except (MemoryError, ValueError) as error:
        need = f"{size(8 * n_rows * k)}"
        raise MemoryError(f"{k} labels for each of {n_rows} samples need {need}; ask for fewer") from error


def _fill_by_threads(
    out: tuple[np.ndarray, ...],
    answer: Callable[[SparseRows], tuple[np.ndarray, ...]],
    features: SparseRows,
    n_threads: int,
) -> None:
    """Write what `answer` returns for each block of rows into the same rows of `out`."""
    n_threads = whole("n_threads", n_threads, 1)

    def part(start: int) -> None:
        rows = np.arange(start, min(start + ROWS_AT_ONCE, features.n_rows))
        for array, values in zip(out, answer(features.take(rows)), strict=True):
            array[rows] = values

    starts = range(0, features.n_rows, ROWS_AT_ONCE)
    with ONE_BLAS_THREAD:
        if n_threads == 1:  # by the caller: what a thread has freed, the C library may keep for the next one
            list(map(part, starts))
            return
        with ThreadPoolExecutor(n_threads) as threads:
            try:
                parts = threads.map(part, starts)
            except RuntimeError:  # the interpreter ends: no threads any more, but atexit and daemon threads still run
                parts = map(part, starts)
            list(parts)


class Index(NamedTuple):
    """The output layer as prediction looks things up in it.

    As `slide_ref.prediction.Index`; `weights` holds a copy of the head's weights and biases.
    """

    head: np.ndarray
    tail: np.ndarray
    weights: Layer
    tables: HashTables
    constants: HashConstants
    lsh: LshConfig
    seed: int
    layer: int


def squared_norms(layer: Layer) -> np.ndarray:
    """Return each neuron's squared distance from the mean neuron, float64: how far its logits reach. Implements S28."""
    squares, mean = np.empty(len(layer.b)), layer.W.mean(axis=0, dtype=np.float64)
    for first in range(0, len(squares), LABELS_AT_ONCE):
        rows = slice(first, first + LABELS_AT_ONCE)
        squares[rows] = ((layer.W[rows] - mean) ** 2).sum(axis=1)
    return squares + (layer.b - layer.b.mean(dtype=np.float64)) ** 2


def build_index(config: Config, layers: list[Layer], rebuild: int, n_head: int = 0) -> Index:
    """Choose the head of the output layer, and build tables over the rest. Implements S28.

    As `slide_ref.prediction.build_index`.
    """
    layer, output = len(layers) - 1, layers[-1]
    if n_head:
        by_norm = np.argsort(-squared_norms(output), kind="stable")
        head, tail = np.sort(by_norm[:n_head]), np.sort(by_norm[n_head:])
    else:
        head, tail = np.arange(0), np.arange(len(output.b))
    constants = hash_constants(config.lsh, config.seed, layer, output.W.shape[1])
    tables = build_tables(output.W[tail] if n_head else output.W, constants, config.lsh, config.seed, layer, rebuild)
    weights = Layer(output.W[head], output.b[head])
    return Index(head, tail, weights, tables, constants, config.lsh, config.seed, layer)


def found_in_tables(index: Index, inputs: np.ndarray) -> list[np.ndarray]:
    """Return the neurons of the tail that are in each sample's L buckets, ascending."""
    addresses = addresses_of(inputs, index.constants, index.lsh, index.seed, index.layer)
    found = hard_threshold(index.tables, addresses, 1)
    return [index.tail[ids] for ids in np.split(found.ids, found.indptr[1:])[: len(inputs)]]


def candidates(index: Index, inputs: np.ndarray) -> list[np.ndarray]:
    """Return the head and what each sample's L buckets hold, distinct ids that ascend. Implements S28.

    As `slide_ref.prediction.candidates`, a list of arrays for inputs (n_samples, n_inputs).
    """
    return [np.sort(np.concatenate([index.head, ids])) for ids in found_in_tables(index, inputs)]


@without_false_alarms
def lsh_rows(
    layers: list[Layer], features: SparseRows, k: int, index: Index, scratch: Scratch
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Do what `predict_topk_lsh` does for a few rows, in this thread.

    The head is evaluated for all rows together, what the tables return in a product of its own for each row.
    """
    output, inputs = layers[-1], hidden_outputs(layers, features, scratch)
    ids, scores = _no_answers(len(inputs), k)
    head_scores, places = _unpack(_best_keys(index.weights, inputs, k, scratch))
    in_head = _keys(head_scores, index.head[places])
    found = found_in_tables(index, inputs)
    for i, own in enumerate(found):
        weights = scratch.empty("weights", (len(own), len(inputs[i])), output.W.dtype)
        logits = output.W.take(own, axis=0, out=weights, mode="clip") @ inputs[i] + output.b[own]
        both = np.concatenate([in_head[i], _largest(_keys(logits, own)[None], k)[0]])
        best = np.sort(_largest(both[None], k)[0])[::-1]
        scores[i, : len(best)], ids[i, : len(best)] = _unpack(best)
    return ids, scores, len(index.head) + np.array([len(own) for own in found], dtype=np.int64)


def predict_topk_lsh(
    layers: list[Layer], features: SparseRows, k: int, index: Index, n_threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the k labels of largest logit among each row's candidates. Implements S28.

    As `slide_ref.prediction.predict_topk_lsh`, by so many threads; weights are float32. Raises ConfigError if k is no
    whole number of 1 or more.
    """
    k = whole("k", k, 1)
    answers = *_no_answers(features.n_rows, k), np.zeros(features.n_rows, dtype=np.int64)
    _fill_by_threads(answers, lambda rows: lsh_rows(layers, rows, k, index, Scratch()), features, n_threads)
    return answers
