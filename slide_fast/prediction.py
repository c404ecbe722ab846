"""The k best labels: among all, without holding all logits in memory, or among the candidates of an index."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import numpy as np

from slide_ref.common.checks import one_of, plain, whole
from slide_ref.common.errors import DataError
from slide_ref.common.index import Index, Preview, n_previewed
from slide_ref.common.parameters import Layer
from slide_ref.common.sparse_rows import SparseRows

from .hashing.centroid import nearest
from .kernels.blas_warnings import without_false_alarms
from .kernels.ordering import keys_of, unpack
from .kernels.scratch import Scratch, computed, scratch_of_thread
from .kernels.sparse_products import sparse_product
from .network import forward
from .parallel.blas_threads import ONE_BLAS_THREAD
from .parallel.threads import by_threads
from .parallel.units import size as size_in_words

MODES = ("exact", "index")
ROWS_AT_ONCE = 256
LABELS_AT_ONCE = 8192
LABELS_OF_FEW_AT_ONCE = 2**18
CACHED = 2**20  # weights that stay in the cache from row to row
FEW = 4  # rows that are answered without anything that pays for many only
GROUPED_AT_ONCE = 8192  # rows among which those of the same cell are looked for
NARROW = 48  # rows up to which a product is faster the other way round
MEMBERS = 32  # logits whose maximum is compared first


def mode_of(value: object) -> str:
    """Return one of `MODES`; "lsh" is an old name of "index". Raises ConfigError if it is something else."""
    value = plain(value)
    return one_of("mode", "index" if isinstance(value, str) and value == "lsh" else value, MODES)


def _largest(keys: np.ndarray, k: int) -> np.ndarray:
    """Return the k largest keys of each row, unordered; a copy, so that the others can be freed."""
    return np.partition(keys, keys.shape[1] - k, axis=1)[:, -k:].copy() if k < keys.shape[1] else keys


def _best_among(logits: np.ndarray, k: int, ids_at: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return keys of each row's k largest logits (n_rows, n), unordered; `ids_at` maps positions to labels.

    A logit below the k-th largest of the maxima of groups of logits is not among the k best.
    """
    n_rows, size = logits.shape
    k, n_groups, maxima = min(k, size), size // MEMBERS, logits
    if n_groups >= k:
        maxima = logits[:, : n_groups * MEMBERS].reshape(n_rows, MEMBERS, n_groups).max(axis=1)
    floors = np.partition(maxima, maxima.shape[1] - k, axis=1)[:, maxima.shape[1] - k]
    above = np.flatnonzero(~(logits < floors[:, None]))  # so that NaN is found too
    rows, places = np.divmod(above, size)
    starts = np.searchsorted(rows, np.arange(n_rows + 1))
    keys = np.zeros((n_rows, np.diff(starts).max(initial=0)), dtype=np.uint64)
    keys[rows, np.arange(len(rows)) - starts[rows]] = keys_of(logits.reshape(-1)[above], ids_at(places))
    return _largest(keys, k)


def hidden_outputs(layers: list[Layer], features: SparseRows, scratch: Scratch) -> np.ndarray:
    """Return the inputs of the output layer, shape (n_samples, n_inputs), with hidden layers evaluated in full.

    Raises DataError if samples have more features than the network.
    """
    if features.n_columns > len(layers[0].W):
        raise DataError(f"samples have {features.n_columns} features, but the network has {len(layers[0].W)}")
    if features.n_rows > FEW:
        inputs = forward(layers[:-1], features, lambda l, _: None, scratch)[-1].outputs
        return np.maximum(inputs, 0, out=inputs)  # `forward` leaves the last layer it is given as it is
    inputs = sparse_product(features, layers[0].W, scratch, "outputs0")
    inputs += layers[0].b
    for layer in layers[1:-1]:
        inputs = np.maximum(inputs, 0, out=inputs) @ computed(layer.W, scratch).T
        inputs += layer.b
    return np.maximum(inputs, 0, out=inputs)


def log_sum(logits: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum of exp(logit) of each row; -inf if all its logits are -inf."""
    largest = np.maximum(logits.max(axis=1), np.finfo(logits.dtype).min)
    with np.errstate(divide="ignore"):
        return largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))


def _add_exponentials(totals: np.ndarray, scores: np.ndarray) -> None:
    """Add exp(score) to sums with logarithms `totals`, for scores (n_rows, n_labels), which are overwritten."""
    largest = scores.max(axis=1)
    scores -= largest[:, None]
    sums = np.exp(scores, out=scores).sum(axis=1, dtype=np.float64)
    np.logaddexp(totals, largest + np.log(sums), out=totals)


def _logits(W: np.ndarray, b: np.ndarray, inputs: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Return logits (n_rows, n_labels) in a buffer. Few rows are multiplied one by one by weights in the cache."""
    if len(inputs) > FEW:
        return _products(inputs, computed(W, scratch), b, scratch)
    out = scratch.empty("products", (len(inputs), len(W)), b.dtype)
    at_once = max(1, CACHED // W.shape[1])
    for first in range(0, len(W), at_once):
        weights = computed(W[first : first + at_once], scratch)
        for row, own in enumerate(inputs):
            np.dot(weights, own, out=out[row, first : first + at_once])
    return np.add(out, b, out=out)


def _best_keys(
    output: Layer, inputs: np.ndarray, k: int, scratch: Scratch, totals: np.ndarray | None = None
) -> np.ndarray:
    """Return keys of the k best neurons of a layer for each row, unordered; fewer if the layer has fewer."""
    n, at_once = len(output.b), LABELS_AT_ONCE if len(inputs) > FEW else LABELS_OF_FEW_AT_ONCE
    best = []
    for first in range(0, n, at_once):
        part = slice(first, first + at_once)
        logits = _logits(output.W[part], output.b[part], inputs, scratch)
        best.append(_best_among(logits, k, partial(np.add, first)))
        if totals is not None:
            _add_exponentials(totals, logits)
    return _largest(np.concatenate(best, axis=1), min(k, n))


@without_false_alarms
def topk_rows(
    layers: list[Layer], features: SparseRows, k: int, scratch: Scratch, totals: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Do the same as `predict_topk` for a few rows, in this thread."""
    inputs = hidden_outputs(layers, features, scratch)
    best = np.sort(_best_keys(layers[-1], inputs, k, scratch, totals), axis=1)[:, ::-1]
    ids, scores = _no_answers(len(inputs), k)
    scores[:, : best.shape[1]], ids[:, : best.shape[1]] = unpack(best)
    return ids, scores


def predict_topk(
    layers: list[Layer], features: SparseRows, k: int, n_threads: int | None = 1, totals: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k labels with the largest logits per row, like `slide_ref.prediction.predict_topk`. Implements S15.

    `n_threads` threads share the rows; None: one per CPU that this process may use. A few rows use the threads of BLAS,
    or one thread if `n_threads` is 1. The result does not depend on the number of threads. Raises ConfigError if k is
    not a whole number of 1 or more. `totals`, float64, shape (n_samples,), initially -inf, receives the logarithm of
    the sum of exp(logit) over all labels.
    """
    k, n_threads = whole("k", k, 1), None if n_threads is None else whole("n_threads", n_threads, 1)
    if features.n_rows <= FEW:
        with ONE_BLAS_THREAD if n_threads == 1 else nullcontext():
            return topk_rows(layers, features, k, scratch_of_thread(), totals)
    ids, scores = _no_answers(features.n_rows, k)

    def answer(rows: np.ndarray, scratch: Scratch) -> None:
        own = None if totals is None else totals[rows]
        ids[rows], scores[rows] = topk_rows(layers, features.take(rows), k, scratch, own)
        if totals is not None:
            totals[rows] = own

    by_threads(answer, _blocks(features.n_rows), n_threads, Scratch)
    return ids, scores


def _blocks(n_rows: int) -> list[np.ndarray]:
    """Return the row numbers, block by block."""
    return [np.arange(n_rows)[first : first + ROWS_AT_ONCE] for first in range(0, n_rows, ROWS_AT_ONCE)]


def _no_answers(n_rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and scores that mean "nothing found"."""
    try:
        return np.full((n_rows, k), -1, dtype=np.int32), np.full((n_rows, k), -np.inf, dtype=np.float32)
    except (MemoryError, ValueError) as error:
        need = f"{size_in_words(8 * n_rows * k)}"
        raise MemoryError(f"{k} labels for each of {n_rows} samples need {need}; request fewer") from error


def all_hidden_outputs(layers: list[Layer], features: SparseRows, n_threads: int | None = 1) -> np.ndarray:
    """Return `hidden_outputs` of any number of rows, by `n_threads` threads, as a new array."""
    inputs = np.empty((features.n_rows, layers[-1].W.shape[1]), layers[-1].b.dtype)

    def evaluate(rows: np.ndarray, scratch: Scratch) -> None:
        inputs[rows] = hidden_outputs(layers, features.take(rows), scratch)

    by_threads(evaluate, _blocks(features.n_rows), n_threads, Scratch)
    return inputs


def candidates(index: Index, inputs: np.ndarray, size: int, k: int) -> list[np.ndarray]:
    """Return the first neurons in each row's nearest centroid's bucket, or those of largest preview, ascending.

    Implements S28. Like `slide_ref.prediction.candidates`, but a list of arrays for inputs (n_rows, n_inputs).
    """
    found = []
    for own, cell in zip(inputs, nearest(inputs, index.centroids, 1)[:, 0], strict=True):
        seen = previewed(index, cell, own[None], size, k, Scratch())
        bucket = index.buckets[cell, :size]
        found.append(np.sort(bucket if seen is None else bucket[seen[0]]))
    return found


@without_false_alarms
def previewed(index: Index, cell: int, inputs: np.ndarray, size: int, k: int, scratch: Scratch) -> np.ndarray | None:
    """Mark those of a bucket's first neurons with the largest previews, for rows of its cell; None: no preview.

    Returns
    -------
    ndarray of bool, shape (n_rows, size), or None
    """
    n_kept = n_previewed(k)
    if index.preview is None or n_kept >= size:
        return None
    found = previews(index, index.preview, cell, inputs, slice(size), scratch)
    floors = np.partition(found, size - n_kept, axis=1)[:, size - n_kept]
    return ~(found < floors[:, None])


def previews(
    index: Index, preview: Preview, cell: int, inputs: np.ndarray, places: slice, scratch: Scratch
) -> np.ndarray:
    """Estimate the logits of the neurons at some places of a bucket, as `slide_ref.prediction.previews` does."""
    along, bucket = (inputs - index.centroids[cell]) @ preview.directions, index.buckets[cell, places]
    return _products(along, gather_rows(preview.reduced, bucket, scratch), preview.levels[cell, places], scratch)


@without_false_alarms
def _best_in_bucket(
    output: Layer,
    inputs: np.ndarray,
    k: int,
    bucket: np.ndarray,
    seen: np.ndarray | None,
    scratch: Scratch,
    totals: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and scores of a bucket's k best neurons, or all if there are fewer, for rows of its cell.

    With `seen`, shape (n_rows, n_neurons), only the neurons marked there are candidates of a row.
    """
    if seen is not None:
        union = np.flatnonzero(seen.any(axis=0))
        bucket, seen = bucket[union], seen[:, union]
    logits = _products(inputs, gather_rows(output.W, bucket, scratch), output.b[bucket], scratch)
    if seen is not None:
        np.copyto(logits, -np.inf, where=~seen)
    best = _best_among(logits, k, bucket.take)
    scores, ids = unpack(np.sort(best, axis=1)[:, ::-1])
    if totals is not None:
        _add_exponentials(totals, logits)
    return ids, scores


@without_false_alarms
def predict_topk_index(
    layers: list[Layer],
    features: SparseRows,
    k: int,
    index: Index,
    size: int,
    n_threads: int = 1,
    totals: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k labels with the largest logits among each row's candidates. Implements S28.

    Like `slide_ref.prediction.predict_topk_index`, by `n_threads` threads. Rows of the same cell are processed
    together, so that their bucket's weights are gathered once; few rows one by one. Raises ConfigError if k is not a
    whole number of 1 or more. `totals`, as in `predict_topk`, receives sums over the candidates only.
    """
    k, n_threads = whole("k", k, 1), whole("n_threads", n_threads, 1)
    if features.n_rows <= FEW:
        return few_through_index(layers, features, k, index, size, Scratch(), totals)
    ids, scores = _no_answers(features.n_rows, k)
    n = min(k, size)

    def answer(inputs: np.ndarray, first: int, job: tuple[int, np.ndarray], scratch: Scratch) -> None:
        cell, rows = job
        own, bucket = inputs[rows - first], index.buckets[cell, :size]
        seen = previewed(index, cell, own, size, k, scratch)
        sums = None if totals is None else totals[rows]
        ids[rows, :n], scores[rows, :n] = _best_in_bucket(layers[-1], own, k, bucket, seen, scratch, sums)
        if totals is not None:
            totals[rows] = sums

    for first in range(0, features.n_rows, GROUPED_AT_ONCE):
        block = features.take(np.arange(first, min(first + GROUPED_AT_ONCE, features.n_rows)))
        inputs = all_hidden_outputs(layers, block, n_threads)
        jobs = by_cell(nearest(inputs, index.centroids, 1)[:, 0], first)
        by_threads(partial(answer, inputs, first), jobs, n_threads, Scratch)
    return ids, scores


@without_false_alarms
def few_through_index(
    layers: list[Layer],
    features: SparseRows,
    k: int,
    index: Index,
    size: int,
    scratch: Scratch,
    totals: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Do the same as `predict_topk_index` for at most `FEW` rows, in this thread and in existing buffers."""
    output, inputs = layers[-1], hidden_outputs(layers, features, scratch)
    ids, scores = _no_answers(len(inputs), k)
    norms, n = np.einsum("ij,ij->i", index.centroids, index.centroids), min(k, size)
    for row, own in enumerate(inputs):
        cell = int((norms - 2 * (index.centroids @ own)).argmin())
        seen, bucket = previewed(index, cell, own[None], size, k, scratch), index.buckets[cell, :size]
        bucket = bucket if seen is None else bucket[seen[0]]
        logits = gather_rows(output.W, bucket, scratch) @ own
        logits += output.b[bucket]
        floor = np.partition(logits, len(bucket) - n)[len(bucket) - n]
        above = np.flatnonzero(~(logits < floor))
        keys = np.sort(keys_of(logits[above], bucket[above]))[: -n - 1 : -1]
        scores[row, :n], ids[row, :n] = unpack(keys)
        if totals is not None:
            _add_exponentials(totals[row : row + 1], logits[None])
    return ids, scores


def gather_rows(W: np.ndarray, rows: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Copy some rows of weights into a buffer."""
    weights = scratch.empty("weights", (len(rows), W.shape[1]), W.dtype)
    return computed(W.take(rows, axis=0, out=weights, mode="clip"), scratch)


def _products(inputs: np.ndarray, weights: np.ndarray, bias: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Return inputs times weights plus biases, shape (n_rows, n_neurons), in a buffer."""
    shape = len(inputs), len(weights)
    out = scratch.empty("products", shape, weights.dtype)
    if len(inputs) > NARROW:
        np.matmul(inputs, weights.T, out=out)
        out += bias
        return out
    turned = scratch.empty("turned", shape[::-1], weights.dtype)
    return np.add(np.matmul(weights, inputs.T, out=turned).T, bias, out=out)


def by_cell(cells: np.ndarray, first: int = 0, at_once: int = ROWS_AT_ONCE) -> list[tuple[int, np.ndarray]]:
    """Return each cell with its rows, in batches of limited size; rows are numbered from `first`."""
    order = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
    groups = np.split(order + first, starts[1:]) if len(order) else []
    return [
        (int(cells[rows[0] - first]), rows[at : at + at_once]) for rows in groups for at in range(0, len(rows), at_once)
    ]
