"""The arrays of an index, as a folder holds them, and the index made of such arrays."""

from __future__ import annotations

import numpy as np

from ..errors import DataError
from ..index import PREVIEWED_PART, Index, Preview


def checked(index: Index, n_inputs: int, n_labels: int) -> Index:
    """Return an index that was read from files; raise DataError unless it fits a layer of these sizes."""
    centroids, buckets, places, preview, limits = index
    if any(array.ndim != 2 for array in (centroids, buckets, places)):
        raise DataError("the index does not match the network")
    n, size = len(centroids), buckets.shape[-1]
    kinds = {
        "centroids": (centroids, "float32", (n, n_inputs)),
        "buckets": (buckets, "int32", (n, size)),
        "places": (places, "int32", places.shape),
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
        if [array.dtype.name, array.shape] != kind or not array.size:
            raise DataError(f"the {name} of the index do not match the network")
    noted = (places,) if limits is None else (places, limits)
    are_places = all(array.min() >= -1 and array.max() <= size for array in noted)
    if not are_places or size > n_labels or buckets.min() < 0 or buckets.max() >= n_labels:
        raise DataError("the index names labels that the network does not have")
    return index


def arrays_of(index: Index) -> dict[str, np.ndarray]:
    """Return all arrays of an index by name."""
    names = index._asdict() | ({} if index.preview is None else index.preview._asdict())
    return {name: array for name, array in names.items() if isinstance(array, np.ndarray)}


def from_arrays(arrays: dict[str, np.ndarray]) -> Index:
    """Return the index made of these arrays, by name. Raises DataError if one is missing."""
    try:
        preview = Preview(*(arrays[name] for name in Preview._fields)) if "reduced" in arrays else None
        return Index(arrays["centroids"], arrays["buckets"], arrays["places"], preview, arrays.get("limits"))
    except KeyError as error:
        raise DataError(f"the index has no {error.args[0]}") from error
