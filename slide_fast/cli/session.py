"""What all commands share: screen, clock, memory meter, samples, settings that suit them, and an index."""

from __future__ import annotations

import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slide_ref.common.config import Config
from slide_ref.common.diagnosis import CONVERT, TEXTS
from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows
from slide_ref.common.storage.model_folder import Model

from ..data import names_no_sizes, read_dataset, without_unknown_features
from ..datasets.synthetic import generate
from ..display.console import Console
from ..display.wording import aligned
from ..engine.auto_settings import suited
from ..inference.predictor import indexed_by
from ..parallel.machine import MemoryMeter
from ..parallel.units import numbered
from .settings import config_of, names_in


class Session:
    """A running command; a context manager.

    Parameters
    ----------
    json : bool
        Standard output is reserved for the JSON object; results for people go to standard error instead.

    Attributes
    ----------
    console : Console
    worker_pids : callable
        Returns the ids of the current worker processes, whose memory is counted too.
    bytes_elsewhere : int
        Peak memory of processes that are not metered from here.
    """

    def __init__(self, json: bool):
        self.console = Console(results_to_stderr=json)
        self.worker_pids: Callable[[], Iterable[int]] = tuple
        self.bytes_elsewhere = 0
        self._started = time.perf_counter()
        self._meter = MemoryMeter(lambda: self.worker_pids())

    def memory(self) -> tuple[int, int]:
        """Return the bytes that this command uses now, and its peak so far."""
        return self._meter.sample(), self._meter.peak_bytes

    def totals(self) -> dict[str, Any]:
        """Return time and memory of the whole command, and stop measuring."""
        self._meter.stop()
        return {
            "seconds_total": time.perf_counter() - self._started,
            "peak_memory_bytes": self._meter.peak_bytes + self.bytes_elsewhere,
        }

    def __enter__(self) -> Session:
        self._meter.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._meter.stop()
        self.console.close()


def read_samples(
    path: str | Path,
    labels: str | None = None,
    share: Callable[[int], range] | None = None,
    needs_labels: bool = False,
    option: str = "",
) -> Dataset:
    """Read samples; there must be some, and some with labels if they are needed, except in a share.

    `option` is that of `labels`, for a message. The other arguments are those of `read_dataset`. Raises DataError.
    """
    data = read_dataset(path, labels, share)
    if share is None and not data.n_samples:
        raise _error("there are no samples", path)
    if share is None and needs_labels and not data.labels.nnz:
        could_be_given = option and labels is None and Path(path).suffix.lower() == ".npz"
        advice = f"; give them with {option}" if could_be_given else ""
        raise DataError(f"no sample has a label{advice}", labels or path)
    return data


def chosen_for(settings: dict[str, Any], train: Dataset, console: Console) -> Config:
    """Return the settings given, and where none are given those that suit the training data; tell which, and why."""
    config = config_of(settings, train.labels.n_columns)
    config, reason = suited(config, train, given=names_in(settings))
    if reason:
        console.line(aligned([("chosen", reason)]))
    return config


@contextmanager
def expecting_numbers(why: str) -> Iterator[None]:
    """Say in a DataError about a file of texts, or of another format, why numbers are expected."""
    try:
        yield
    except DataError as error:
        message = error.message.replace(TEXTS, CONVERT)  # both kinds of advice end the same way
        message = message.replace(CONVERT, f"{why}, not texts: {CONVERT}")
        raise DataError(message, error.path, error.line, error.column) from error


def generated(shape: str, **sizes: Any) -> Dataset:
    """Generate synthetic training data; see `generate`."""
    with tempfile.TemporaryDirectory() as folder:
        generate(folder, shape, n_test=1, **sizes)
        return read_dataset(f"{folder}/train.txt")


def check_there(*paths: str | None) -> None:
    """Raise DataError if a file to read does not exist; None and standard input are accepted."""
    for path in paths:
        if path not in (None, "-"):
            try:
                os.stat(path)
            except OSError as error:
                raise DataError(f"cannot be read ({error.strerror})", path) from error


def fitting(
    data: Dataset, path: str | Path, wanted: dict[str, int], owner: str, console: Console, labels: str | None = None
) -> Dataset:
    """Return data with no more ``features`` and ``labels`` than `owner` has (`wanted`). Raises DataError.

    If the file names no sizes, features that `owner` does not know are left out, and a line says so. `labels` is the
    file of the labels, if they have their own.
    """
    data, n_left_out = without_unknown_features(data, wanted["features"], path)
    if n_left_out:
        console.line(f"{path}: left out {numbered(n_left_out, 'value')} of features that {owner} does not have")
    for what, n_wanted in wanted.items():
        n_found = getattr(data, what).n_columns
        if n_found > n_wanted:
            advice = f"both must count the same {what}"
            if names_no_sizes(path):
                advice = f"remove these {what}, or train on XMC text, whose header may declare more than occur"
            place = labels if what == "labels" and labels is not None else path
            raise _error(f"{n_found} {what}, but {owner} has {n_wanted}; {advice}", place)
    return data


def with_index_for(model: Model, features: SparseRows, options: Namespace, session: Session) -> Model:
    """With ``--mode index`` return the model with an index, built from the samples to predict for if it has none.

    If they are too few, the mode becomes exact.
    """
    if options.mode == "exact" or model.index is not None:
        return model
    session.console.progress(0.0, "making an index of these samples")
    model = indexed_by(model, features, options.workers)
    if model.index is None:
        too_few = "has no index, and these samples are too few to build one, so all labels are scored"
        session.console.line(f"{options.model}: {too_few}")
        options.mode = "exact"
    return model


def _error(message: str, path: str | Path) -> DataError:
    """Make an error about the header of XMC text, or about a whole file without a header."""
    has_header = not names_no_sizes(path) and Path(path).suffix.lower() != ".npz"
    return DataError(message, path, 1 if has_header else None)
