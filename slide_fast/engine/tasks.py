"""The tasks of workers: small, picklable, and safe to repeat, since a dead worker's task goes to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple


@dataclass(frozen=True)
class Ready:
    """Ask for an answer, which shows that the worker has started."""

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
    """Write the order in which the neurons of a part are inserted; first half of a rebuild."""

    method: ClassVar[str] = "order_insertion"
    word: int
    rebuild: int


@dataclass(frozen=True)
class HashNeurons:
    """Write the addresses of neurons `first` to `last` - 1 of a part; first half of a rebuild."""

    method: ClassVar[str] = "hash_neurons"
    word: int
    first: int
    last: int


@dataclass(frozen=True)
class SortTable:
    """Make one table of a part from addresses and order of insertion; second half of a rebuild."""

    method: ClassVar[str] = "sort_table"
    word: int
    table: int
    rebuild: int


@dataclass(frozen=True)
class GatherQueries:
    """Write the inputs of a part's layer for some of the samples that a rebuild clusters (S34)."""

    method: ClassVar[str] = "gather_queries"
    word: int
    rebuild: int
    first: int
    last: int


@dataclass(frozen=True)
class AssignQueries:
    """Write the cells of queries `first` to `last` - 1, in one round of k-means."""

    method: ClassVar[str] = "assign_queries"
    word: int
    first: int
    last: int


@dataclass(frozen=True)
class MoveCentroids:
    """Move the centroids of a part to the means of their cells; in round 0, initialise them."""

    method: ClassVar[str] = "move_centroids"
    word: int
    round: int


@dataclass(frozen=True)
class ListNeurons:
    """List the candidate neurons of groups `first` to `last` - 1 of a part's centroids, in a large layer (S35)."""

    method: ClassVar[str] = "list_neurons"
    word: int
    first: int
    last: int


@dataclass(frozen=True)
class FillBuckets:
    """Fill the buckets of centroids `first` to `last` - 1 of a part, group by group; end of a rebuild (S35)."""

    method: ClassVar[str] = "fill_buckets"
    word: int
    first: int
    last: int


@dataclass(frozen=True)
class PredictRows:
    """Find the best labels of test rows `first` to `last` - 1 in keyed order."""

    method: ClassVar[str] = "predict"
    first: int
    last: int


@dataclass(frozen=True)
class MeasureLoss:
    """Sum the losses, over all labels, of test rows `first` to `last` - 1 in keyed order."""

    method: ClassVar[str] = "measure_loss"
    first: int
    last: int


class RangeReport(NamedTuple):
    """Totals of a range of steps: sums `loss` and `active` over the labelled samples, and `seconds` taken."""

    n_samples: int
    n_labelled: int
    loss: float
    active: float
    seconds: float
