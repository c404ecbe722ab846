"""Active sets of the parts of a network: layers with tables, and shards of the output layer."""

from __future__ import annotations

import dataclasses

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.micro_batches import MicroBatch
from slide_ref.common.parts import Part
from slide_ref.common.rng import Key
from slide_ref.common.sparse_rows import SparseRows

from .correction import inclusion
from .hash_tables import Tables
from .kernels.scratch import Scratch
from .sampling import Active, active_sets, nothing, retrieve


def ids_between(rows: SparseRows, first: int, last: int) -> SparseRows:
    """Keep ids `first` to `last` - 1 of each row of ids without values, renumbered from `first`."""
    if (first, last) == (0, rows.n_columns):
        return rows
    own = rows.where((rows.indices >= first) & (rows.indices < last))
    return SparseRows(own.indptr, own.indices - np.int32(first), None, last - first)


def labels_in(part: Part, config: Config, batch: MicroBatch) -> SparseRows:
    """Return each sample's true labels that lie in a part, numbered within it. Hidden layers have none."""
    if part.layer < len(config.hidden):
        return SparseRows(np.zeros(len(batch.samples) + 1, dtype=np.int64), np.empty(0, dtype=np.int32), None, 0)
    return ids_between(batch.data.labels, part.first, part.last)


def without_tables(lsh: LshConfig) -> LshConfig:
    """Return table settings for in-batch steps: no tables, a quarter of the padding. Implements S32."""
    return dataclasses.replace(lsh, L=0, min_active=lsh.min_active // 4)


def settings_in(part: Part, config: Config, batch: MicroBatch) -> LshConfig:
    """Return a part's table settings for a step; an in-batch step queries no tables. Implements S32."""
    if batch.in_batch and part.layer == len(config.hidden):
        return without_tables(part.lsh)
    return part.lsh


def choose_in_part(
    part: Part,
    tables: Tables,
    addresses: np.ndarray | None,
    config: Config,
    batch: MicroBatch,
    scratch: Scratch,
    priors: np.ndarray | None = None,
) -> Active:
    """Choose a part's active neurons for a micro-batch, with their inclusion probabilities. Implements S31.

    Like `slide_ref.active_sets.choose_in_part`, but returns one compact `Active`, whose ids are numbered within the
    layer. `addresses` is None if no table is queried; `priors` are those of the part's labels.
    """
    n, lsh = part.last - part.first, settings_in(part, config, batch)
    key = Key(config.seed, part.word, batch.epoch, batch.step)
    retrieved = nothing(len(batch.samples))
    if lsh.L:
        assert addresses is not None
        retrieved = retrieve(tables, addresses, lsh, key, batch.samples)
    labels = labels_in(part, config, batch)
    active = active_sets(scratch, retrieved, labels, lsh, config.scope, n, key, batch.samples)
    if priors is not None:
        active = active._replace(inclusion=inclusion(scratch, active, retrieved, labels, priors))
    return active._replace(ids=active.ids + part.first)


def unite(parts: list[Active], first: int = 0) -> Active:
    """Concatenate the active sets of a layer's consecutive parts; ids are renumbered from row `first`."""
    if len(parts) == 1 and not first:
        return parts[0]
    ids = np.concatenate([active.ids for active in parts]) - first
    masks = [active.mask for active in parts if active.mask is not None]  # all parts have one, or none has
    probabilities = [active.inclusion for active in parts if active.inclusion is not None]
    return Active(ids, *(np.concatenate(arrays, axis=-1) if arrays else None for arrays in (masks, probabilities)))
