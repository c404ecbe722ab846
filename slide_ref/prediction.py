"""Prediction: the k best labels, over all of them, or over those of largest norm and what tables of the others return.

Hidden layers are evaluated in full, whatever was sampled in training.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .common.config import Config
from .common.hash_constants import HashConstants
from .common.lsh_config import LshConfig
from .common.parameters import Layer
from .common.sparse_rows import SparseRows
from .hash_tables import HashTables, build_tables
from .hashing import addresses_of, hash_constants
from .network import Activation, forward


class Index(NamedTuple):
    """The output layer as prediction looks things up in it.

    Attributes
    ----------
    head, tail : ndarray of int64
        The neurons of largest norm, and all others; ascending.
    tables : HashTables
        Over the tail: they hold places in it.
    constants : HashConstants
        Of the hash functions.
    lsh : LshConfig
    seed, layer : int
        Words of the keys.
    """

    head: np.ndarray
    tail: np.ndarray
    tables: HashTables
    constants: HashConstants
    lsh: LshConfig
    seed: int
    layer: int


def squared_norms(layer: Layer) -> np.ndarray:
    """Return each neuron's squared distance from the mean neuron, weights and bias, float64: how far its logits reach.

    Implements S28 (compare Yan et al., Norm-ranging LSH, NeurIPS 2018).
    """
    from_mean = layer.W - layer.W.mean(axis=0, dtype=np.float64)
    return (from_mean**2).sum(axis=1) + (layer.b - layer.b.mean(dtype=np.float64)) ** 2


def build_index(config: Config, layers: list[Layer], rebuild: int, n_head: int = 0) -> Index:
    """Choose the head of the output layer, and build tables over the rest. Implements S28.

    Parameters
    ----------
    config : Config
    layers : list of Layer
    rebuild : int
        The number of this rebuild: how many there were in training, or 0 where that is not known.
    n_head : int
        Size of the head.
    """
    layer, W = len(layers) - 1, layers[-1].W
    by_norm = np.argsort(-squared_norms(layers[-1]), kind="stable")
    head, tail = np.sort(by_norm[:n_head]), np.sort(by_norm[n_head:])
    constants = hash_constants(config.lsh, config.seed, layer, W.shape[1])
    tables = build_tables(W[tail], constants, config.lsh, config.seed, layer, rebuild)
    return Index(head, tail, tables, constants, config.lsh, config.seed, layer)


def candidates(index: Index, inputs: np.ndarray) -> np.ndarray:
    """Return the head and what a sample's L buckets hold. Implements S28.

    Parameters
    ----------
    index : Index
    inputs : ndarray of float, shape (n_inputs,)
        What enters the output layer.

    Returns
    -------
    ndarray of int64
        Distinct ids, ascending.
    """
    addresses = addresses_of(inputs[None], index.constants, index.lsh, index.seed, index.layer)[0]
    return np.unique(np.concatenate([index.head, *(index.tail[found] for found in index.tables.query(addresses))]))


def _best(logits: list[Activation], k: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and scores of the k largest logits of each sample, with places for those that are missing."""
    ids = np.full((len(logits), k), -1, dtype=np.int32)
    scores = np.full((len(logits), k), -np.inf, dtype=dtype)
    for i, row in enumerate(logits):
        best = np.argsort(-row.values, kind="stable")[:k]
        ids[i, : len(best)] = row.ids[best]
        scores[i, : len(best)] = row.values[best]
    return ids, scores


def predict_topk(layers: list[Layer], features: SparseRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k labels of largest logit for each row. Implements S15.

    Parameters
    ----------
    layers : list of Layer
    features : SparseRows, shape (n_samples, n_features)
    k : int
        1 or more.

    Returns
    -------
    ids : ndarray of int32, shape (n_samples, k)
        Best first; of equal scores the lower id comes first; -1 where there are fewer than k labels.
    scores : ndarray of float, shape (n_samples, k)
        Logits; -inf where the id is -1.
    """
    trace = forward(layers, features, lambda l, inputs: [np.arange(len(layers[l].b))] * len(inputs))
    return _best(trace[-1], k, layers[-1].W.dtype)


def predict_topk_lsh(
    layers: list[Layer], features: SparseRows, k: int, index: Index
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the k labels of largest logit among each row's candidates. Implements S28.

    Parameters
    ----------
    layers : list of Layer
    features : SparseRows, shape (n_samples, n_features)
    k : int
        1 or more.
    index : Index
        From `build_index`.

    Returns
    -------
    ids : ndarray of int32, shape (n_samples, k)
        Best first; of equal scores the lower id comes first; -1 where fewer than k labels were found.
    scores : ndarray of float, shape (n_samples, k)
        Logits; -inf where the id is -1.
    n_candidates : ndarray of int64, shape (n_samples,)
        How many candidates each row has.
    """

    def choose(l: int, inputs: list[Activation]) -> list[np.ndarray]:
        if l < index.layer:
            return [np.arange(len(layers[l].b))] * len(inputs)
        return [candidates(index, sample.values) for sample in inputs]

    trace = forward(layers, features, choose)
    n_candidates = np.array([len(logits.ids) for logits in trace[-1]], dtype=np.int64)
    return *_best(trace[-1], k, layers[-1].W.dtype), n_candidates
