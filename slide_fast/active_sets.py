"""Active sets in the parts of a network: layers with tables, and the shards of the output layer."""

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
    """Keep the ids `first` to `last` - 1 of each row of ids without values, counted from `first`."""
    if (first, last) == (0, rows.n_columns):
        return rows
    kept = (rows.indices >= first) & (rows.indices < last)
    indptr = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    return SparseRows(indptr, rows.indices[kept] - np.int32(first), None, last - first)


def labels_in(part: Part, config: Config, batch: MicroBatch) -> SparseRows:
    """Return the true labels of each sample that are neurons of a part, counted within it. Hidden layers have none."""
    if part.layer < len(config.hidden):
        return SparseRows(np.zeros(len(batch.samples) + 1, dtype=np.int64), np.empty(0, dtype=np.int32), None, 0)
    return ids_between(batch.data.labels, part.first, part.last)


def without_tables(lsh: LshConfig) -> LshConfig:
    """Return how neurons are chosen in in-batch steps: no tables, a quarter of the padding. Implements S32."""
    return dataclasses.replace(lsh, L=0, min_active=lsh.min_active // 4)


def settings_in(part: Part, config: Config, batch: MicroBatch) -> LshConfig:
    """Return how the neurons of a part are chosen in a step: with its tables, or without. Implements S32."""
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
    """Choose the neurons of a part that are active for a micro-batch, and tell how probable that was. Implements S31.

    As `slide_ref.active_sets.choose_in_part`, into one compact `Active`, whose ids count within the layer. `addresses`
    is None where no table is queried; `priors` are those of the part's labels.
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
    """Unite the active sets of a layer's parts, which follow each other; count ids from row `first` on."""
    if len(parts) == 1 and not first:
        return parts[0]
    ids = np.concatenate([active.ids for active in parts]) - first
    masks = [active.mask for active in parts if active.mask is not None]  # all parts have one, or none has
    probabilities = [active.inclusion for active in parts if active.inclusion is not None]
    return Active(ids, *(np.concatenate(arrays, axis=-1) if arrays else None for arrays in (masks, probabilities)))
