"""Settings chosen for a problem, by counts of its data and by the occupancy of its tables."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from slide_ref.common.config import WIDE, Config
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.parameters import layers_of
from slide_ref.common.sparse_rows import Dataset, SparseRows

from ..hashing import addresses_of, hash_constants
from ..kernels.scratch import Scratch
from ..prediction import hidden_outputs
from .data_summary import n_labelled
from .layout import first_parameters

NAMES = ("micro_batch", "lsh.K", "lsh.bucket_size")
OF_INPUTS = ("input_scale", "initial_weights")  # chosen by the inputs alone
STEPS_PER_EPOCH = 32  # with fewer, micro-batches are made smaller
SMALLEST_BATCH = 64
BUDGETS_FOUND = 1  # budgets that a sample's buckets hold: fuller ones took longer and taught no more (docs/results.md)
DIGITS = range(4, 17)
ROWS = 256
LABELS_COUNTED = 65536
TIMES_MEAN = 4  # room in a bucket over its mean load
FEWEST_SAMPLES = 2_000  # for which a wide network is worth the time, and dense inputs are treated as such
LABELS_A_SAMPLE = 2
MANY_LABELS = 4  # per sample, for which P@5 needs more negatives than the labels of the micro-batch
DENSE = 0.5  # share of the features that the rows of embeddings store
USUAL_LENGTHS = (0.25, 16)  # of sparse samples: tf-idf has 1, bags of words up to 10
OF_LENGTH_1 = (0.99, 1.01)  # what rounding leaves of it
DENSE_EPOCHS, DENSE_SAMPLES = 16, 320_000  # at most so many epochs of embeddings, for so many samples in all
MOST_WEIGHTS = 1 << 28  # of a wide network: 1 GB


def decides_width(given: Collection[str]) -> bool:
    """Tell whether settings that the user has set determine the width of the network."""
    return any(name.split(".")[0] in ("hidden", "hidden_lsh", "scope", "lsh") for name in given)


def suited(config: Config, train: Dataset, given: Collection[str] = ()) -> tuple[Config, str]:
    """Choose the scale of unusual inputs, and a wide network if counts suggest that it is worth its time.

    Samples that are much longer or shorter than usual, and many dense ones, are trained as if they had length 1 (S39).
    Samples with several labels, and dense inputs such as embeddings, need more than 128 hidden neurons (measured in
    docs/results.md). A wide network uses the labels of its micro-batch as negatives and queries no tables; where
    samples have many labels each, uniform negatives are added after the in-batch steps. Of dense inputs the first layer
    passes all on at first (S40). Nothing is timed, so the choice is the same on every machine.

    Parameters
    ----------
    config : Config
    train : Dataset
    given : collection of str
        Names that the user has set: `input_scale` and `initial_weights` are then kept; with ``"hidden"`` or ``"lsh.K"``
        so is the width.

    Returns
    -------
    config : Config
        Unchanged if nothing is chosen.
    reason : str
        The reason and the cost, in words; empty if nothing is chosen.
    """
    features, length = train.features, _typical_length(train.features)
    n_values = features.n_rows * features.n_columns
    is_dense = features.n_rows >= FEWEST_SAMPLES and features.nnz >= DENSE * n_values > 0
    config, why = _with_width(config, train, is_dense, given)
    least, most = OF_LENGTH_1 if is_dense else USUAL_LENGTHS
    if "input_scale" not in given and not least <= length <= most:
        config = config.replace(input_scale=1 / length)
        why.append(f"input_scale={1 / length:.3g}, as samples have a length of about {length:.3g}")
    if is_dense and "initial_weights" not in given and not _hashes_at_once(config):
        config = config.replace(initial_weights="mirrored")
        why.append("initial_weights=mirrored, as inputs are dense")
    return config, "; ".join(why)


def _hashes_at_once(config: Config) -> bool:
    """Tell whether only hash tables of the output layer's first weights give the first steps their negatives.

    Zeros would all be in the same bucket, and fill it with neurons that are nobody's negatives.
    """
    has_hashes = config.lsh.L > 0 and config.lsh.family != "centroid"
    return has_hashes and not config.in_batch and not config.lsh.min_active


def _typical_length(features: SparseRows) -> float:
    """Return the root mean square length of samples with features; 1 if all values are 1, which have no unit."""
    data, n_stored = features.data, np.count_nonzero(np.diff(features.indptr))
    if data is None or not n_stored or (data == 1).all():
        return 1.0
    return math.sqrt(np.einsum("i,i->", data, data, dtype=np.float64) / n_stored)


def _width_for(n_inputs: int) -> int:
    """Return the width for dense inputs, near that of wide networks.

    It is a multiple of twice the inputs, so that mirrored pairs form whole bases (S40), unless that is too wide.
    """
    wide, basis = WIDE["hidden"][0], 2 * n_inputs
    if basis > 2 * wide:
        return wide
    return basis * max(round(wide / basis), 1)


def _with_width(config: Config, train: Dataset, is_dense: bool, given: Collection[str]) -> tuple[Config, list[str]]:
    """Choose a wide network, or keep the settings; return the settings, and the reason if there is one."""
    if decides_width(given):
        return config, []
    n, (features, labels) = train.n_samples, train
    width = _width_for(features.n_columns) if is_dense else WIDE["hidden"][0]
    if n < FEWEST_SAMPLES or (features.n_columns + labels.n_columns) * width > MOST_WEIGHTS:
        return config, []
    per_sample = labels.nnz / max(n_labelled(train), 1)
    why = ["inputs are dense"] if is_dense else []
    why += [f"samples have {per_sample:.1f} labels each"] if per_sample >= LABELS_A_SAMPLE else []
    if not why:
        return config, []
    epochs = max(WIDE["epochs"], min(DENSE_EPOCHS, DENSE_SAMPLES // n)) if is_dense else WIDE["epochs"]
    changes = WIDE | {"hidden": [width], "epochs": config.epochs or epochs}
    chosen, all_active = f"{width:,} hidden neurons", labels.n_columns <= LshConfig.min_active
    if is_dense:
        changes["lsh"] = WIDE["lsh"] | {"min_active": LshConfig.min_active}
        changes |= {} if "in_batch" in given else {"in_batch": 1.0}
        chosen += f", {changes['epochs']} epochs{'' if all_active else ' and some uniform negatives'}"
    elif per_sample >= MANY_LABELS:
        changes["lsh"] = WIDE["lsh"] | {"min_active": LshConfig.min_active}
        chosen += "" if all_active else " and uniform negatives after the in-batch steps"
    reason = f"{chosen}, as {' and '.join(why)}; --preset fast uses 128 neurons, in about a quarter of the time"
    return config.replace(**changes), [reason]


def tuned(config: Config, train: Dataset, given: Collection[str] = ()) -> Config:
    """Return settings with those in `NAMES` chosen for a problem; all others, and those in `given`, are kept.

    The number of digits is the largest for which a sample's buckets hold enough neurons for its budget, counted with
    initial weights. Nothing is timed, so the choice is the same on every machine.

    Parameters
    ----------
    config : Config
    train : Dataset
    given : collection of str
        Names that the user has set, such as ``"lsh.K"``.
    """
    if "micro_batch" not in given:
        wanted = train.n_samples // STEPS_PER_EPOCH
        size = 1 << max(wanted, 1).bit_length() - 1
        config = config.replace(micro_batch=min(max(size, SMALLEST_BATCH), Config().micro_batch))
    n_labels = train.labels.n_columns
    is_dense = config.lsh.min_active >= n_labels
    if is_dense or not config.lsh.L or config.lsh.family != "simhash" or config.lsh.strategy == "threshold":
        return config
    K = config.lsh.K if "lsh.K" in given else _digits(config, train)
    lsh = {"K": K}
    if "lsh.bucket_size" not in given:
        load = TIMES_MEAN * n_labels / (1 << K)
        lsh["bucket_size"] = 1 << max(math.ceil(math.log2(load)), 4)
    return config.replace(lsh=lsh)


def _digits(config: Config, train: Dataset) -> int:
    """Return the largest K for which the median sample's buckets hold `BUDGETS_FOUND` budgets, or the smallest K."""
    n, wanted = train.labels.n_columns, BUDGETS_FOUND * max(config.lsh.budget, 1)
    drawn = config.replace(initial_weights="gaussian")  # zeros (S40) would share a bucket, whatever K
    layers = layers_of(first_parameters(drawn, train.features.n_columns, min(n, LABELS_COUNTED)))
    rows = train.features.take(np.arange(min(ROWS, train.n_samples)))
    inputs, W = hidden_outputs(layers, rows, Scratch()).copy(), layers[-1].W
    for K in reversed(DIGITS):
        lsh = config.replace(lsh={"K": K, "bucket_bits": 0}).lsh
        constants = hash_constants(lsh, config.seed, len(config.hidden), W.shape[1])
        asked, stored = (addresses_of(X, constants, lsh, config.seed, len(config.hidden)) for X in (inputs, W))
        loads = [np.bincount(stored[:, t], minlength=1 << lsh.address_bits)[asked[:, t]] for t in range(lsh.L)]
        if np.median(np.sum(loads, axis=0)) * n / len(W) >= wanted:
            return K
    return DIGITS[0]
