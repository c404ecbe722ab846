"""Hash tables as sorted arrays: a bucket is a slice.

Table l holds all neurons sorted by address, and the offset at which each address begins. With the policy FIFO the
neurons of one address are in the order of insertion, and an overfull bucket keeps the end of its slice; as a reservoir
they are in the order of priority, and it keeps the beginning. Tables can be built one by one, by different workers,
into shared memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slide_ref.common.hash_constants import SAMPLES_A_CENTROID, HashConstants
from slide_ref.common.lsh_config import N_GROUPS, LshConfig
from slide_ref.common.rng import Purpose, permutation

from .hashing import addresses_of
from .parallel.shared_arrays import Layout

ROWS_AT_ONCE = 4096


@dataclass
class HashTables:
    """L tables of bounded buckets over n neurons.

    Attributes
    ----------
    ids : ndarray of int32, shape (L, n)
        Neurons sorted by address, then by order of insertion (FIFO) or by priority (reservoir).
    offsets : ndarray of int32, shape (L, 2**address_bits + 1)
        Bucket a of table l begins at ``offsets[l, a]`` and ends before ``offsets[l, a + 1]``.
    bucket_size : int
        Largest number of neurons in a bucket.
    policy : str
        Which neurons a full bucket keeps: ``"fifo"`` or ``"reservoir"``.
    """

    ids: np.ndarray
    offsets: np.ndarray
    bucket_size: int
    policy: str = "fifo"

    @property
    def n_neurons(self) -> int:
        """Number of neurons of the layer."""
        return self.ids.shape[1]

    def slices(self, addresses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find where buckets begin in ``ids.ravel()``, and their lengths: int64, (n_queries, L). Implements S7 and S22.

        An overfull bucket has dropped its oldest neurons, or as a reservoir those of largest priority.
        """
        tables = np.arange(len(self.ids))
        ends = self.offsets[tables, addresses + 1].astype(np.int64)
        starts = self.offsets[tables, addresses]
        lengths = np.minimum(ends - starts, self.bucket_size)
        first = starts if self.policy == "reservoir" else ends - lengths
        return first + tables * self.ids.shape[1], lengths

    def query(self, addresses: np.ndarray) -> list[np.ndarray]:
        """Return one bucket per table, as `slide_ref.hash_tables.HashTables.query` does."""
        return _query(self, addresses)

    def occupancy(self) -> dict[str, int]:
        """Return figures of how full the tables are, as `slide_ref.hash_tables.HashTables.occupancy` does."""
        sizes = np.minimum(np.diff(self.offsets, axis=1), self.bucket_size)
        n, buckets, fullest = int(sizes.sum()), int((sizes > 0).sum()), int(sizes.max(initial=0))
        return {"entries": n, "neurons": n, "buckets": buckets, "fullest": fullest}


@dataclass
class CentroidTable:
    """A single table with one bucket per centroid; a query reads several of them. Implements S35.

    Attributes
    ----------
    ids : ndarray of int32, shape (n_centroids, size)
        From `slide_fast.hashing.centroid.fill_buckets`.
    n_neurons : int
        Number of neurons of the layer.
    filled : ndarray of int32, shape (1,)
        0 before the first rebuild: the buckets are empty.
    """

    ids: np.ndarray
    n_neurons: int
    filled: np.ndarray

    def slices(self, addresses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find where buckets begin in ``ids.ravel()``, and their lengths, as `HashTables.slices` does."""
        size = self.ids.shape[1]
        return addresses * size, np.full(addresses.shape, size * self.filled[0])

    def query(self, addresses: np.ndarray) -> list[np.ndarray]:
        """Return the buckets at distinct addresses, as `slide_ref.hash_tables.CentroidTable.query` does."""
        return _query(self, addresses)

    def occupancy(self) -> dict[str, int]:
        """Return figures of how full the table is, as `HashTables.occupancy` does."""
        n, size = self.ids.shape if self.filled[0] else (0, 0)
        n_different = np.count_nonzero(np.bincount(self.ids[:n].ravel()))
        return {"entries": n * size, "neurons": n_different, "buckets": n, "fullest": size}


Tables = HashTables | CentroidTable


def _query(tables: Tables, addresses: np.ndarray) -> list[np.ndarray]:
    """Return one bucket per address."""
    starts, lengths = tables.slices(addresses[None])
    flat = tables.ids.reshape(-1)
    return [flat[s : s + n].astype(np.int64) for s, n in zip(starts[0], lengths[0], strict=True)]


def array_shapes(lsh: LshConfig, n: int, n_inputs: int) -> Layout:
    """Return shapes and dtypes of the arrays for the tables of a layer of n neurons, by name.

    Besides ``table_ids`` and ``table_offsets`` these are ``addresses`` and ``insertion``, intermediate results of a
    rebuild. A centroid table needs ``table_ids`` and ``centroids``, and as intermediate results ``queries``, the
    vectors of length `n_inputs` to cluster, and their ``cells``; in a large layer also ``listed``, the candidates of
    each group of centroids.
    """
    if lsh.family == "centroid":
        n_queries = SAMPLES_A_CENTROID * lsh.n_centroids
        n_listed = lsh.listed(n)
        shapes: Layout = {
            "table_ids": ((lsh.n_centroids, lsh.room(n)), np.int32),
            "centroids": ((lsh.n_centroids, n_inputs), np.float32),
            "queries": ((n_queries, n_inputs), np.float32),
            "cells": ((n_queries,), np.int32),
            "filled": ((1,), np.int32),
        }
        if n_listed < n:
            shapes["listed"] = ((N_GROUPS, n_listed), np.int32)
        return shapes
    address = np.uint16 if lsh.address_bits <= 16 else np.uint32  # numpy sorts 16 bits by radix
    return {
        "table_ids": ((lsh.L, n), np.int32),
        "table_offsets": ((lsh.L, 2**lsh.address_bits + 1), np.int32),
        "addresses": ((lsh.L, n), address),
        "insertion": ((n,), np.int32),
    }


def insertion_order(n: int, seed: int, layer: int, rebuild: int) -> np.ndarray:
    """Return the order in which neurons are inserted: a new permutation for each rebuild. Implements S6."""
    return permutation(seed, Purpose.INSERTION, layer, rebuild, n=n)


def priority_order(n: int, seed: int, layer: int, rebuild: int, table: int) -> np.ndarray:
    """Return the neurons by their priority in the reservoirs of one table, smallest first. Implements S22."""
    return permutation(seed, Purpose.RESERVOIR, layer, rebuild, table, n=n)


def hash_rows(
    W: np.ndarray, constants: HashConstants, lsh: LshConfig, seed: int, layer: int, addresses: np.ndarray
) -> None:
    """Hash the neurons with weights `W`, and write their addresses into `addresses`, shape (L, n_rows)."""
    for start in range(0, len(W), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        addresses[:, rows] = addresses_of(W[rows], constants, lsh, seed, layer).T


def sort_table(addresses: np.ndarray, insertion: np.ndarray, ids: np.ndarray, offsets: np.ndarray) -> None:
    """Build one table from the addresses of all neurons: fill `ids` and `offsets`. Implements S6 and S22.

    `insertion` is from `insertion_order`; for reservoirs it is the table's own `priority_order`.
    """
    in_order = addresses[insertion]
    ids[:] = insertion[np.argsort(in_order, kind="stable")]
    offsets[0] = 0
    np.cumsum(np.bincount(in_order, minlength=len(offsets) - 1), out=offsets[1:])


def tables_from_addresses(addresses: np.ndarray, lsh: LshConfig, seed: int, layer: int, rebuild: int) -> HashTables:
    """Build all tables of a layer from the addresses of its neurons, (L, n). Implements S6 and S22."""
    n = addresses.shape[1]
    arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in array_shapes(lsh, n, 0).items()}
    arrays["addresses"][:] = addresses
    insertion = insertion_order(n, seed, layer, rebuild)
    for table in range(lsh.L):
        if lsh.policy == "reservoir":
            insertion = priority_order(n, seed, layer, rebuild, table)
        sort_table(arrays["addresses"][table], insertion, arrays["table_ids"][table], arrays["table_offsets"][table])
    return HashTables(arrays["table_ids"], arrays["table_offsets"], lsh.bucket_size, lsh.policy)


def build_tables(
    W: np.ndarray, constants: HashConstants, lsh: LshConfig, seed: int, layer: int, rebuild: int
) -> HashTables:
    """Build all tables of a layer from its weights, in this process; workers do the same in parts."""
    addresses = np.empty((lsh.L, len(W)), dtype=np.int64)
    hash_rows(W, constants, lsh, seed, layer, addresses)
    return tables_from_addresses(addresses, lsh, seed, layer, rebuild)
