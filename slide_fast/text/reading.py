"""Data sets from texts: features are counted by several processes, then assigned columns."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count, islice
from typing import NamedTuple, TypeVar

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows

from ..parallel.in_process import InProcess
from ..parallel.pool import Pool
from ..readers.growing_rows import GrowingRows, joined
from .ngrams import Counts, NgramCounter
from .settings import TextSettings
from .sources import Row, TextFile
from .vectorizer import Vectorizer, fit

Item = TypeVar("Item")
TEXTS_AT_ONCE = 4096
FEW_BATCHES = 4  # that one process counts before others have started
AHEAD = 8  # batches in all that are read while processes are busy, or not yet started


class TextData(NamedTuple):
    """Texts as a data set.

    Attributes
    ----------
    data : Dataset
    names : list of str
        Names of the labels.
    vectorizer : Vectorizer
    """

    data: Dataset
    names: list[str]
    vectorizer: Vectorizer


class Counting:
    """The work of a worker process: counting the features of texts."""

    def __init__(self, settings: TextSettings, arrays: object = None):
        self._counter = NgramCounter(settings)

    def run(self, task: tuple[int, Sequence[str]]) -> Counts:
        return self._counter.count(task[1])


def counted(texts: Iterable[Sequence[str]], settings: TextSettings, n_workers: int) -> Iterator[Counts]:
    """Count the features of batches of texts, in order, by `n_workers` processes if there are many batches."""
    batches = iter(texts)
    first = list(islice(batches, FEW_BATCHES))
    alone = n_workers == 1 or len(first) < FEW_BATCHES or settings.tokenizer is not None
    tasks = enumerate(chain(first, batches))
    pool = InProcess(Counting(settings)) if alone else Pool(f"{__name__}:Counting", settings, [], n_workers)
    with pool:
        early: dict[int, Counts] = {}
        due = 0
        for (number, _), counts in pool.run(tasks, ahead=AHEAD):
            early[number] = counts
            while due in early:
                yield early.pop(due)
                due += 1


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the search for unreachable cycles: there are many rows, and none in a cycle."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class LabelRows:
    """Labels by name, collected row by row."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = defaultdict(count().__next__)  # in order of appearance
        self._rows = GrowingRows(2**31 - 1, has_values=False)

    def extend(self, labels: Sequence[Sequence[str]]) -> None:
        """Add rows."""
        lengths = np.fromiter(map(len, labels), np.int64, len(labels))
        numbers = map(self._numbers.__getitem__, chain.from_iterable(labels))
        indices = np.fromiter(numbers, np.int32, int(lengths.sum()))
        self._rows.extend(SparseRows(np.concatenate([[0], np.cumsum(lengths)]), indices, None, 2**31 - 1))

    def finish(self, names: Sequence[str] | None = None) -> tuple[SparseRows, list[str], int]:
        """Return canonical rows, the names of labels by id, and the number of labels left out.

        Labels not among `names` are left out; by default `names` are all names that occur, sorted.
        """
        known = sorted(self._numbers) if names is None else list(names)
        id_of = dict(zip(known, range(len(known)), strict=True))
        ids = np.array([id_of.get(name, -1) for name in self._numbers], dtype=np.int32)
        rows = self._rows.finish()
        indices = ids[rows.indices] if len(ids) else rows.indices
        kept = SparseRows(rows.indptr, indices, None, len(known)).where(indices >= 0)
        return kept.canonical(), known, rows.nnz - kept.nnz


def read_training(file: TextFile, settings: TextSettings, n_workers: int) -> TextData:
    """Read the texts and labels of a training file. Raises DataError."""
    labels = LabelRows()
    with _without_collection():
        blocks = list(counted(_texts(file, labels), settings, n_workers))
    if not blocks:
        raise DataError("there are no texts", file.path)
    try:
        vectorizer, features = fit(settings, blocks)
    except DataError as error:
        raise DataError(error.message, file.path) from None
    rows, names, _ = labels.finish()
    return TextData(Dataset(features, rows), names, vectorizer)


def read_known(file: TextFile, vectorizer: Vectorizer, names: Sequence[str], n_workers: int) -> tuple[Dataset, int]:
    """Read texts and labels with the features and labels of a trained model.

    Returns
    -------
    data : Dataset
    n_unknown : int
        Number of labels that the model does not know; they are left out.
    """
    labels = LabelRows()
    parts = map(vectorizer.rows, counted(_texts(file, labels), vectorizer.settings, n_workers))
    with _without_collection():
        features = joined(parts, vectorizer.n_columns)
    rows, _, n_unknown = labels.finish(names)
    return Dataset(features, rows), n_unknown


def _texts(file: Iterable[list[Row]], labels: LabelRows) -> Iterator[list[str]]:
    """Yield batches of the texts of a file; add their labels to `labels`."""
    for batch in batches_of(chain.from_iterable(file)):
        if rows := [row for row in batch if row.text is not None]:
            labels.extend([row.labels for row in rows])
            yield [row.text or "" for row in rows]


def batches_of(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Cut texts, or rows with texts, into batches for `counted`."""
    left = iter(items)
    while batch := list(islice(left, TEXTS_AT_ONCE)):
        yield batch
