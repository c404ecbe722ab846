"""Hash tables over the neurons of a layer (paper, section 3.2 and appendix A).

Each of the L tables maps an address to a bucket, a list of at most ``bucket_size`` neurons. Neurons with similar weight
vectors tend to share buckets, so a query with an input vector tends to find the neurons with large activations.
"""

from __future__ import annotations

from bisect import insort

import numpy as np

from .common.hash_constants import HashConstants
from .common.lsh_config import LshConfig
from .common.rng import Purpose, mix, permutation
from .hashing import addresses_of


class HashTables:
    """L tables of bounded buckets.

    Parameters
    ----------
    L : int
        Number of tables.
    bucket_size : int
        Largest number of neurons in a bucket.

    Examples
    --------
    Two tables; the bucket at address 5 of the first holds two neurons, so the oldest is dropped:

    >>> import numpy as np
    >>> from slide_ref.hash_tables import HashTables
    >>> tables = HashTables(L=2, bucket_size=2)
    >>> for neuron, addresses in enumerate([[5, 1], [5, 0], [5, 1]]):
    ...     tables.insert(neuron, np.array(addresses))
    >>> [bucket.tolist() for bucket in tables.query(np.array([5, 1]))]
    [[1, 2], [0, 2]]
    """

    def __init__(self, L: int, bucket_size: int):
        self.bucket_size = bucket_size
        self.tables: list[dict[int, list[int]]] = [{} for _ in range(L)]

    def insert(self, neuron: int, addresses: np.ndarray) -> None:
        """Put a neuron into its bucket of every table; a full bucket first drops its oldest. Implements S7.

        Parameters
        ----------
        neuron : int
        addresses : ndarray of int64, shape (L,)
        """
        for table, address in zip(self.tables, addresses, strict=True):
            bucket = table.setdefault(int(address), [])
            if len(bucket) == self.bucket_size:
                bucket.pop(0)
            bucket.append(neuron)

    def insert_by_priority(self, neuron: int, addresses: np.ndarray, priorities: np.ndarray) -> None:
        """Put a neuron into its buckets; a full bucket drops its member of largest priority. Implements S22.

        Regardless of the order of insertion, a bucket keeps the neurons of smallest priority among all that were
        inserted at its address. With random priorities this is reservoir sampling: a uniform subset.

        Parameters
        ----------
        neuron : int
        addresses : ndarray of int64, shape (L,)
        priorities : ndarray of uint64, shape (L, n_neurons)
            Must be the same array for every neuron of these tables.
        """
        for table, address, priority in zip(self.tables, addresses, priorities, strict=True):
            bucket = table.setdefault(int(address), [])
            insort(bucket, neuron, key=lambda member: (priority[member], member))
            del bucket[self.bucket_size :]

    def query(self, addresses: np.ndarray) -> list[np.ndarray]:
        """Return one bucket per table, at the given addresses.

        Returns
        -------
        list of L ndarrays of int64
            Neurons in the order of their insertion, or of their priorities.
        """
        buckets = (table.get(int(address), []) for table, address in zip(self.tables, addresses, strict=True))
        return [np.array(bucket, dtype=np.int64) for bucket in buckets]

    def occupancy(self) -> dict[str, float]:
        """Return figures of how full the tables are.

        Returns
        -------
        dict
            ``entries``: entries of all buckets; ``neurons``: distinct neurons per table; ``buckets``: non-empty
            buckets, all three summed over tables; ``fullest``: size of the fullest bucket.
        """
        sizes = [len(bucket) for table in self.tables for bucket in table.values()]
        entries = sum(sizes)  # a neuron has one address in each table
        return {"entries": entries, "neurons": entries, "buckets": len(sizes), "fullest": max(sizes, default=0)}


class CentroidTable:
    """A single table with one bucket per centroid; a query reads several of them. Implements S35.

    Parameters
    ----------
    buckets : ndarray of int32, shape (n_centroids, bucket_size)
        From `slide_ref.hashing.centroid.buckets_of`.
    """

    def __init__(self, buckets: np.ndarray):
        self.buckets = buckets

    def query(self, addresses: np.ndarray) -> list[np.ndarray]:
        """Return the buckets at distinct addresses: ndarrays of int64, the neuron with the largest logit first."""
        return [self.buckets[address].astype(np.int64) for address in addresses]

    def occupancy(self) -> dict[str, float]:
        """Return figures of how full the table is, as `HashTables.occupancy` does."""
        n, size = self.buckets.shape
        fullest = size if n else 0
        return {"entries": n * size, "neurons": len(np.unique(self.buckets)), "buckets": n, "fullest": fullest}


Tables = HashTables | CentroidTable


def tables_from_addresses(addresses: np.ndarray, lsh: LshConfig, seed: int, layer: int, rebuild: int) -> HashTables:
    """Insert all neurons of a layer into new tables. Implements S6 and S22.

    The order of insertion is a new permutation in each rebuild, the same for all tables. The priorities of a reservoir
    are new for each rebuild and each table.

    Parameters
    ----------
    addresses : ndarray of int, shape (L, n_neurons)
    lsh : LshConfig
    seed, layer, rebuild : int
        Words of the keys.
    """
    n = addresses.shape[1]
    tables = HashTables(lsh.L, lsh.bucket_size)
    priorities = mix(seed, Purpose.RESERVOIR, layer, rebuild, np.arange(lsh.L)[:, None], np.arange(n))
    for neuron in permutation(seed, Purpose.INSERTION, layer, rebuild, n=n):
        if lsh.policy == "reservoir":
            tables.insert_by_priority(int(neuron), addresses[:, neuron], priorities)
        else:
            tables.insert(int(neuron), addresses[:, neuron])
    return tables


def build_tables(
    W: np.ndarray, constants: HashConstants, lsh: LshConfig, seed: int, layer: int, rebuild: int
) -> HashTables:
    """Hash all neurons of a layer into new tables.

    Parameters
    ----------
    W : ndarray of float, shape (n_neurons, n_inputs)
        Weight vectors; biases are not hashed.
    constants : HashConstants
        From `slide_ref.hashing.hash_constants`.
    lsh : LshConfig
    seed, layer, rebuild : int
        Words of the keys; `rebuild` is 0 for tables built before the first step.
    """
    return tables_from_addresses(addresses_of(W, constants, lsh, seed, layer).T, lsh, seed, layer, rebuild)
