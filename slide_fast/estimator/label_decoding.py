"""Conversion between output ids and the label values of y."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from slide_ref.common.errors import DataError, ModelError
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.array_files import SAVE_AGAIN
from slide_ref.common.storage.model_folder import Model

from ..parallel.machine import require_memory
from .label_coding import as_array, from_json, names_of, to_json
from .validation import KINDS, as_labels

_LAST: tuple[Callable[[], np.ndarray | None], bool] = (lambda: None, False)


def are_ids(classes: np.ndarray) -> bool:
    """Tell whether the classes are ids: whole numbers from 0, of the default dtype of ids.

    The last answer is cached: with very many labels, checking all of them takes longer than a prediction.
    """
    global _LAST
    array, answer = _LAST
    if array() is not classes:
        answer = classes.dtype == np.int64 and np.array_equal(classes, np.arange(len(classes)))
        _LAST = weakref.ref(classes), answer
    return answer


def in_words(ids: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the label values of ids; for id -1: -1 for integer dtypes, NaT for times, else None."""
    if are_ids(classes):
        return ids
    names, missing = classes[ids], ids < 0
    if not missing.any():
        return names
    kind = names.dtype.kind
    if kind not in "iMm":
        names = names.astype(object)  # numbers without a sign, too: among them there is no -1
    names[missing] = "NaT" if kind in "Mm" else -1 if kind in "iu" else None
    return names


def as_in_training(ids: np.ndarray, classes: np.ndarray, kind: str) -> Any:
    """Return labels, the same number per sample, in the form that y had: one of `KINDS`."""
    if kind == "classes":
        return classes[ids[:, 0]]
    if kind == "lists":
        labels = classes[np.sort(ids, axis=1)]
        return [list(row) for row in labels] if labels.dtype.kind in "Mm" else labels.tolist()
    n_rows, k = ids.shape
    if kind == "indicator":
        dense = np.zeros((n_rows, len(classes)), dtype=np.int64)
        np.put_along_axis(dense, ids.astype(np.int64), 1, axis=1)
        return dense
    rows = SparseRows(np.arange(n_rows + 1) * k, np.sort(ids, axis=1).ravel(), None, len(classes))
    if kind == "rows":
        return rows
    from scipy.sparse import csr_array  # Y was one of SciPy's

    return csr_array((np.ones(rows.nnz, dtype=np.int64), rows.indices, rows.indptr), shape=rows.shape)


def places_of(labels: Any, classes: np.ndarray, n_samples: int, name: str = "labels") -> np.ndarray:
    """Return the ids of labels; None: all, provided that their scores for all samples fit in memory."""
    n = len(classes)
    if labels is None:
        what = f"scores of {n} labels for {n_samples} samples need"
        require_memory(8 * n * n_samples, what, "choose some with labels=…")
        return np.arange(n)
    wanted = as_labels(labels, classes, name=name)
    if wanted.kind != "classes":
        raise DataError(f"{name} is not a plain sequence; give a sequence of some of classes_")
    return wanted.rows.indices


def with_classes(model: Model, classes: np.ndarray, kind: str, labels_per_sample: float) -> Model:
    """Return a model that also stores its label values and their form in y, for `classes_of` and `form_of`."""
    facts, names, values = {"labels_kind": kind, "labels_per_sample": labels_per_sample}, model.label_names, None
    if not are_ids(classes):
        values, facts["labels_dtype"] = to_json(classes)
        names = names_of(classes)
    return dataclasses.replace(model, facts=model.facts | facts, label_names=names, label_values=values)


def form_of(model: Model) -> tuple[str, float]:
    """Return the form of y, one of `KINDS`, and the mean number of labels per labelled sample. Raises ModelError."""
    kind, several = model.facts.get("labels_kind"), model.facts.get("labels_per_sample", 1.0)
    if isinstance(several, bool) or not isinstance(several, (int, float)) or not 0 <= several <= model.n_labels:
        raise ModelError(
            f"config.json: labels_per_sample is {several!r}, not a number from 0 to {model.n_labels}; {SAVE_AGAIN}"
        )
    return kind if kind in KINDS else "rows", float(several)


def classes_of(model: Model) -> np.ndarray:
    """Return the labels as in y: values stored in the model, else its label names, else ids.

    Raises
    ------
    ModelError
        If the values or names are not of the kind that the model declares.
    """
    dtype, names = model.facts.get("labels_dtype"), model.label_names
    try:
        if model.label_values is not None:
            return from_json(model.label_values, dtype)
        if names is None:
            return np.arange(model.n_labels)
        if dtype is None:
            return as_array(names)
        kind = np.dtype(dtype)  # as models were saved before they kept values
        if kind.kind == "S":
            raise ValueError("their names do not identify bytes")
        return np.array(names) == "True" if kind.kind == "b" else np.array(names).astype(kind)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the labels are not of dtype {dtype!r}, as the model requires") from error
