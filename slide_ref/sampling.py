"""Active sets: retrieval from the tables (paper, section 4.1), labels, always active (3.1), union and padding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from .common.lsh_config import LshConfig
from .common.rng import Key, Purpose, draw, mix

DRAWS_AT_ONCE = 64


def vanilla(buckets: list[np.ndarray], budget: int, key: Key, sample: int) -> np.ndarray:
    """Read whole buckets in random order until `budget` distinct neurons are found. Implements S8.

    The bucket in which the budget would be exceeded is read cyclically from a random position.

    Parameters
    ----------
    buckets : list of L ndarrays of int64
        The sample's bucket in each table.
    budget : int
        β; 0 means no limit.
    key : Key
        Of the draws.
    sample : int
        Index of the sample, a word of the keys.

    Returns
    -------
    ndarray of int64
        Distinct ids in the order in which they were found; exactly `budget` if there are as many.
    """
    found: list[int] = []
    held: set[int] = set()
    order = np.argsort(mix(key.seed, Purpose.TABLE_ORDER, key.layer, key.epoch, sample, np.arange(len(buckets))))
    for table in order:
        bucket = buckets[table]
        new = sum(int(neuron) not in held for neuron in bucket)
        if budget and len(found) + new > budget:
            start = draw(mix(key.seed, Purpose.BUCKET_START, key.layer, key.epoch, sample, int(table)), len(bucket))
            bucket = np.roll(bucket, -int(start))
        for neuron in bucket:
            if budget and len(found) == budget:
                return np.array(found, dtype=np.int64)
            if int(neuron) not in held:
                held.add(int(neuron))
                found.append(int(neuron))
    return np.array(found, dtype=np.int64)


def _frequencies(buckets: list[np.ndarray]) -> Counter[int]:
    """Count the buckets in which each neuron is found."""
    return Counter(int(neuron) for bucket in buckets for neuron in bucket)


def top_k(buckets: list[np.ndarray], budget: int) -> np.ndarray:
    """Take the `budget` neurons found in most buckets; ties go to the lower id. Implements S23.

    Parameters
    ----------
    buckets : list of L ndarrays of int64
        The sample's bucket in each table.
    budget : int
        β; 0 means no limit.

    Returns
    -------
    ndarray of int64
        Distinct ids, those found most often first; exactly `budget` if there are as many.

    Examples
    --------
    >>> import numpy as np
    >>> from slide_ref.sampling import top_k
    >>> top_k([np.array([3, 7]), np.array([7, 1]), np.array([7, 3])], budget=2).tolist()
    [7, 3]
    """
    frequencies = _frequencies(buckets)
    ranked = sorted(frequencies, key=lambda neuron: (-frequencies[neuron], neuron))
    return np.array(ranked[:budget] if budget else ranked, dtype=np.int64)


def hard_threshold(buckets: list[np.ndarray], least: int) -> np.ndarray:
    """Take all neurons found in at least `least` buckets. Implements S24.

    Parameters
    ----------
    buckets : list of L ndarrays of int64
        The sample's bucket in each table.
    least : int
        m; 1 gives the union of the buckets.

    Returns
    -------
    ndarray of int64
        Distinct ids, ascending.
    """
    frequencies = _frequencies(buckets)
    return np.array(sorted(neuron for neuron in frequencies if frequencies[neuron] >= least), dtype=np.int64)


def hardest(buckets: list[np.ndarray], budget: int) -> np.ndarray:
    """Take the first neuron of each bucket, then the second of each, until `budget` are found. Implements S36.

    Parameters
    ----------
    buckets : list of L ndarrays of int64
        The buckets that the sample reads in a centroid table, nearest first; the neuron with the largest logit first.
    budget : int
        β; 0 means no limit.

    Returns
    -------
    ndarray of int64
        Distinct ids in the order in which they were found; exactly `budget` if there are as many.
    """
    longest = max((len(bucket) for bucket in buckets), default=0)
    in_turn = [int(bucket[rank]) for rank in range(longest) for bucket in buckets if rank < len(bucket)]
    found = list(dict.fromkeys(in_turn))
    return np.array(found[:budget] if budget else found, dtype=np.int64)


def retrieve(buckets: list[np.ndarray], lsh: LshConfig, key: Key, sample: int) -> np.ndarray:
    """Choose neurons from a sample's buckets by the layer's strategy (S8, S23, S24, S36).

    Parameters
    ----------
    buckets : list of L ndarrays of int64
    lsh : LshConfig
    key : Key
        Of the draws.
    sample : int
        Index of the sample, a word of the keys.

    Returns
    -------
    ndarray of int64
        Distinct ids.
    """
    if lsh.strategy == "topk":
        return top_k(buckets, lsh.budget)
    if lsh.strategy == "threshold":
        return hard_threshold(buckets, lsh.threshold)
    if lsh.strategy == "hardest":
        return hardest(buckets, lsh.budget)
    return vanilla(buckets, lsh.budget, key, sample)


def _uniform_ids(n: int, seed: int, purpose: Purpose, *key: int) -> Iterator[int]:
    """Yield an endless sequence of keyed draws in [0, n); draw number a has the key (seed, purpose, *key, a)."""
    first = 0
    while True:
        for neuron in draw(mix(seed, purpose, *key, np.arange(first, first + DRAWS_AT_ONCE)), n):
            yield int(neuron)
        first += DRAWS_AT_ONCE


def pad(ids: np.ndarray, size: int, n: int, seed: int, purpose: Purpose, *key: int) -> np.ndarray:
    """Fill a set up to min(size, n) with uniform draws, skipping neurons it holds. Implements S9.

    Parameters
    ----------
    ids : ndarray of int64
        Distinct ids, at most n.
    size, n : int
        Target size; number of neurons.
    seed, purpose, *key : int
        Words of the keys of the draws.

    Returns
    -------
    ndarray of int64
        Ascending.
    """
    if size >= n:
        return np.arange(n, dtype=np.int64)
    held = {int(neuron) for neuron in ids}
    draws = _uniform_ids(n, seed, purpose, *key)
    while len(held) < size:
        held.add(next(draws))
    return np.array(sorted(held), dtype=np.int64)


def active_sets(
    retrieved: list[np.ndarray],
    labels: list[np.ndarray],
    lsh: LshConfig,
    scope: str,
    n: int,
    key: Key,
    samples: np.ndarray,
) -> list[np.ndarray]:
    """Add the true labels, take the union over the micro-batch in scope ``"batch"``, and pad. Implements S9.

    Parameters
    ----------
    retrieved, labels : list of ndarrays of int
        What the tables returned, and the true labels; one array per sample.
    lsh : LshConfig
    scope : str
        ``"sample"`` or ``"batch"``.
    n : int
        Neurons of the layer.
    key : Key
        Of the draws.
    samples : ndarray of int64
        Indices of the samples, used as words of the keys in scope ``"sample"``.

    Returns
    -------
    list of ndarrays of int64
        One active set per sample, ascending and without duplicates; in scope ``"batch"`` all are the same.
    """
    sets = [np.union1d(found, own).astype(np.int64) for found, own in zip(retrieved, labels, strict=True)]
    if scope == "batch":
        union = np.unique(np.concatenate(sets))
        union = pad(union, lsh.min_active, n, key.seed, Purpose.PAD_BATCH, key.layer, key.step)
        return [union] * len(sets)
    return [
        pad(ids, lsh.min_active, n, key.seed, Purpose.PAD_SAMPLE, key.layer, key.epoch, int(sample))
        for ids, sample in zip(sets, samples, strict=True)
    ]
