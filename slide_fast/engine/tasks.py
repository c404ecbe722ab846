"""What workers are asked to do: small, picklable, and safe to do twice, since a dead worker's task goes to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple


@dataclass(frozen=True)
class Ready:
    """Answer: the worker has started."""

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
    """First half of a rebuild: the order in which the neurons of a part are inserted."""

    method: ClassVar[str] = "order_insertion"
    word: int
    rebuild: int


@dataclass(frozen=True)
class HashNeurons:
    """First half of a rebuild: the addresses of neurons `first` to `last` - 1 of a part."""

    method: ClassVar[str] = "hash_neurons"
    word: int
    first: int
    last: int


@dataclass(frozen=True)
class SortTable:
    """Second half of a rebuild: one table of a part, from the addresses and the order of insertion."""

    method: ClassVar[str] = "sort_table"
    word: int
    table: int
    rebuild: int


@dataclass(frozen=True)
class PredictRows:
    """Find the best labels of test rows `first` to `last` - 1 in their keyed order."""

    method: ClassVar[str] = "predict"
    first: int
    last: int


class RangeReport(NamedTuple):
    """What a range of steps did: `loss` and `active` are sums over the labelled samples; `seconds` it took."""

    n_samples: int
    n_labelled: int
    loss: float
    active: float
    seconds: float
