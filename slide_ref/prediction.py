"""Prediction: the k best labels, over all of them, or over those that the tables of the output layer return.

Hidden layers are evaluated in full, whatever was sampled in training.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .common.config import Config, LshConfig
from .common.hash_constants import HashConstants
from .common.parameters import Layer
from .common.sparse_rows import SparseRows
from .hash_tables import HashTables, build_tables
from .hashing import addresses_of, hash_constants
from .network import Activation, forward
from .sampling import top_k


class Index(NamedTuple):
    """Tables of the output layer, as prediction uses them.

    Attributes
    ----------
    tables : HashTables
    constants : HashConstants
        Of the hash functions.
    lsh : LshConfig
    seed, layer : int
        Words of the keys.
    """

    tables: HashTables
    constants: HashConstants
    lsh: LshConfig
    seed: int
    layer: int


def build_index(config: Config, layers: list[Layer], rebuild: int) -> Index:
    """Tables over all output neurons with their weights of now. Implements S28.

    Parameters
    ----------
    config : Config
    layers : list of Layer
    rebuild : int
        The number of this rebuild: how many there were in training, or 0 where that is not known.
    """
    layer, W = len(layers) - 1, layers[-1].W
    constants = hash_constants(config.lsh, config.seed, layer, W.shape[1])
    tables = build_tables(W, constants, config.lsh, config.seed, layer, rebuild)
    return Index(tables, constants, config.lsh, config.seed, layer)


def candidates(index: Index, inputs: np.ndarray, budget: int) -> np.ndarray:
    """The neurons that stand in a sample's L buckets, or the `budget` that stand in most of them. Implements S28.

    Parameters
    ----------
    index : Index
    inputs : ndarray of float, shape (n_inputs,)
        What enters the output layer.
    budget : int
        Of neurons in equally many buckets those of lower id are taken; 0 means no limit.

    Returns
    -------
    ndarray of int64
        Distinct ids, ascending.
    """
    addresses = addresses_of(inputs[None], index.constants, index.lsh, index.seed, index.layer)[0]
    return np.sort(top_k(index.tables.query(addresses), budget))


def _best(logits: list[Activation], k: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores of the k largest logits of each sample, with places for those that are missing."""
    ids = np.full((len(logits), k), -1, dtype=np.int32)
    scores = np.full((len(logits), k), -np.inf, dtype=dtype)
    for i, row in enumerate(logits):
        best = np.argsort(-row.values, kind="stable")[:k]
        ids[i, : len(best)] = row.ids[best]
        scores[i, : len(best)] = row.values[best]
    return ids, scores


def predict_topk(layers: list[Layer], features: SparseRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k labels of largest logit for each row. Implements S15.

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
    layers: list[Layer], features: SparseRows, k: int, index: Index, budget: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k labels of largest logit among those that the tables return for each row. Implements S28.

    Parameters
    ----------
    layers : list of Layer
    features : SparseRows, shape (n_samples, n_features)
    k : int
        1 or more.
    index : Index
        From `build_index`.
    budget : int
        As in `candidates`.

    Returns
    -------
    ids : ndarray of int32, shape (n_samples, k)
        Best first; of equal scores the lower id comes first; -1 where fewer than k labels were found.
    scores : ndarray of float, shape (n_samples, k)
        Logits; -inf where the id is -1.
    n_candidates : ndarray of int64, shape (n_samples,)
        How many labels were found.
    """

    def choose(l: int, inputs: list[Activation]) -> list[np.ndarray]:
        if l < index.layer:
            return [np.arange(len(layers[l].b))] * len(inputs)
        return [candidates(index, sample.values, budget) for sample in inputs]

    trace = forward(layers, features, choose)
    n_candidates = np.array([len(logits.ids) for logits in trace[-1]], dtype=np.int64)
    return *_best(trace[-1], k, layers[-1].W.dtype), n_candidates
