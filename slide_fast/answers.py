"""Labels in the user's words: from places among the outputs back to what stood in y, and the other way."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from slide_ref.common.errors import DataError, ModelError
from slide_ref.common.model_folder import Model
from slide_ref.common.sparse_rows import SparseRows

from .inputs import KINDS
from .machine import memory_left
from .units import size


def are_ids(classes: np.ndarray) -> bool:
    """Whether the classes are whole numbers from 0."""
    return classes.dtype.kind in "iu" and np.array_equal(classes, np.arange(len(classes)))


def in_words(ids: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """What stands for labels in y; where an id is -1, -1 or None."""
    if are_ids(classes):
        return ids
    names, missing = classes[ids], ids < 0
    if not missing.any():
        return names
    if names.dtype.kind not in "iu":
        names = names.astype(object)
    names[missing] = -1 if names.dtype.kind in "iu" else None
    return names


def as_in_training(ids: np.ndarray, classes: np.ndarray, kind: str) -> Any:
    """Labels, as many for each sample, in the form that y had: one of `KINDS`."""
    if kind == "classes":
        return classes[ids[:, 0]]
    if kind == "lists":
        return [[classes[i] for i in row] for row in np.sort(ids, axis=1)]
    n_rows, k = ids.shape
    if kind == "indicator":
        dense = np.zeros((n_rows, len(classes)), dtype=np.int64)
        np.put_along_axis(dense, ids.astype(np.int64), 1, axis=1)
        return dense
    rows = SparseRows(np.arange(n_rows + 1) * k, np.sort(ids, axis=1).ravel(), None, len(classes))
    return _as_csr(rows) if kind == "sparse indicator" else rows


def _as_csr(rows: SparseRows) -> Any:
    from scipy.sparse import csr_array  # Y was one of SciPy's

    return csr_array((np.ones(rows.nnz, dtype=np.int64), rows.indices, rows.indptr), shape=rows.shape)


def places_of(labels: Any, classes: np.ndarray, n_samples: int) -> np.ndarray:
    """Where labels stand in `classes`; None: all of them, if their scores for so many samples fit in memory."""
    n = len(classes)
    if labels is None:
        left = memory_left()
        if left is not None and 8 * n * n_samples > left:
            need = f"{size(8 * n * n_samples)}, and {size(left)} are left"
            raise MemoryError(f"scores of {n} labels for {n_samples} samples need {need}; choose some with labels=…")
        return np.arange(n)
    wanted = np.asarray(labels)
    places = np.minimum(np.searchsorted(classes, wanted), n - 1)
    unknown = np.flatnonzero(classes[places] != wanted)
    if wanted.ndim != 1 or len(unknown):
        what = repr(wanted[unknown[0]].item()) if wanted.ndim == 1 else f"an array of {wanted.ndim} dimensions"
        raise DataError(f"labels holds {what}; give a sequence of some of classes_")
    return places


def are_right(best: np.ndarray, truths: SparseRows) -> np.ndarray:
    """1 for each sample whose best label is one of its own, else 0."""
    row_of = np.repeat(np.arange(truths.n_rows), np.diff(truths.indptr))
    return np.bincount(row_of[truths.indices == best[row_of]], minlength=truths.n_rows)


def with_classes(model: Model, classes: np.ndarray, kind: str, labels_per_sample: float) -> Model:
    """A model that also says what its labels were in y; `classes_of` and `form_of` read it."""
    facts, names = {"labels_kind": kind, "labels_per_sample": labels_per_sample}, model.label_names
    if not are_ids(classes):
        names = [str(label) for label in classes.tolist()]
        facts["labels_dtype"] = "str" if classes.dtype == object else classes.dtype.str
    return dataclasses.replace(model, facts=model.facts | facts, label_names=names)


def form_of(model: Model) -> tuple[str, float]:
    """The form of y, one of `KINDS`, and the mean number of labels of a labelled sample."""
    kind, several = model.facts.get("labels_kind"), model.facts.get("labels_per_sample")
    return kind if kind in KINDS else "rows", several if isinstance(several, (int, float)) else 1.0


def classes_of(model: Model) -> np.ndarray:
    """What stands for each label in y. Raises ModelError if the model's names are not of the kind that it says."""
    dtype = model.facts.get("labels_dtype")
    if dtype is None or model.label_names is None:
        return np.arange(model.n_labels)
    try:
        kind = np.dtype(dtype)
        names = np.array(model.label_names)
        return names == "True" if kind.kind == "b" else names.astype(kind)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the names of the labels are not of the kind {dtype!r} that the model asks for") from error
