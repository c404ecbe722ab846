"""The tasks of workers: small, picklable, and safe to do twice, since a dead worker's task goes to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple


@dataclass(frozen=True)
class Ready:
    """Let a worker answer, which tells that it has started."""

    method: ClassVar[str] = "ready"


@dataclass(frozen=True)
class TrainRange:
    """Train on `n_steps` micro-batches of an epoch, the first of which is step `first_step` of the run."""

    method: ClassVar[str] = "train"
    epoch: int
    first_step: int
    n_steps: int


@dataclass(frozen=True)
class OrderInsertion:
    """Write the order in which the neurons of a part are inserted, in the first half of a rebuild."""

    method: ClassVar[str] = "order_insertion"
    word: int
    rebuild: int


@dataclass(frozen=True)
class HashNeurons:
    """Write the addresses of neurons `first` to `last` - 1 of a part, in the first half of a rebuild."""

    method: ClassVar[str] = "hash_neurons"
    word: int
    first: int
    last: int


@dataclass(frozen=True)
class SortTable:
    """Make one table of a part from addresses and order of insertion, in the second half of a rebuild."""

    method: ClassVar[str] = "sort_table"
    word: int
    table: int
    rebuild: int


@dataclass(frozen=True)
class GatherQueries:
    """Write what enters a part's layer for some of the samples that a rebuild clusters (S34)."""

    method: ClassVar[str] = "gather_queries"
    word: int
    rebuild: int
    first: int
    last: int


@dataclass(frozen=True)
class AssignQueries:
    """Write to which cells queries `first` to `last` - 1 belong, in one round of k-means."""

    method: ClassVar[str] = "assign_queries"
    word: int
    first: int
    last: int


@dataclass(frozen=True)
class MoveCentroids:
    """Move the centroids of a part to the means of their cells, or in round 0 to where they begin."""

    method: ClassVar[str] = "move_centroids"
    word: int
    round: int


@dataclass(frozen=True)
class ListNeurons:
    """List the neurons of groups `first` to `last` - 1 of a part's centroids, in a large layer (S35)."""

    method: ClassVar[str] = "list_neurons"
    word: int
    first: int
    last: int


@dataclass(frozen=True)
class FillBuckets:
    """Fill the buckets of centroids `first` to `last` - 1 of a part, group by group, the end of a rebuild (S35)."""

    method: ClassVar[str] = "fill_buckets"
    word: int
    first: int
    last: int


@dataclass(frozen=True)
class PredictRows:
    """Find the best labels of test rows `first` to `last` - 1 in their keyed order."""

    method: ClassVar[str] = "predict"
    first: int
    last: int


@dataclass(frozen=True)
class MeasureLoss:
    """Sum the losses, over all labels, of test rows `first` to `last` - 1 in their keyed order."""

    method: ClassVar[str] = "measure_loss"
    first: int
    last: int


class RangeReport(NamedTuple):
    """What a range of steps did: `loss` and `active` are sums over the labelled samples; `seconds` it took."""

    n_samples: int
    n_labelled: int
    loss: float
    active: float
    seconds: float
