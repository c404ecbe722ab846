"""Tasks of all processes of an MPI run, in addition to those of `slide_fast.engine.tasks`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class Order:
    """Put the samples in the order of an epoch (S13)."""

    method: ClassVar[str] = "order"
    epoch: int


@dataclass(frozen=True)
class Rebuild:
    """Build the tables of some layers: rebuild `number` (S14)."""

    method: ClassVar[str] = "rebuild"
    number: int
    layers: list[int]


@dataclass(frozen=True)
class Level:
    """Replace every rank's hidden layers by those of rank 0 (S31)."""

    method: ClassVar[str] = "level"


@dataclass(frozen=True)
class Rows:
    """Send to rank 0 rows `first` to `last` - 1 of an array that rank `holder` has."""

    method: ClassVar[str] = "rows"
    name: str
    holder: int
    first: int
    last: int


@dataclass(frozen=True)
class Check:
    """Raise DivergedError if a weight on any rank is not finite after a step (S29)."""

    method: ClassVar[str] = "check"
    step: int


@dataclass(frozen=True)
class KeepBest:
    """Remember the current network as the best."""

    method: ClassVar[str] = "keep_best"


@dataclass(frozen=True)
class LoadBest:
    """Remember the network of a model folder as the best."""

    method: ClassVar[str] = "load_best"
    folder: Path


@dataclass(frozen=True)
class RestoreBest:
    """Restore the network that was remembered."""

    method: ClassVar[str] = "restore_best"


@dataclass(frozen=True)
class Peaks:
    """Send to rank 0 the peak memory of each rank, in bytes."""

    method: ClassVar[str] = "peaks"
