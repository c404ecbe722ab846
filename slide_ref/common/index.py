"""The index for prediction: buckets of labels, what they are made of, and how much of them a wanted recall needs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .errors import DataError
from .lsh_config import share, whole
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
WIDE = 512  # inputs of a layer that gets a preview
PREVIEWED_PART = 4  # inputs for each of its dimensions
PREVIEWED = 64  # neurons whose logits are computed where there is a preview


class Preview(NamedTuple):
    """What tells roughly how large the logits of a bucket's neurons are, in few dimensions (S28).

    Attributes
    ----------
    directions : ndarray of float32, shape (n_inputs, n_dimensions)
        In which samples differ most from their centroids; orthonormal.
    reduced : ndarray of float32, shape (n_labels, n_dimensions)
        Weights along these directions.
    levels : ndarray of float32, shape (n_centroids, bucket_size)
        Logits of a bucket's neurons at its centroid.
    """

    directions: np.ndarray
    reduced: np.ndarray
    levels: np.ndarray


class Index(NamedTuple):
    """Buckets of the output layer's neurons, one for each centroid of what enters the layer (S28).

    Attributes
    ----------
    centroids : ndarray of float32, shape (n_centroids, n_inputs)
    buckets : ndarray of int32, shape (n_centroids, bucket_size)
        The neurons most likely to have one of the largest logits near the centroid, most likely first.
    places : ndarray of int32, shape (n_kept_aside, n_measured)
        For held-out rows: where in the row's bucket its best, second best, … label stands; `bucket_size`
        where it does not, -1 where nobody looked.
    preview : Preview or None
        Only for wide layers.
    limits : ndarray of int32, shape (n_kept_aside, n_measured), or None
        Only with a preview: of how many first neurons of the bucket, at most, the preview still leaves the label of
        `places`; -1 where nobody looked.
    """

    centroids: np.ndarray
    buckets: np.ndarray
    places: np.ndarray
    preview: Preview | None = None
    limits: np.ndarray | None = None


class IndexSamples(NamedTuple):
    """Samples that an index is made of.

    Attributes
    ----------
    clustered : SparseRows
        Make the centroids; in random order.
    kept_aside : SparseRows
        Tell how much of a bucket a wanted recall needs.
    """

    clustered: SparseRows
    kept_aside: SparseRows


def checked(index: Index, n_inputs: int, n_labels: int) -> Index:
    """Return an index that was read from files if it is one of such a layer; raise DataError otherwise."""
    centroids, buckets, places, preview, limits = index
    n, size = len(centroids), buckets.shape[-1]
    kinds = {
        "centroids": (centroids, "float32", (n, n_inputs)),
        "buckets": (buckets, "int32", (n, size)),
        "places": (places, "int32", (len(places), *places.shape[1:])),
    }
    if preview is not None:
        n_dimensions = n_inputs // PREVIEWED_PART
        kinds |= {
            "directions": (preview.directions, "float32", (n_inputs, n_dimensions)),
            "reduced": (preview.reduced, "float32", (n_labels, n_dimensions)),
            "levels": (preview.levels, "float32", (n, size)),
        }
    if limits is not None:
        kinds["limits"] = limits, "int32", places.shape
    for name, (array, *kind) in kinds.items():
        if [array.dtype.name, array.shape] != kind or array.ndim != 2 or not array.size:
            raise DataError(f"the {name} of the index do not match the network")
    noted = (places,) if limits is None else (places, limits)
    if size > n_labels or buckets.min() < 0 or buckets.max() >= n_labels:
        raise DataError("the index names labels that the network does not have")
    if any(array.min() < -1 or array.max() > size for array in noted):
        raise DataError("the index names labels that the network does not have")
    return index


def arrays_of(index: Index) -> dict[str, np.ndarray]:
    """Return all arrays of an index by name."""
    names = index._asdict() | ({} if index.preview is None else index.preview._asdict())
    return {name: array for name, array in names.items() if isinstance(array, np.ndarray)}


def from_arrays(arrays: dict[str, np.ndarray]) -> Index:
    """Return an index of its arrays by name. Raises DataError where one is missing."""
    try:
        preview = Preview(*(arrays[name] for name in Preview._fields)) if "reduced" in arrays else None
        return Index(arrays["centroids"], arrays["buckets"], arrays["places"], preview, arrays.get("limits"))
    except KeyError as error:
        raise DataError(f"the index has no {error.args[0]}") from error


def samples_for_index(seed: int, features: SparseRows, others: SparseRows | None = None) -> IndexSamples:
    """Draw the samples that an index is made of. Implements S28.

    Parameters
    ----------
    seed : int
    features : SparseRows
        Samples of the training, or others like those to predict for.
    others : SparseRows, optional
        Samples that the network was not trained on, to hold out; by default a quarter of `features` is.

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
    """Return how many neurons a bucket holds: an eighth of all, half in a wide layer, but not few. Implements S28."""
    return min(n_labels, max(n_labels // (2 if n_inputs >= WIDE else 8), SMALLEST_BUCKET))


def directions_of(second_moment: np.ndarray) -> np.ndarray:
    """Return the directions of most variance, as many as a preview has, each up to its sign. Implements S28.

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
    """Return how many neurons of largest preview have their logits computed. Implements S28."""
    return max(PREVIEWED, 4 * k)


def found_at(index: Index, k: int, n_labels: int) -> np.ndarray:
    """Return which share of the k best labels, or of all, is found among the first 0, 1, … neurons of a bucket.

    Of those rows of which so many labels are known; empty if there are none.
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
    """Find how many neurons of a bucket to look at for a wanted recall. Implements S28.

    Parameters
    ----------
    index : Index
    k : int
    recall : float
        Wanted share of the k exact answers, above 0 and at most 1.
    n_labels : int

    Returns
    -------
    int or None
        None: only all labels are enough.

    Raises
    ------
    ConfigError
        If k or the recall is out of its range.
    """
    k, recall = whole("k", k, 1), share("recall", recall)
    enough = np.flatnonzero(found_at(index, k, n_labels) >= min(recall + RESERVE, 1) - 1e-9)
    return None if recall == 1 or not len(enough) else max(int(enough[0]), min(k, n_labels))


def recall_measured(index: Index, k: int, size: int | None, n_labels: int) -> float:
    """Return the share of the k exact answers of the held-out rows that stand among the first of their buckets."""
    return 1.0 if size is None else float(found_at(index, k, n_labels)[size])
