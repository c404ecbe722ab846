"""Active sets of a micro-batch, for all samples at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.rng import Key, Purpose, draw, mix
from slide_ref.common.sparse_rows import SparseRows

from .hash_tables import Tables
from .kernels.ordering import concatenate_slices, differs, distinct
from .kernels.scratch import Scratch, positions


class Active(NamedTuple):
    """The active sets of a micro-batch in compact form.

    Attributes
    ----------
    ids : ndarray of int64, shape (n_union,)
        Union of the samples' active sets, ascending.
    mask : ndarray of bool, shape (n_samples, n_union), or None
        Which neurons of the union are active for each sample; None: all.
    inclusion : ndarray of float64, shape (n_union,) or (n_samples, n_union), or None
        Inclusion probability of each neuron, for samples of which it is not a label (S30); None: logits are not
        corrected.
    """

    ids: np.ndarray
    mask: np.ndarray | None
    inclusion: np.ndarray | None = None


class Retrieved(NamedTuple):
    """Neurons found for each sample: sample i has ``ids[indptr[i]:indptr[i + 1]]``, possibly more than once."""

    indptr: np.ndarray
    ids: np.ndarray


def nothing(n_samples: int) -> Retrieved:
    """Return an empty result, for when no table is queried."""
    return Retrieved(np.zeros(n_samples + 1, dtype=np.int64), np.empty(0, dtype=np.int64))


def vanilla(tables: Tables, addresses: np.ndarray, budget: int, key: Key, samples: np.ndarray) -> Retrieved:
    """Read whole buckets in random order until `budget` distinct neurons are found. Implements S8.

    Like `slide_ref.sampling.vanilla`, for all samples at once: `addresses` is int64 of shape (n_samples, L). Without a
    budget a neuron is returned as often as it is found.
    """
    starts, lengths = tables.slices(addresses)
    if budget:
        keys = mix(key.seed, Purpose.TABLE_ORDER, key.layer, key.epoch, samples[:, None], np.arange(addresses.shape[1]))
        order = np.argsort(keys, axis=1)
        starts, lengths = np.take_along_axis(starts, order, 1), np.take_along_axis(lengths, order, 1)
        fills = lengths > budget  # one such bucket is enough, whatever those before it hold
        lengths[np.cumsum(fills, axis=1) > fills] = 0  # what comes after it is never read
    indptr = np.concatenate([[0], np.cumsum(lengths.sum(axis=1))])
    ids = tables.ids.reshape(-1)[concatenate_slices(starts.ravel(), lengths.ravel())]
    if not budget or not len(ids):
        return Retrieved(indptr, ids)

    n_samples, L = addresses.shape
    row_of = np.repeat(np.arange(n_samples), np.diff(indptr))
    is_new = _first_occurrences(row_of * tables.n_neurons + ids)
    bucket_of = np.repeat(np.arange(n_samples * L), lengths.ravel())
    n_new = np.bincount(bucket_of, weights=is_new, minlength=n_samples * L).reshape(n_samples, L)
    passes = np.cumsum(n_new, axis=1) > budget
    rows = np.flatnonzero(passes.any(axis=1))
    slots = np.argmax(passes[rows], axis=1)
    keys = mix(key.seed, Purpose.BUCKET_START, key.layer, key.epoch, samples[rows], order[rows, slots])
    place = _rotated_places(lengths.ravel(), rows * L + slots, keys)
    ids[place], is_new[place] = ids.copy(), is_new.copy()
    found = np.cumsum(is_new)
    before_row = np.concatenate([[0], found])[indptr[:-1]]
    keep = is_new & (found - before_row[row_of] <= budget)
    return _by_row(row_of[keep], ids[keep], n_samples)


def _frequencies(tables: Tables, addresses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count for each sample in how many of its L buckets each neuron is found.

    Returns
    -------
    rows, ids, frequencies : ndarray of int64, shape (n_found,)
        One entry for each sample and neuron found for it, sorted by sample, then by id.
    """
    starts, lengths = tables.slices(addresses)
    n = tables.n_neurons
    ids = tables.ids.reshape(-1)[concatenate_slices(starts.ravel(), lengths.ravel())]
    keys = np.sort(np.repeat(np.arange(len(addresses)), lengths.sum(axis=1)) * n + ids)
    begins = np.flatnonzero(differs(keys))
    rows, ids = np.divmod(keys[begins], n)
    return rows, ids, np.diff(begins, append=len(keys))


def _by_row(rows: np.ndarray, ids: np.ndarray, n_samples: int) -> Retrieved:
    """Make a `Retrieved` from entries sorted by row."""
    return Retrieved(np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_samples))]), ids)


def top_k(tables: Tables, addresses: np.ndarray, budget: int) -> Retrieved:
    """Take the `budget` neurons found in most buckets; ties go to the lower id. Implements S23.

    Like `slide_ref.sampling.top_k`, for all samples at once: `addresses` is int64 of shape (n_samples, L).
    """
    n_samples, L = addresses.shape
    rows, ids, frequencies = _frequencies(tables, addresses)
    places = rows * (L + 1) + L - frequencies
    order = np.argsort(places.astype(np.min_scalar_type(n_samples * (L + 1))), kind="stable")  # 16 bits: by radix
    found = _by_row(rows, ids[order], n_samples)
    if not budget:
        return found
    keep = np.arange(len(rows)) - found.indptr[rows] < budget
    return _by_row(rows[keep], found.ids[keep], n_samples)


def hard_threshold(tables: Tables, addresses: np.ndarray, least: int) -> Retrieved:
    """Take all neurons found in at least `least` buckets. Implements S24.

    Like `slide_ref.sampling.hard_threshold`, for all samples at once: `addresses` is int64 of shape (n_samples, L).
    """
    rows, ids, frequencies = _frequencies(tables, addresses)
    keep = frequencies >= least
    return _by_row(rows[keep], ids[keep], len(addresses))


def hardest(tables: Tables, addresses: np.ndarray, budget: int) -> Retrieved:
    """Take the first neuron of each bucket, then the second of each, until `budget` are found. Implements S36.

    Like `slide_ref.sampling.hardest`, for all samples at once: `addresses` is int64 of shape (n_samples, L).
    """
    n_samples, L = addresses.shape
    starts, lengths = tables.slices(addresses)
    size = int(lengths.max(initial=0))  # all buckets of a centroid table have the same
    depth = min(budget, size) if budget else size  # so many of each bucket are enough
    in_turn = tables.ids.reshape(-1)[starts[:, None, :] + np.arange(depth)[:, None]].reshape(n_samples, depth * L)
    if L == 1:
        return Retrieved(np.arange(n_samples + 1) * depth, in_turn.ravel())
    row_of = np.repeat(np.arange(n_samples), depth * L)
    is_new = _first_occurrences(row_of * tables.n_neurons + in_turn.ravel()).reshape(in_turn.shape)
    if budget:
        is_new &= np.cumsum(is_new, axis=1) <= budget
    return _by_row(row_of[is_new.ravel()], in_turn[is_new], n_samples)


def retrieve(tables: Tables, addresses: np.ndarray, lsh: LshConfig, key: Key, samples: np.ndarray) -> Retrieved:
    """Choose neurons from the buckets at `addresses`, (n_samples, L), by the layer's strategy (S8, S23, S24, S36)."""
    if lsh.strategy == "topk":
        return top_k(tables, addresses, lsh.budget)
    if lsh.strategy == "threshold":
        return hard_threshold(tables, addresses, lsh.threshold)
    if lsh.strategy == "hardest":
        return hardest(tables, addresses, lsh.budget)
    return vanilla(tables, addresses, lsh.budget, key, samples)


def _first_occurrences(ids: np.ndarray) -> np.ndarray:
    """Flag the entries that have not been seen before."""
    flags = np.zeros(len(ids), dtype=bool)
    if len(ids):
        id_of, place = np.divmod(np.sort(ids * len(ids) + np.arange(len(ids))), len(ids))  # sorted by id and place
        flags[place[differs(id_of)]] = True
    return flags


def _rotated_places(lengths: np.ndarray, rotated: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return new positions of the entries of consecutive buckets, some of them read cyclically from a keyed start.

    Parameters
    ----------
    lengths : ndarray of int64
        Lengths of all buckets.
    rotated : ndarray of int64
        Which buckets are rotated; none is empty.
    keys : ndarray of uint64
        A key for each rotated bucket.
    """
    ends = np.cumsum(lengths)
    place = np.arange(ends[-1] if len(ends) else 0)
    sizes = lengths[rotated]
    starts = ends[rotated] - sizes
    entries, within = concatenate_slices(starts, sizes), concatenate_slices(np.zeros_like(sizes), sizes)
    place[entries] = np.repeat(starts, sizes) + (within - np.repeat(draw(keys, sizes), sizes)) % np.repeat(sizes, sizes)
    return place


def pad(scratch: Scratch, ids: np.ndarray, size: int, n: int, seed: int, purpose: Purpose, *key: int) -> np.ndarray:
    """Fill a set up to min(size, n) with uniform draws, skipping neurons it holds. Implements S9.

    Like `slide_ref.sampling.pad`, for distinct and ascending `ids`.
    """
    if size >= n:
        return np.arange(n)
    missing, first = size - len(ids), 0
    if missing <= 0:
        return ids
    held = scratch.clean("marked", n, np.bool_)
    held[ids] = True
    while missing > 0:
        n_draws = missing + missing // 4 + 16
        drawn = draw(mix(seed, purpose, *key, np.arange(first, first + n_draws)), n)
        first += n_draws
        drawn = drawn[~held[drawn]]
        new = drawn[_first_occurrences(drawn)][:missing]
        held[new] = True
        missing -= len(new)
        ids = np.concatenate([ids, new])
    held[ids] = False
    return np.sort(ids)


def active_sets(
    scratch: Scratch,
    retrieved: Retrieved,
    labels: SparseRows,
    lsh: LshConfig,
    scope: str,
    n: int,
    key: Key,
    samples: np.ndarray,
) -> Active:
    """Add the true labels, take the union over the micro-batch in scope ``"batch"``, and pad. Implements S9.

    Like `slide_ref.sampling.active_sets`, but returns one compact `Active`; in scope ``"batch"`` it has no mask.
    """
    if scope == "batch":
        union = distinct(n, retrieved.ids, labels.indices)
        return Active(pad(scratch, union, lsh.min_active, n, key.seed, Purpose.PAD_BATCH, key.layer, key.step), None)
    sets = [
        own
        if len(own) >= lsh.min_active
        else pad(scratch, own, lsh.min_active, n, key.seed, Purpose.PAD_SAMPLE, key.layer, key.epoch, int(sample))
        for own, sample in zip(_with_labels(retrieved, labels, n), samples, strict=True)
    ]
    ids = np.concatenate(sets)
    union = distinct(n, ids)
    mask = scratch.zeros(f"mask{key.layer}", (len(sets), len(union)), np.bool_)
    first_of_row = np.repeat(np.arange(len(sets)) * len(union), [len(own) for own in sets])
    mask.reshape(-1)[first_of_row + positions(scratch, union, ids, n)] = True
    return Active(union, mask)


def _with_labels(retrieved: Retrieved, labels: SparseRows, n: int) -> list[np.ndarray]:
    """Merge the neurons retrieved for each sample with its labels, ascending and without duplicates."""
    rows = np.arange(labels.n_rows)
    parts = ((retrieved.indptr, retrieved.ids), (labels.indptr, labels.indices))
    keys = np.sort(np.concatenate([np.repeat(rows * n, np.diff(indptr)) + ids for indptr, ids in parts]))
    row_of, ids = np.divmod(keys[differs(keys)], n)
    return np.split(ids, np.searchsorted(row_of, rows[1:]))
