"""Shards of the output layer, which are ranges of labels, and the parts of a network that have their own tables."""

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
        From 0; also 0 if the layer is not split.
    first, last : int
        The part holds neurons `first` to `last` - 1 of the layer.
    lsh : LshConfig
        Settings of this part: a shard gets its share of the budget and the padding.
    """

    layer: int
    shard: int
    first: int
    last: int
    lsh: LshConfig

    @property
    def word(self) -> int:
        """The part's word in keys: the layer number in the lower bits, the shard number above it. Implements S31."""
        return self.layer + (self.shard << 32)

    @property
    def name(self) -> str:
        """The part's suffix in array names: the layer, and the shard unless it is the first."""
        return f"{self.layer}_{self.shard}" if self.shard else f"{self.layer}"


def label_edges(config: Config, n_labels: int) -> list[int]:
    """Return the first label of each shard, followed by the number of labels. Implements S31.

    Raises
    ------
    ConfigError
        If there are more shards than labels.
    """
    if config.shards > n_labels:
        raise ConfigError(f"shards is {config.shards}; it must be at most the number of labels, which is {n_labels}")
    return [shard * n_labels // config.shards for shard in range(config.shards + 1)]


def parts_of(config: Config, n_labels: int, shards: range | None = None) -> dict[int, Part]:
    """Return all parts of a network that have tables, by their words in keys. Implements S31.

    Parameters
    ----------
    config : Config
    n_labels : int
    shards : range, optional
        Shards of the output layer to return; default: all.

    Raises
    ------
    ConfigError
        As for `label_edges`.
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
