"""Label values in y: of one type, encoded as indices into the classes, and stored as JSON."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection, Mapping
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.label_names import NO_NAME

GROUPS = {"b": "number", "i": "number", "u": "number", "f": "number", "U": "str", "T": "str", "S": "bytes",
          "M": "datetime64", "m": "timedelta64"}  # fmt: skip
"""Kinds of dtypes that labels may have; values of different groups are never equal."""
MISSING = ("NoneType", "MaskedConstant", "NAType", "NaTType")  # by name, as pandas need not be installed
MAX_BITS = 1024  # of a whole number: JSON readers limit their digits
MAX_WIDE = 2**28  # characters of classes as an array of fixed width
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


class Values(NamedTuple):
    """Label values, in order.

    Attributes
    ----------
    items : ndarray or list
        An array of numbers or times, or a list of Python values of one type.
    dtype : dtype or None
        Dtype for the array of classes; None: as wide as needed.
    """

    items: Any
    dtype: np.dtype | None

    @property
    def kind(self) -> str:
        """The kind of dtype of the values."""
        return self.items.dtype.kind if isinstance(self.items, np.ndarray) else _kind(type(self.items[0]))


def _kind(type_: type) -> str:
    """Return the kind of dtype for values of a type; empty if they cannot be stored as labels."""
    if issubclass(type_, np.generic):
        dtype = np.dtype(type_)
        kind = "" if dtype.kind == "f" and dtype.itemsize > 8 else dtype.kind
        return "i" if kind == "u" else kind if kind in GROUPS else ""
    return {bool: "b", int: "i", float: "f", str: "U", bytes: "S"}.get(type_, "")


def is_row(type_: type) -> bool:
    """Tell whether values of a type hold a sample's labels: lists, sets, arrays, pandas Series and the like."""
    return issubclass(type_, Collection) and not issubclass(type_, (str, bytes, bytearray, memoryview, Mapping))


def is_missing(item: Any) -> bool:
    """Tell whether a value means "missing": None, NaN, NaT, NumPy's masked, pandas' NA."""
    if type(item).__name__ in MISSING:
        return True
    return isinstance(item, (float, np.inexact, np.datetime64, np.timedelta64)) and bool(item != item)


def shown(item: Any) -> str:
    """Format a value for a message."""
    if not _kind(type(item)):
        return f"a value of type {type(item).__name__}"
    if isinstance(item, np.generic):
        item = str(item) if item.dtype.kind in "Mm" else item.item()
    return _short.repr(item)


def refuse_missing(name: str, row: int) -> None:
    """Raise DataError for a missing label."""
    raise DataError(f"{name}, row {row}: the label is missing. Input {name} contains NaN. Remove or replace it")


def values_of_array(array: np.ndarray, name: str) -> Values:
    """Collect the labels of a one-dimensional array, not of objects. Raises DataError like `values_of_items`."""
    kind = array.dtype.kind
    if kind not in GROUPS or (kind == "f" and array.dtype.itemsize > 8):
        raise DataError(f"{name} is of dtype {array.dtype}, which labels cannot have; give integers or str")
    if kind in "US":
        return Values(array.tolist(), array.dtype)
    if kind == "T":
        return values_of_items(array.tolist(), name)._replace(dtype=np.dtypes.StringDType())
    _check_numbers(array, name, int)
    return Values(array, array.dtype)


def values_of_items(
    items: list, name: str, row_of: Callable[[int], int] = int, objects: bool = False, kinds: str = "bifUSMm"
) -> Values:
    """Collect the labels of a list.

    Parameters
    ----------
    items : list
    name : str
        Name of the labels in messages.
    row_of : callable, optional
        Maps a position in the list to the sample that has that label.
    objects : bool
        Whether they come from an array of objects; `classes_` is then one too.
    kinds : str
        Allowed kinds of dtypes.

    Raises
    ------
    DataError
        If a label is missing, is a fraction, or is of a type that cannot be stored or differs from the first.
    """
    if not items:
        return Values(np.zeros(0, dtype=np.int64), np.dtype(np.int64))
    types = set(map(type, items))
    found = {_kind(type_) for type_ in types}
    if found == {"i", "f"} and "f" in kinds:
        items, types, found = _as_floats(items, name, row_of), {float}, {"f"}
    if len(found) > 1 or not found <= set(kinds):
        _refuse(items, name, row_of, kinds)
    (kind,) = found
    if kind in "Mm" or (kind in "bif" and not objects):
        array = np.array(items)
        if kind == "m" and array.dtype == object:
            raise DataError(f"{name} holds durations in days beside others in months or years; give labels of one unit")
        if (array.dtype.kind == "f") == (kind == "f") and array.dtype != object:  # else integers beyond 64 bits
            _check_numbers(array, name, row_of)
            return Values(array, array.dtype)
    if any(issubclass(type_, np.generic) for type_ in types):
        items = [item.item() if isinstance(item, np.generic) else item for item in items]
    if kind == "f":
        _check_numbers(np.array(items), name, row_of)
    if kind == "i" and max(map(int.bit_length, items)) > MAX_BITS:
        row = row_of(next(i for i, item in enumerate(items) if item.bit_length() > MAX_BITS))
        raise DataError(f"{name}, row {row}: an integer of more than {MAX_BITS} bits; give it as str")
    return Values(items, np.dtype(object) if objects or kind == "i" else None)


def _as_floats(items: list, name: str, row_of: Callable[[int], int]) -> list[float]:
    """Convert a mixture of whole numbers and floats to floats."""
    for i, item in enumerate(items):
        if abs(item) > 2**53 and not isinstance(item, (float, np.floating)):
            raise DataError(f"{name}, row {row_of(i)}: {shown(item)} is too large to mix with floats; give integers")
    return [float(item) for item in items]


def _refuse(items: list, name: str, row_of: Callable[[int], int], kinds: str) -> None:
    """Raise DataError for the first label of an invalid type, or of a type that differs from the first."""
    first = _kind(type(items[0]))
    missing = next((i for i, item in enumerate(items) if is_missing(item)), None)
    if missing is not None:
        refuse_missing(name, row_of(missing))
    for i, item in enumerate(items):
        place, of_type, kind = f"{name}, row {row_of(i)}", f"of type {type(item).__name__}", _kind(type(item))
        if not kind:
            raise DataError(f"{place}: a label {of_type}, which cannot be saved; give integers or str")
        if kind not in kinds:
            raise DataError(
                f"{place}: {shown(item)}, {of_type}. Y holds lists of something other than label ids or names; if each "
                f"row is an indicator, give np.array({name})"
            )
        if kind != first:
            beside = f"{shown(items[0])} in row {row_of(0)}, of type {type(items[0]).__name__}"
            raise DataError(f"{place}: {shown(item)}, {of_type}, beside {beside}; give labels of one type")


def _check_numbers(array: np.ndarray, name: str, row_of: Callable[[int], int]) -> None:
    missing = array != array  # NaN and NaT
    if missing.any():
        refuse_missing(name, row_of(int(np.argmax(missing))))
    if array.dtype.kind != "f":
        return
    if np.isinf(array).any():
        row = row_of(int(np.argmax(np.isinf(array))))
        raise DataError(f"{name}, row {row}: Input {name} contains infinity, which is not finite; remove or replace it")
    fraction = array != np.floor(array)
    if fraction.any():
        i = int(np.argmax(fraction))
        raise DataError(
            f"{name}, row {row_of(i)}: {shown(array[i])} is a fraction. Unknown label type: continuous. "
            "Give class labels"
        )


def classes_and_places(values: Values) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct labels, ascending, and the index of each label among them."""
    if isinstance(values.items, np.ndarray):
        return np.unique(values.items, return_inverse=True)
    distinct = sorted(set(values.items))
    place = dict(zip(distinct, range(len(distinct)), strict=True))
    places = np.fromiter(map(place.__getitem__, values.items), dtype=np.int64, count=len(values.items))
    return as_array(distinct, values.dtype), places


def as_array(labels: list, dtype: np.dtype | None = None) -> np.ndarray:
    """Put distinct str or bytes into an array; of objects if a fixed width would drop a NUL or waste memory."""
    if dtype is None and labels:
        nul = "\0" if isinstance(labels[0], str) else b"\0"
        if len(labels) * max(map(len, labels)) > MAX_WIDE or any(label.endswith(nul) for label in labels):
            dtype = np.dtype(object)
    return np.array(labels, dtype=dtype)


def places_in(
    values: Values, classes: np.ndarray, name: str, row_of: Callable[[int], int] = int, drop_unknown: bool = False
) -> np.ndarray:
    """Find the index of each label among the classes, which may be in any order.

    Parameters
    ----------
    values : Values
    classes : ndarray
    name, row_of
        As in `values_of_items`.
    drop_unknown : bool
        Return -1 for a label that is not a class.

    Raises
    ------
    DataError
        If a label is ambiguous, of another type, or (without `drop_unknown`) not a class.
    """
    items, n = values.items, len(classes)
    if not len(items) or not n:
        return np.full(len(items), -1)
    known = classes.tolist() if classes.dtype == object else classes
    ours, theirs = map(_group, (values, Values(known, None)))
    if ours != theirs:
        raise DataError(
            f"{name}, row {row_of(0)}: {shown(items[0])} is a label of type {ours}, but the known ones, such as "
            f"{shown(classes[0])}, are of type {theirs}; give labels of the same type"
        )
    places = _places(items, classes)
    if (places >= n).any():
        i = int(np.argmax(places))
        first, second = [at for at, label in enumerate(classes.tolist()) if label == items[i]][:2]
        raise DataError(
            f"{name}, row {row_of(i)}: {shown(items[i])} is the name of more than one label: {first} and {second}; "
            "give labels as an indicator, or train with distinct names"
        )
    unknown = np.flatnonzero(places < 0)
    if len(unknown) and not drop_unknown:
        some = list(dict.fromkeys(shown(items[i]) for i in unknown[:1000]))
        what = f"{', '.join(some[:3])}{', …' if len(some) > 3 else ''} (first in row {row_of(int(unknown[0]))})"
        raise DataError(
            f"{name} holds {what}, not among the {n} known labels; remove these, or train a new network with all "
            "labels (`partial_fit` takes them as `classes` in its first call)"
        )
    return places


def _group(values: Values) -> str:
    """Return what values must share to be compared: durations in months have no number of days."""
    unit = np.datetime_data(values.items.dtype)[0] if values.kind == "m" else ""
    return GROUPS[values.kind] + (" in months or years" if unit in ("M", "Y") else "")


def same_labels(labels: np.ndarray, others: np.ndarray) -> bool:
    """Tell whether two arrays hold the same labels in the same order; times may have different units."""
    if labels.dtype.kind == others.dtype.kind and labels.dtype.kind in "Mm":
        return _group(Values(labels, None)) == _group(Values(others, None)) and np.array_equal(labels, others)
    return labels.tolist() == others.tolist()


def row_in(indptr: np.ndarray) -> Callable[[int], int]:
    """Return the function that maps the position of a stored value to its row."""
    return lambda i: int(np.searchsorted(indptr, i, "right")) - 1


def rows_of_places(places: np.ndarray, indptr: np.ndarray, n_labels: int) -> SparseRows:
    """Make canonical rows of labels; a place of -1 is left out."""
    return SparseRows(indptr, places, None, n_labels).where(places >= 0).canonical()


def _places(items: Any, classes: np.ndarray) -> np.ndarray:
    """Find the index of each item among the classes; -1 if absent, the number of classes or more if ambiguous."""
    n = len(classes)
    if not (isinstance(items, np.ndarray) and items.dtype.kind == classes.dtype.kind):
        place: dict[Any, int] = {}
        for i, label in enumerate(classes.tolist()):
            place[label] = n if label in place else i
        labels = items.tolist() if isinstance(items, np.ndarray) else items
        return np.fromiter(map(place.get, labels, repeat(-1)), dtype=np.int64, count=len(labels))
    order = None if (classes[1:] > classes[:-1]).all() else np.argsort(classes, kind="stable")
    ordered = classes if order is None else classes[order]
    at = np.minimum(np.searchsorted(ordered, items), n - 1)
    places = at.copy() if order is None else order[at]
    if order is not None and n > 1:
        twice = np.append(ordered[1:] == ordered[:-1], False)
        places = np.where(twice[at], n, places)
    places[ordered[at] != items] = -1
    return places


def to_json(classes: np.ndarray) -> tuple[list, str]:
    """Convert classes to JSON values; also return the dtype information that `from_json` needs."""
    dtype = classes.dtype
    if dtype.kind in "Mm":
        return classes.astype(np.int64).tolist(), dtype.str
    values = classes.tolist()
    is_bytes = bool(values) and isinstance(values[0], bytes)
    if is_bytes:
        values = [value.decode("latin-1") for value in values]
    of_objects = "object of bytes" if is_bytes else "object"
    return values, {"O": of_objects, "T": "StringDType"}.get(dtype.kind, dtype.str)


def from_json(values: list, dtype: Any) -> np.ndarray:
    """Restore classes from the output of `to_json`. Raises ValueError if it is not valid output."""
    special: dict[str, Any] = {"object": object, "object of bytes": object, "StringDType": np.dtypes.StringDType()}
    try:
        kind, plain = np.dtype(special.get(dtype, dtype)), values
        if kind.kind == "S" or dtype == "object of bytes":
            plain = [value.encode("latin-1") for value in values]
        classes = np.array(plain, dtype=np.int64 if kind.kind in "Mm" else kind).astype(kind)
        same = to_json(classes) == (values, dtype) and len({type(value) for value in values}) <= 1
    except (TypeError, AttributeError, OverflowError, UnicodeError) as error:
        raise ValueError(str(error)) from error
    if not same or classes.ndim != 1 or (kind.kind == "O" and not all(_kind(type(value)) for value in values[:1])):
        raise ValueError("the values do not have this type")
    return classes


def names_of(classes: np.ndarray) -> list[str]:
    """Return display names of the classes, with line breaks and lone surrogates escaped."""
    labels = classes.astype(str).tolist() if classes.dtype.kind in "Mm" else classes.tolist()
    texts = (label.decode("utf-8", "backslashreplace") if isinstance(label, bytes) else str(label) for label in labels)
    return [NO_NAME.sub(lambda found: ascii(found[0])[1:-1], text) for text in texts]
