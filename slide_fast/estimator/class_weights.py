"""Class weights, converted to sample weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.metrics import inverse_propensity
from slide_ref.common.sparse_rows import SparseRows

from .label_coding import shown
from .label_decoding import places_of
from .validation import numbers_in, require_weights


def label_weights(class_weight: str | Mapping[Any, float], labels: SparseRows, classes: np.ndarray) -> np.ndarray:
    """Return the weight of each label, float64, shape (n_labels,).

    Parameters
    ----------
    class_weight : str or mapping
        As in `SlideClassifier`; inverse propensities are those of S16.
    labels : SparseRows, shape (n_samples, n_labels)
        Labels of the training samples.
    classes : ndarray, shape (n_labels,)

    Raises
    ------
    DataError
        If the mapping has a key that is not a label, or a weight that is not a single number, negative or not finite.
    """
    counts = np.bincount(labels.indices, minlength=labels.n_columns)
    if class_weight == "propensity":
        return inverse_propensity(counts, labels.n_rows)
    if class_weight == "balanced":
        return labels.nnz / (np.count_nonzero(counts) * np.maximum(counts, 1))
    assert isinstance(class_weight, Mapping)
    known, given = list(class_weight), numbers_in(list(class_weight.values()), "class_weight")
    if given.ndim != 1:
        raise DataError(f"class_weight, label {shown(known[0])}: holds several numbers; give one for each label")
    require_weights(given, "class_weight", lambda i: f"label {shown(known[i])}")
    weights = np.ones(len(classes))
    weights[places_of(known, classes, 1, "class_weight")] = given
    return weights


def weights_of_samples(
    class_weight: str | Mapping[Any, float] | None, labels: SparseRows, classes: np.ndarray, given: np.ndarray | None
) -> np.ndarray | None:
    """Return the mean weight of each sample's labels, times its own weight; None if no weights are given.

    Samples without labels keep their own weight. Raises DataError if samples with labels have no weight, or too large
    ones.
    """
    if not labels.nnz:
        return given
    counts, weights = np.diff(labels.indptr), given
    if class_weight is not None:
        of_labels = label_weights(class_weight, labels, classes)
        sums = np.bincount(labels.row_of(), of_labels[labels.indices], minlength=labels.n_rows)
        means = np.divide(sums, counts, out=np.ones(labels.n_rows), where=counts > 0)
        with np.errstate(over="ignore", invalid="ignore"):
            weights = means if given is None else means * given
    if weights is not None:
        both = ("sample_weight", given), ("class_weight", class_weight)
        _check_products(weights, counts > 0, " and ".join(name for name, value in both if value is not None))
    return weights


def _check_products(weights: np.ndarray, are_labelled: np.ndarray, names: str) -> None:
    """Raise DataError if samples with labels have no weight, or if weights are too large to sum."""
    if not weights[are_labelled].any():
        raise DataError(f"{names}: the samples with labels to train on have weight 0; give some of them more")
    with np.errstate(over="ignore"):
        if not np.isfinite(weights.sum()):
            raise DataError(f"{names}: the weights of the samples are too large to sum; scale them down")
