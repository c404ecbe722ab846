"""Active sets of a layer, and of its parts: a layer with tables, or one shard of the output layer."""

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
from .hashing import addresses_of
from .network import Activation, Network
from .sampling import active_sets, retrieve


def labels_in(part: Part, config: Config, batch: MicroBatch) -> list[np.ndarray]:
    """Return each sample's true labels in a part, ascending, counted from its first neuron; hidden layers have none."""
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


def choose_active(
    network: Network, l: int, inputs: list[Activation], batch: MicroBatch
) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Choose each sample's active set in layer l, given the layer's inputs. Implements S25 and S30.

    A layer without tables is computed in full. Each shard of the output layer chooses among its own neurons (S31).

    Returns
    -------
    sets : list of ndarrays of int64
    probabilities : list of ndarrays of float64, or None
        From `inclusion`, in the output layer if its logits are corrected.
    """
    layer, parts = network.layers[l], [part for part in network.parts.values() if part.layer == l]
    if not parts:
        return [np.arange(len(layer.b))] * len(inputs), None
    vectors = np.zeros((len(inputs), layer.W.shape[1]), dtype=layer.W.dtype)
    for vector, activation in zip(vectors, inputs, strict=True):
        vector[activation.ids] = activation.values
    chosen, probabilities = [], []
    for part in parts:
        addresses = addresses_of(vectors, network.constants[part.word], part.lsh, network.config.seed, part.word)
        in_part = choose_in_part(part, network.tables[part.word], addresses, network.config, batch, network.priors)
        chosen.append(in_part[0])
        probabilities.append(in_part[1])
    sets = [np.concatenate(own) for own in zip(*chosen, strict=True)]
    if probabilities[0] is None:
        return sets, None
    return sets, [np.concatenate(own) for own in zip(*probabilities, strict=True)]
