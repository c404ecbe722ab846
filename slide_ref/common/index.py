"""The index for prediction: buckets of labels, the samples it is built from, the bucket size for a recall."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .checks import share, whole
from .errors import DataError
from .rng import Purpose, permutation
from .sparse_rows import SparseRows

RESERVE = 0.005  # of recall, since the rows on which it is measured are not those that will be asked
N_CENTROIDS = 128
ROUNDS = 8  # of k-means
SPREAD = 3  # standard deviations of a logit that speak for a label
CLUSTERED, KEPT_ASIDE = 16_384, 4_096  # samples, at most
MEASURED = 10  # best labels of each held-out row
DEEP_ROWS, DEEP_MEASURED = 256, 100  # of the first rows, so many
SMALLEST_BUCKET = 1_024
WIDE = 512  # inputs of a layer whose buckets are longer, and previewed unless there are few labels
FEW_LABELS = 512  # that are scored without a preview as fast as with one
PREVIEWED_PART = 4  # inputs for each of its dimensions
PREVIEWED = 64  # neurons whose logits are computed where there is a preview


class Preview(NamedTuple):
    """A low-dimensional estimate of the logits of a bucket's neurons (S28).

    Attributes
    ----------
    directions : ndarray of float32, shape (n_inputs, n_dimensions)
        Directions in which samples differ most from their centroids; orthonormal.
    reduced : ndarray of float32, shape (n_labels, n_dimensions)
        Weights along these directions.
    levels : ndarray of float32, shape (n_centroids, bucket_size)
        Logits of a bucket's neurons at its centroid.
    """

    directions: np.ndarray
    reduced: np.ndarray
    levels: np.ndarray


class Index(NamedTuple):
    """Buckets of the output layer's neurons, one for each centroid of the layer's inputs (S28).

    Attributes
    ----------
    centroids : ndarray of float32, shape (n_centroids, n_inputs)
    buckets : ndarray of int32, shape (n_centroids, bucket_size)
        The neurons most likely to have one of the largest logits near the centroid, most likely first.
    places : ndarray of int32, shape (n_kept_aside, n_measured)
        For held-out rows: position of the row's best, second best, … label in its bucket; `bucket_size` if it is not in
        the bucket, -1 if not measured.
    preview : Preview or None
        Only for wide layers.
    limits : ndarray of int32, shape (n_kept_aside, n_measured), or None
        Only with a preview: largest number of first neurons of the bucket among which the preview still selects the
        label of `places`; -1 if not measured.
    """

    centroids: np.ndarray
    buckets: np.ndarray
    places: np.ndarray
    preview: Preview | None = None
    limits: np.ndarray | None = None


class IndexSamples(NamedTuple):
    """Samples that an index is built from.

    Attributes
    ----------
    clustered : SparseRows
        Samples from which the centroids are computed; in random order.
    kept_aside : SparseRows
        Held-out samples on which recall is measured.
    """

    clustered: SparseRows
    kept_aside: SparseRows


def samples_for_index(seed: int, features: SparseRows, others: SparseRows | None = None) -> IndexSamples:
    """Draw the samples that an index is built from. Implements S28.

    Parameters
    ----------
    seed : int
    features : SparseRows
        Training samples, or others like those to predict for.
    others : SparseRows, optional
        Samples that the network was not trained on, to be held out; by default a quarter of `features` is held out.

    Raises
    ------
    DataError
        If there are fewer than two samples.
    """
    if features.n_rows < 2:
        raise DataError(f"an index needs two samples or more, but there are {features.n_rows}")
    order = permutation(seed, Purpose.INDEX, n=features.n_rows)
    if others is not None and others.n_rows:
        aside = others.take(permutation(seed, Purpose.INDEX, n=others.n_rows)[:KEPT_ASIDE])
        return IndexSamples(features.take(order[:CLUSTERED]), aside)
    n_aside = min(max(features.n_rows // 4, 1), KEPT_ASIDE)
    clustered = order[n_aside : n_aside + CLUSTERED]
    return IndexSamples(features.take(clustered), features.take(order[:n_aside]))


def bucket_size(n_labels: int, n_inputs: int) -> int:
    """Return the bucket size: an eighth of all neurons, or half in a wide layer, with a minimum. Implements S28."""
    return min(n_labels, max(n_labels // (2 if n_inputs >= WIDE else 8), SMALLEST_BUCKET))


def has_preview(n_labels: int, n_inputs: int) -> bool:
    """Tell whether buckets get a preview: in a wide layer, unless there are few labels. Implements S28."""
    return n_inputs >= WIDE and n_labels > FEW_LABELS


def directions_of(second_moment: np.ndarray) -> np.ndarray:
    """Return the directions of largest variance, as many as a preview has, each up to sign. Implements S28.

    Parameters
    ----------
    second_moment : ndarray of float, shape (n_inputs, n_inputs)

    Returns
    -------
    ndarray of float32, shape (n_inputs, n_inputs // `PREVIEWED_PART`)
    """
    ascending = np.linalg.eigh(second_moment.astype(np.float64))[1]
    return np.ascontiguousarray(ascending[:, ::-1][:, : len(second_moment) // PREVIEWED_PART], dtype=np.float32)


def n_previewed(k: int) -> int:
    """Return the number of neurons, those of largest preview, whose logits are computed. Implements S28."""
    return max(PREVIEWED, 4 * k)


def found_at(index: Index, k: int, n_labels: int) -> np.ndarray:
    """Return the recall at k for each number of neurons scored per bucket, measured on held-out rows. Implements S28.

    Returns
    -------
    ndarray of float64, shape (bucket_size + 1,)
        Item m: if the first m neurons are scored. Empty if no row has k (or, if fewer, all) best labels measured.
    """
    n_best, size = min(k, n_labels), index.buckets.shape[1]
    if n_best > index.places.shape[1]:
        return np.zeros(0)
    rows = index.places[:, n_best - 1] >= 0
    places = index.places[rows, :n_best].ravel()
    limits = np.full(len(places), size) if index.limits is None else index.limits[rows, :n_best].ravel()
    are_found = places < limits
    more, fewer = (np.bincount(at[are_found] + 1, minlength=size + 2)[: size + 1] for at in (places, limits))
    return np.cumsum(more - fewer) / len(places) if len(places) else np.zeros(0)


def size_for(index: Index, k: int, recall: float, n_labels: int) -> int | None:
    """Find how many neurons of a bucket must be scored to reach a recall. Implements S28.

    Parameters
    ----------
    index : Index
    k : int
    recall : float
        Fraction of the exact top k to find, above 0 and at most 1.
    n_labels : int

    Returns
    -------
    int or None
        None: all labels must be scored.

    Raises
    ------
    ConfigError
        If k or the recall is out of range.
    """
    k, recall = whole("k", k, 1), share("recall", recall)
    enough = np.flatnonzero(found_at(index, k, n_labels) >= min(recall + RESERVE, 1) - 1e-9)
    return None if recall == 1 or not len(enough) else max(int(enough[0]), min(k, n_labels))


def recall_measured(index: Index, k: int, size: int | None, n_labels: int) -> float:
    """Return the recall at k of held-out rows if `size` neurons per bucket are scored; None: all, so it is 1."""
    return 1.0 if size is None else float(found_at(index, k, n_labels)[size])
