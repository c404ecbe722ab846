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
from .hash_tables import HashTables
from .kernels.scratch import Scratch
from .sampling import Active, active_sets, nothing, retrieve


def ids_between(rows: SparseRows, first: int, last: int) -> SparseRows:
    """The ids `first` to `last` - 1 of each row of ids without values, counted from `first`."""
    if (first, last) == (0, rows.n_columns):
        return rows
    kept = (rows.indices >= first) & (rows.indices < last)
    indptr = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    return SparseRows(indptr, rows.indices[kept] - np.int32(first), None, last - first)


def labels_in(part: Part, config: Config, batch: MicroBatch) -> SparseRows:
    """The true labels of each sample that are neurons of a part, counted within it. Hidden layers have none."""
    if part.layer < len(config.hidden):
        return SparseRows(np.zeros(len(batch.samples) + 1, dtype=np.int64), np.empty(0, dtype=np.int32), None, 0)
    return ids_between(batch.data.labels, part.first, part.last)


def without_tables(lsh: LshConfig) -> LshConfig:
    """How neurons are chosen in in-batch steps: no tables, and a quarter of the padding. Implements S32."""
    return dataclasses.replace(lsh, L=0, min_active=lsh.min_active // 4)


def settings_in(part: Part, config: Config, batch: MicroBatch) -> LshConfig:
    """How the neurons of a part are chosen in a step: those of its tables, or without these. Implements S32."""
    if batch.in_batch and part.layer == len(config.hidden):
        return without_tables(part.lsh)
    return part.lsh


def choose_in_part(
    part: Part,
    tables: HashTables,
    addresses: np.ndarray | None,
    config: Config,
    batch: MicroBatch,
    scratch: Scratch,
    priors: np.ndarray | None = None,
) -> Active:
    """The neurons of a part that are active for a micro-batch, and how probable that was. Implements S31.

    Parameters
    ----------
    part : Part
    tables : HashTables
        Over its neurons, which count from 0 within it.
    addresses : ndarray of int64, shape (n_samples, L), or None
        Bucket of each sample in each table; None where none is asked.
    config : Config
    batch : MicroBatch
    scratch : Scratch
    priors : ndarray of float64, shape (n,), optional
        Of the part's labels, from `slide_ref.common.priors.label_priors`; None: logits are not corrected.

    Returns
    -------
    Active
        Ids within the layer.
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
    """The active sets of a layer, or of its rows from `first` on, from those of its parts, which follow each other."""
    if len(parts) == 1 and not first:
        return parts[0]
    ids = np.concatenate([active.ids for active in parts]) - first
    masks = [active.mask for active in parts if active.mask is not None]  # all parts have one, or none has
    probabilities = [active.inclusion for active in parts if active.inclusion is not None]
    return Active(ids, *(np.concatenate(arrays, axis=-1) if arrays else None for arrays in (masks, probabilities)))
