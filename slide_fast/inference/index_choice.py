"""What an index must look like to find a wanted share of the exact answers at the least cost."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.errors import DataError
from slide_ref.common.lsh_config import LshConfig, share, whole
from slide_ref.common.parameters import Layer, layers_of
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.model_folder import Model

from ..hashing import addresses_of, hash_constants
from ..kernels.scratch import Scratch
from ..prediction import Index, build_index, hidden_outputs, predict_topk, squared_norms

RECALL = 0.9  # unless the user says otherwise
ROWS = 256  # on which settings are tried
RESERVE = 0.01  # of recall, since these rows are few
DIGITS = range(8, 17)
MOST_TABLES = 100
LABELS_COUNTED = 16384  # of a table, to tell how full its buckets are
SMALLEST_HEAD = 1024
# Reckoned, not fitted: what a label of the head costs is 1.
ENTRY_COST = 40  # of a neuron in a bucket, which is read, sorted, gathered and multiplied
PROJECTION_COST = 2  # of a digit of a code


class Choice(NamedTuple):
    """Settings of an index: its head and tables, and the recall they had on the rows they were tried on."""

    n_head: int
    lsh: LshConfig
    recall: float


def choose(
    config: Config, layers: list[Layer], features: SparseRows, k: int, recall: float, n_threads: int = 1
) -> Choice:
    """The cheapest head and tables that find a share of the exact answers to some rows.

    Nothing is timed, so the choice is the same on every machine. No tables need to be built to try them: a
    table finds an answer if row and answer have the same address in it.

    Parameters
    ----------
    config : Config
        Of the training; its seed is used, its settings of tables are not.
    layers : list of Layer
        float32.
    features : SparseRows
        Rows like those to predict for later; the first `ROWS` are used.
    k : int
    recall : float
        Wanted recall at k, above 0 and at most 1 (S28).
    n_threads : int
        For the exact answers.

    Raises
    ------
    ConfigError
        If k or the recall is out of its range.
    DataError
        If there are no rows.
    """
    k, recall = whole("k", k, 1), share("recall", recall)
    if not features.n_rows:
        raise DataError("there are no samples to choose the tables with")
    rows = features.take(np.arange(min(ROWS, features.n_rows)))
    answers = predict_topk(layers, rows, k, n_threads)[0]
    answers = answers[:, : len(layers[-1].b)]
    inputs = hidden_outputs(layers, rows, Scratch()).copy()
    place = np.empty(len(layers[-1].b), dtype=np.int64)
    place[np.argsort(-squared_norms(layers[-1]), kind="stable")] = np.arange(len(place))
    wanted = min(recall + RESERVE, 1.0)
    choices = _heads_alone(config.lsh, place[answers], wanted, len(place))
    for K in DIGITS:
        choices += _with_tables(config, layers[-1], inputs, answers, place[answers], wanted, K)
    return min(choices, key=lambda costed: costed[0])[1]


def _sizes_of_head(n: int) -> list[int]:
    """Half of all labels is the largest head short of all."""
    return [0] + [1 << bits for bits in range(SMALLEST_HEAD.bit_length() - 1, 31) if 1 << bits <= n // 2]


def _heads_alone(lsh: LshConfig, places: np.ndarray, wanted: float, n: int) -> list[tuple[float, Choice]]:
    """Costs and choices without tables; the head of all labels is always good enough."""
    none = dataclasses.replace(lsh, family="simhash", strategy="vanilla", L=0)
    recalls = [(size, float((places < size).mean())) for size in [*_sizes_of_head(n), n]]
    return [(size, Choice(size, none, found)) for size, found in recalls if size == n or found >= wanted]


def _with_tables(
    config: Config, output: Layer, inputs: np.ndarray, answers: np.ndarray, places: np.ndarray, wanted: float, K: int
) -> list[tuple[float, Choice]]:
    """Costs and choices with tables of K digits, as few as will do, for each size of the head."""
    n = len(output.b)
    lsh = dataclasses.replace(
        config.lsh, family="simhash", strategy="vanilla", K=K, L=MOST_TABLES, bucket_size=n, bucket_bits=0
    )
    constants = hash_constants(lsh, config.seed, len(config.hidden), output.W.shape[1])
    labels, which = np.unique(answers, return_inverse=True)
    counted = np.arange(0, n, max(1, n // LABELS_COUNTED))
    asked, answering, sampled = (
        addresses_of(vectors, constants, lsh, config.seed, len(config.hidden))
        for vectors in (inputs, output.W[labels], output.W[counted])
    )
    found = np.logical_or.accumulate(answering[which.reshape(answers.shape)] == asked[:, None], axis=2)
    loads = [np.bincount(sampled[:, t], minlength=1 << K)[asked[:, t]].mean() for t in range(MOST_TABLES)]
    entries = np.cumsum(loads) * n / len(counted)
    choices = []
    for size in _sizes_of_head(n):
        recalls = (found | (places < size)[:, :, None]).mean(axis=(0, 1))
        if recalls[-1] >= wanted:
            L = int(np.argmax(recalls >= wanted)) + 1
            cost = size + ENTRY_COST * entries[L - 1] + PROJECTION_COST * K * L
            choices.append((float(cost), Choice(size, dataclasses.replace(lsh, L=L), float(recalls[L - 1]))))
    return choices


def index_of(model: Model, features: SparseRows, k: int, recall: float, n_threads: int = 1) -> tuple[Index, Choice]:
    """An index of a trained model that finds a share of the exact answers to rows like these; see `choose`."""
    layers = layers_of(model.arrays)
    choice = choose(model.config, layers, features, k, recall, n_threads)
    rebuilds = model.facts.get("rebuilds")
    config = dataclasses.replace(model.config, lsh=choice.lsh)
    return build_index(config, layers, rebuilds if isinstance(rebuilds, int) else 0, choice.n_head), choice
