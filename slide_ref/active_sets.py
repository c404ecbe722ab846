"""Active sets of one part of a network: a layer with tables, or one shard of the output layer."""

from __future__ import annotations

import dataclasses

import numpy as np

from .common.config import Config
from .common.lsh_config import LshConfig
from .common.micro_batches import MicroBatch
from .common.parts import Part
from .common.rng import Key
from .correction import inclusion
from .hash_tables import Tables
from .sampling import active_sets, retrieve


def labels_in(part: Part, config: Config, batch: MicroBatch) -> list[np.ndarray]:
    """Return each sample's true labels that lie in a part, numbered within it. Hidden layers have none."""
    if part.layer < len(config.hidden):
        return [np.arange(0)] * len(batch.samples)
    rows = (batch.data.labels.row(i)[0] for i in range(len(batch.samples)))
    return [ids[(ids >= part.first) & (ids < part.last)] - part.first for ids in rows]


def settings_in(part: Part, config: Config, batch: MicroBatch) -> LshConfig:
    """Return a part's table settings for a step; an in-batch step queries no tables. Implements S32."""
    if batch.in_batch and part.layer == len(config.hidden):
        return dataclasses.replace(part.lsh, L=0, min_active=part.lsh.min_active // 4)
    return part.lsh


def choose_in_part(
    part: Part,
    tables: Tables,
    addresses: np.ndarray,
    config: Config,
    batch: MicroBatch,
    priors: np.ndarray | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Choose a part's active neurons for each sample, and return their inclusion probabilities. Implements S31.

    Parameters
    ----------
    part : Part
    tables : HashTables or CentroidTable
        Over the part's neurons, numbered from 0 within it.
    addresses : ndarray of int64, shape (n_samples, L)
        Bucket of each sample in each table.
    config : Config
    batch : MicroBatch
    priors : ndarray of float64, shape (n_labels,), optional
        From `slide_ref.common.priors.label_priors`; None: logits are not corrected. Hidden layers are never corrected.

    Returns
    -------
    sets : list of ndarrays of int64
        Ids within the layer, one active set per sample, ascending and without duplicates.
    probabilities : list of ndarrays of float64, or None
        From `slide_ref.correction.inclusion`; None if logits are not corrected.
    """
    n, lsh = part.last - part.first, settings_in(part, config, batch)
    key = Key(config.seed, part.word, batch.epoch, batch.step)
    retrieved = [
        retrieve(tables.query(own) if lsh.L else [], lsh, key, int(sample))
        for own, sample in zip(addresses, batch.samples, strict=True)
    ]
    labels = labels_in(part, config, batch)
    sets = active_sets(retrieved, labels, lsh, config.scope, n, key, batch.samples)
    probabilities = None
    if priors is not None and part.layer == len(config.hidden):
        probabilities = inclusion(sets, retrieved, labels, config.scope, priors[part.first : part.last])
    return [ids + part.first for ids in sets], probabilities
