"""The output layer in shards, ranges of labels, and which parts of a network have tables of their own."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from .config import Config
from .errors import ConfigError
from .lsh_config import LshConfig


class Part(NamedTuple):
    """A layer with tables, or one shard of the output layer.

    Attributes
    ----------
    layer : int
    shard : int
        From 0; 0 too where the layer is not split.
    first, last : int
        Its neurons are `first` to `last` - 1 of the layer.
    lsh : LshConfig
        Of this part: budget and padding of a shard are its share.
    """

    layer: int
    shard: int
    first: int
    last: int
    lsh: LshConfig

    @property
    def word(self) -> int:
        """What stands for the layer in keys: the layer's number, with the shard's above it. Implements S31."""
        return self.layer + (self.shard << 32)

    @property
    def name(self) -> str:
        """What stands for the part in names of arrays: the layer, and the shard unless it is the first."""
        return f"{self.layer}_{self.shard}" if self.shard else f"{self.layer}"


def label_edges(config: Config, n_labels: int) -> list[int]:
    """Return where the shards begin, and the number of labels, at which the last one ends. Implements S31.

    Raises
    ------
    ConfigError
        If there are more shards than labels.
    """
    if config.shards > n_labels:
        raise ConfigError(f"shards is {config.shards}; it must be at most the number of labels, which is {n_labels}")
    return [shard * n_labels // config.shards for shard in range(config.shards + 1)]


def parts_of(config: Config, n_labels: int, shards: range | None = None) -> dict[int, Part]:
    """Return all parts of a network that have tables, by the words that name them in keys. Implements S31.

    Parameters
    ----------
    config : Config
    n_labels : int
    shards : range, optional
        Which shards of the output layer are wanted; default: all.

    Raises
    ------
    ConfigError
        As `label_edges`.
    """
    edges, parts = label_edges(config, n_labels), []
    for layer, lsh in config.sampled_layers(n_labels).items():
        if layer < len(config.hidden):
            parts.append(Part(layer, 0, 0, config.hidden[layer], lsh))
            continue
        share = {key: -(-getattr(lsh, key) // config.shards) for key in ("budget", "min_active")}
        own = dataclasses.replace(lsh, **share)
        wanted = range(config.shards) if shards is None else shards
        parts += [Part(layer, shard, edges[shard], edges[shard + 1], own) for shard in wanted]
    return {part.word: part for part in parts}
