"""Texts on the command line: the options that locate them, and data sets read from them."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Sequence

import numpy as np

from slide_ref.common.diagnosis import not_text, not_texts
from slide_ref.common.errors import ConfigError, DataError, ModelError
from slide_ref.common.sparse_rows import Dataset
from slide_ref.common.storage.model_folder import Model, TextColumns

from ..parallel.machine import available_cpus
from ..parallel.units import numbered
from ..readers.open_text import first_bytes
from ..text.reading import read_known, read_training
from ..text.settings import SAVED, TextSettings, require_words
from ..text.sources import BOM, Columns, TextFile, first_lines, has_labels, names_columns
from ..text.vectorizer import CALLABLE, Vectorizer
from .session import Session

LONGEST_HEADER = 1024  # bytes; a longer first line of standard input is no header of XMC text
SEPARATORS = "|;,"  # of labels in one cell, as files have them most often
SELDOM_IN_NAMES = "|;"  # of these, what the name of a single label hardly ever contains
NAMING = ("text_column", "label_column", "label_separator")  # options about the columns of a table


def are_texts(path: str, options: Namespace) -> bool:
    """Tell whether a training file holds texts: columns are named, or it begins like a fastText file.

    Of standard input too little may have arrived to find a label; XMC text, read otherwise, begins with a number.
    """
    if options.text_column:
        return True
    head = first_bytes(path).removeprefix(BOM)
    lines = first_lines(head)
    is_unended = len(head) > LONGEST_HEADER and b"\n" not in head.lstrip()
    is_worded = bool(head) and not_text(head) is None and not lines[0][:1].isdigit()
    return (path == "-" and (is_unended or is_worded)) or has_labels(lines)


def columns_of(options: Namespace, trained: Columns | None = None, needs_labels: bool = False) -> Columns | None:
    """Return the columns that options name; the others are those that a model was trained on.

    None: texts are in no table. Raises ConfigError if options do not fit together, or labels that are needed have no
    column.
    """
    texts = options.text_column or (trained.texts if trained else None)
    labels, separator = (getattr(options, f"label_{name}", None) for name in ("column", "separator"))
    if separator == "":
        raise ConfigError("--label-separator is empty; leave it out if each text has one label")
    if not texts:
        for name, value in (("column", labels), ("separator", separator)):
            if value is not None:
                raise ConfigError(f"--label-{name} is for tables and JSON; name their texts with --text-column")
        return None
    labels = labels or (trained.labels if trained else None)
    given = options.text_column or []
    twice = next((name for name in given if given.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"--text-column: {twice!r} is given twice; leave one out")
    if needs_labels and labels in texts:
        raise ConfigError(f"--label-column: {labels!r} is also a column of the texts; name another")
    if needs_labels and labels is None:
        raise ConfigError(f"texts to {options.command} on need labels; name their column with --label-column")
    return Columns(tuple(texts), labels, separator or (trained.separator if trained else None))


def text_file(path: str, columns: Columns | None, options: Namespace, needs_labels: bool = True) -> TextFile:
    """Return a file of texts to read as options say; if they name columns, the file must have some."""
    given = [name for name in NAMING if getattr(options, name, None)]
    option = f"--{given[0].replace('_', '-')}" if given else ""
    return TextFile(path, columns, needs_labels, options.on_error == "skip", option)


def _source(model: Model) -> Columns | None:
    """Return the columns that a model was trained on; None: fastText format, or from Python. Raises ModelError."""
    source = None if model.text is None else model.text.settings.get("source")
    if not source:
        return None
    texts, *others = [source.get(name) if isinstance(source, dict) else None for name in Columns._fields]
    named = [name for name in others if name is not None]
    if not (isinstance(texts, list) and all(isinstance(name, str) for name in [*texts, *named])):
        raise ModelError("the model's text columns are incomplete; train it again")
    return Columns(tuple(texts), *others)


def _text_settings_of(options: Namespace) -> TextSettings:
    """Return how texts become features, as options say. Raises ConfigError."""
    given = {name: getattr(options, name) for name in SAVED if getattr(options, name) is not None}
    if given.get("buckets") and "min_df" in given:
        raise ConfigError("--min-df has no effect with --buckets, where features share columns; leave one of them out")
    settings = TextSettings.checked(**given)
    require_words(settings)
    return settings


def read_training_texts(options: Namespace, session: Session) -> tuple[list[Dataset], list[str], TextColumns]:
    """Read training texts, and test texts if any; return data, label names, and text settings to store.

    Raises ConfigError, DataError.
    """
    settings, columns = _text_settings_of(options), columns_of(options, needs_labels=True)
    for name in ("labels", "test_labels", "label_names"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} cannot be used with texts: their labels have names")
    n_workers = options.workers or available_cpus()
    file = text_file(options.train, columns, options)
    session.console.progress(0.0, f"reading {options.train}")
    try:
        data, names, vectorizer = read_training(file, settings, n_workers)
    finally:
        tell_skipped(file, session)
    if not names:
        raise DataError("no text has a label", options.train)
    if columns is not None:
        separator = options.label_separator
        notes = _about_lists(separator, file, data) or _about_labels(separator, data, names), _about_case(names)
        for told in filter(None, notes):
            session.console.line(f"{options.train}: {told}")
    source = {} if columns is None else columns._asdict()
    text, samples = vectorizer.saved(source), [data]
    if options.test is not None:
        test = TextFile(options.test, columns, skips=options.on_error == "skip")
        samples.append(_known(test, vectorizer, names, "the training data", n_workers, session))
    return samples, names, text


def _about_lists(separator: str | None, file: TextFile, data: Dataset) -> str | None:
    """Return a note if a separator of labels is given, but all labels are in lists."""
    if separator is None or file.n_listed < data.n_samples:
        return None
    return f"labels are in lists, so --label-separator {separator!r} is not used"


def _about_labels(separator: str | None, data: Dataset, names: list[str]) -> str | None:
    """Return a note if labels look misread, or if their separator is never used or seems to be missing."""
    for marks, what in (("[]", "lists written as text"), ('"', "texts in quotes, which only CSV has")):
        marked = [name for name in names if name[:1] in marks or name[-1:] in marks]
        if 2 * len(marked) > len(names):
            return (
                f"labels such as {marked[0]!r} look like {what}; write the names alone, with a separator between them"
            )
    if np.diff(data.labels.indptr).max() > 1:
        return None  # cells are split, or hold lists
    told = [] if separator is None else [f"no text has more than one label with --label-separator {separator!r}"]
    for mark in SEPARATORS:
        joined = [name for name in names if mark in name]
        fewer = len(names) > len({part for name in names for part in name.split(mark)})
        if 2 * len(joined) > len(names) and (fewer or mark in SELDOM_IN_NAMES):
            advice = f"if a cell holds several labels, give --label-separator {shlex.quote(mark)}"
            told.append(f"labels such as {joined[0]!r} contain {mark!r}; {advice}")
            break
    return "; ".join(told) or None


def _about_case(names: list[str]) -> str | None:
    """Return a note if labels differ only in upper and lower case."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(name.casefold(), name), name) for name in names]
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    if not pairs:
        return None
    what = f"{numbered(len(pairs), 'pair')} of labels that differ only in upper and lower case"
    return f"{what}, such as {' and '.join(map(repr, pairs[0]))}; spell them alike if they are the same"


def read_texts(path: str, model: Model, options: Namespace, session: Session, needs_labels: bool) -> Dataset:
    """Read texts from a file like that of training, or one whose columns options name, for a model.

    Raises DataError, ModelError, ConfigError.
    """
    vectorizer = vectorizer_of(model)
    columns = columns_of(options, _source(model), needs_labels)
    if columns is not None and not needs_labels:
        columns = columns._replace(labels=None)
    file = text_file(path, columns, options, needs_labels)
    names = model.label_names or [str(label) for label in range(model.n_labels)]
    if getattr(options, "labels", None) is not None:
        raise ConfigError("--labels cannot be used with texts: their labels stand beside them")
    data = _known(file, vectorizer, names, "the model", options.workers or available_cpus(), session)
    told = _about_lists(options.label_separator, file, data) if needs_labels else None
    if told is not None:
        session.console.line(f"{path}: {told}")
    return data


def tell_no_texts(texts: Sequence[str], model: Model, options: Namespace, session: Session) -> None:
    """Print a note if the first lines, each read as a text, look like numbers, or name the columns of training."""
    source, told = _source(model), not_texts([text.encode("utf-8", "replace") for text in texts[:10]])
    if options.text_column or not texts:
        return
    if told is not None:
        told = f"looks like {told}, but the model was trained on texts, and each line is taken as one"
    elif source is not None and names_columns(texts[0], source):
        given = " ".join(f"--text-column {shlex.quote(name)}" for name in source.texts)
        told = f"the first line looks like a table, and each whole line is taken as a text; give {given}"
    if told is not None:
        session.console.line(f"{options.data}: {told}")


def vectorizer_of(model: Model) -> Vectorizer:
    """Return the vectorizer of a model. Raises ModelError."""
    assert model.text is not None
    vectorizer = Vectorizer.of(model.text)
    if vectorizer.n_columns != model.n_features:
        raise ModelError(
            f"the model has {model.n_features} features, but its text settings give {vectorizer.n_columns}"
        )
    return vectorizer


def texts_in_words(model: Model) -> str:
    """Describe how texts become features."""
    assert model.text is not None
    try:
        by_function = bool(model.text.settings.get(CALLABLE))
        made_of = str(Vectorizer.of(model.text, str.split if by_function else None).settings)
        source = _source(model)
    except ModelError as error:
        return str(error)
    by = "; split into words by a Python function" if by_function else ""
    columns = "" if source is None else f"; columns {', '.join(source.texts)}; labels in {source.labels}"
    return made_of + by + columns


def _known(
    file: TextFile, vectorizer: Vectorizer, names: list[str], owner: str, n_workers: int, session: Session
) -> Dataset:
    data, n_unknown = read_known(file, vectorizer, names, n_workers)
    tell_skipped(file, session)
    if not data.n_samples:
        raise DataError("there are no texts", file.path)
    if n_unknown and file.needs_labels:
        session.console.line(f"{file.path}: left out {numbered(n_unknown, 'label')} that {owner} does not have")
    if file.needs_labels and not data.labels.nnz:
        raise DataError(f"{owner} has none of the labels of these texts", file.path)
    return data


def tell_skipped(file: TextFile, session: Session) -> None:
    """Print how many lines were skipped, if any were."""
    if file.n_skipped:
        session.console.line(f"{numbered(file.n_skipped, 'line')} skipped, the first: {file.first_skipped}")


def refuse_text_options(options: Namespace) -> None:
    """Raise ConfigError if options for texts are given, but there are no texts."""
    given = [name for name in (*NAMING, *SAVED) if getattr(options, name, None) is not None]
    given += ["on_error"] if options.on_error != "stop" else []
    if given:
        why = (
            f"{options.train} holds no texts; name their column with --text-column, or"
            if options.command == "train"
            else (f"the model {options.model} was trained on numbers, not on texts; give such samples, and")
        )
        raise ConfigError(f"--{given[0].replace('_', '-')}: {why} leave it out")
