"""A trained network stored as a folder: settings, weights and biases, names of labels and features, index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import Config
from ..errors import ConfigError, DataError, ModelError
from ..index import Index
from .array_files import SAVE_AGAIN, Arrays
from .array_folder import GIVE_MODEL, check_text, is_count, load_arrays, read_unchanged, save_arrays
from .index_arrays import arrays_of, checked, from_arrays
from .label_names import join_names, read_label_names, read_list
from .model_checks import check_count, check_shapes, check_table, json_of
from .replacing import standing

MODEL, FEATURES, LABEL_VALUES = "model", "features.json", "label_values.json"
INDEX, INDEX_VERSION = "index_", 1  # an index of another version is passed over
TEXT = "text_"


class TextColumns(NamedTuple):
    """How texts become features, as stored in a model; interpreted by the fast path only.

    Attributes
    ----------
    settings : dict
        JSON values.
    arrays : mapping of str to ndarray
    """

    settings: dict[str, Any]
    arrays: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Model:
    """A trained network.

    Attributes
    ----------
    config : Config
    n_features, n_labels : int
    arrays : mapping of str to ndarray of float32, or Blocks, which are assembled only when needed
        Weights ``W0``, shape (n_features, hidden[0]), and ``W1``, ..., shape (n_neurons, n_inputs) of their layer; they
        may all be float16 instead. Biases ``b0``, ``b1``, ..., shape (n_neurons,). The optimiser's moments are not
        included.
    facts : dict
        JSON values about training: steps, seconds, samples and so on.
    label_names : list of str, length n_labels, or None
    label_counts : ndarray of int64, shape (n_labels,), or None
        Training samples that carry each label, for `inverse_propensity`.
    feature_names : list of str, length n_features, or None
        Names of the columns, if the training data had any.
    label_values : list of JSON values, length n_labels, or None
        The value of each label in the training data, if it is not its name.
    index : Index or None
        Built from these weights (S28).
    text : TextColumns or None
        How texts become features, if the network was trained on texts.
    """

    config: Config
    n_features: int
    n_labels: int
    arrays: Arrays
    facts: dict[str, Any]
    label_names: list[str] | None = None
    label_counts: np.ndarray | None = None
    feature_names: list[str] | None = None
    label_values: list[Any] | None = None
    index: Index | None = None
    text: TextColumns | None = None


def save_model(folder: str | Path, model: Model) -> None:
    """Write a model folder, replacing an earlier one as a whole.

    Raises
    ------
    ModelError
        If the folder cannot be written, holds something other than a model or lies in that of another, the arrays do
        not fit the settings, a label name contains a line break, a name is no str, facts, text settings or label values
        are no JSON values, a number is no int, or the number of names, counts or values is not `n_labels`, or that of
        feature names not `n_features`. The folder is then unchanged.

    Examples
    --------
    >>> import numpy as np
    >>> from slide_ref.common.config import Config
    >>> from slide_ref.common.storage.model_folder import Model, load_model, save_model
    >>> arrays = {"W0": np.eye(3, 2), "b0": np.zeros(2), "W1": np.eye(4, 2), "b1": np.zeros(4)}
    >>> arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    >>> save_model("small", Model(Config(hidden=2), n_features=3, n_labels=4, arrays=arrays, facts={}))
    >>> load_model("small").n_labels
    4
    """
    check_count("n_features", model.n_features)
    check_count("n_labels", model.n_labels)
    check_table("facts", model.facts)
    arrays = dict(model.arrays)
    if model.label_counts is not None:
        arrays["label_counts"] = np.asarray(model.label_counts, dtype=np.int64)
    check_shapes(arrays, model.config, model.n_features, model.n_labels, Path(folder))
    if model.index is not None:
        arrays |= {INDEX + name: array for name, array in arrays_of(model.index).items()}
    if model.text is not None:
        check_table("text settings", model.text.settings)
        arrays |= {TEXT + name: array for name, array in model.text.arrays.items()}
    description = {
        "config": model.config.to_dict(),
        "n_features": model.n_features,
        "n_labels": model.n_labels,
        "facts": model.facts,
        "has_label_names": model.label_names is not None,
        "index_version": None if model.index is None else INDEX_VERSION,
        "text": None if model.text is None else model.text.settings,
    }
    texts = {} if model.label_names is None else {"labels.txt": join_names(model.label_names, model.n_labels)}
    for key, file, values, n, what in (
        ("has_feature_names", FEATURES, model.feature_names, model.n_features, "feature names"),
        ("has_label_values", LABEL_VALUES, model.label_values, model.n_labels, "label values"),
    ):
        description[key] = values is not None
        if values is not None:
            if len(values) != n:
                raise ModelError(f"{len(values)} {what}, but the model has {n} {what.split()[0]}s")
            texts[file] = json_of(what, values, ensure_ascii=False, indent=0) + "\n"
    if not all(isinstance(name, str) for name in model.feature_names or ()):
        raise ModelError("feature_names is no list of str; give a name for each feature, or None")
    save_arrays(folder, description, arrays, texts)


def load_model(folder: str | Path, mmap: bool = False) -> Model:
    """Read a model folder.

    Parameters
    ----------
    folder : path
        A model folder, or the folder of a run that holds one.
    mmap : bool
        Memory-map the weights, read-only, instead of reading them.

    Raises
    ------
    ModelError
        If anything is missing, malformed, or does not fit the rest. The message names the file.

    Examples
    --------
    >>> from slide_fast import SlideClassifier, load_model
    >>> X, y = [[1, 0], [0, 1]] * 20, ["left", "right"] * 20
    >>> SlideClassifier(hidden=8, epochs=1, micro_batch=10, n_workers=1).fit(X, y).save("sides")
    >>> model = load_model("sides", mmap=True)
    >>> model.label_names, model.config.hidden, model.facts["steps"]
    (['left', 'right'], (8,), 4)
    """
    return read_unchanged(find_model(folder), lambda place: _load(place, mmap))


def _load(folder: Path, mmap: bool) -> Model:
    description, arrays = load_arrays(folder, mmap)
    path = folder / "config.json"
    keys = ("n_features", "n_labels", "facts", "config", "has_label_names")
    n_features, n_labels, facts, settings, has_names = (description.get(key) for key in keys)
    has_columns, has_values = (description.get(key, False) for key in ("has_feature_names", "has_label_values"))
    if (
        not (isinstance(settings, dict) and isinstance(facts, dict))
        or not all(isinstance(flag, bool) for flag in (has_names, has_columns, has_values))
        or not is_count(n_features)
        or not is_count(n_labels)
    ):
        raise ModelError(f"{path}: does not describe a model; {GIVE_MODEL}")
    try:
        config = Config.from_dict(settings)
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error
    index = _index_of(arrays, description.get("index_version"), config, n_labels, path)
    text = _text_of(arrays, description.get("text"), path)
    check_shapes(arrays, config, n_features, n_labels, path)
    try:
        label_names = read_label_names(folder / "labels.txt", n_labels) if has_names else None
    except DataError as error:
        raise ModelError(f"{error}; {SAVE_AGAIN}") from error
    label_counts = arrays.pop("label_counts", None)
    feature_names = read_list(folder / FEATURES, n_features, str) if has_columns else None
    values = read_list(folder / LABEL_VALUES, n_labels, object) if has_values else None
    for name, is_there in (("labels.txt", has_names), (FEATURES, has_columns), (LABEL_VALUES, has_values)):
        if is_there:
            check_text(folder / name, description)
    named = label_names, label_counts, feature_names, values
    return Model(config, n_features, n_labels, arrays, facts, *named, index, text)


def _text_of(arrays: dict[str, np.ndarray], settings: Any, path: Path) -> TextColumns | None:
    """Extract the text columns from a folder's content. Raises ModelError."""
    found = {name.removeprefix(TEXT): arrays.pop(name) for name in [*arrays] if name.startswith(TEXT)}
    if settings is None:
        return None
    if not isinstance(settings, dict):
        raise ModelError(f"{path}: its text settings are not a table; {SAVE_AGAIN}")
    return TextColumns(settings, found)


def _index_of(arrays: dict[str, np.ndarray], version: Any, config: Config, n_labels: int, path: Path) -> Index | None:
    """Extract the index from a folder's content; None if it has none of this version. Raises ModelError."""
    found = {name.removeprefix(INDEX): arrays.pop(name) for name in [*arrays] if name.startswith(INDEX)}
    if version != INDEX_VERSION:
        return None
    try:
        return checked(from_arrays(found), config.hidden[-1], n_labels)
    except DataError as error:
        raise ModelError(f"{path}: {error}; {SAVE_AGAIN}") from error


def find_model(path: str | Path) -> Path:
    """Return `path` if it is a model folder, or the model folder inside it if it is a run folder."""
    inner = Path(path) / MODEL
    return inner if standing(inner).is_dir() else Path(path)
