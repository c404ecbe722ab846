"""``slide predict``: write the best labels of each sample or text, one per line."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from slide_ref.common.errors import ConfigError, DataError, SlideError
from slide_ref.common.storage.complete_file import complete_file, reason
from slide_ref.common.storage.model_folder import Model, find_model, load_model

from ..data import read_dataset
from ..inference.predictor import Answers, Predictor
from ..parallel.streams import standard_output
from ..parallel.units import numbered
from ..readers.open_text import STANDARD_INPUT
from ..text.ngrams import NgramCounter
from .run_folder import CHECKPOINTS, FILES, METRICS, refuse_within_model
from .session import Session, expecting_numbers, fitting, with_index_for
from .texts import columns_of, refuse_text_options, tell_no_texts, tell_skipped, text_file, vectorizer_of


class Block(NamedTuple):
    """Answers to write; a mask of input lines that have one (a skipped line has none); progress after this block."""

    answers: Answers
    answered: np.ndarray | None = None
    done: float = 0.0


def predict(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide predict``: write the best labels of each sample, block by block."""
    path = find_model(options.model)
    if options.out is not None:
        _check_output(Path(options.out), options.data)
    with _output(options.out) as file:
        model = load_model(path, mmap=True)
        names = None if model.label_names is None else [name.replace("\t", " ") for name in model.label_names]
        answer = _of_samples if model.text is None else _of_texts
        predictor, blocks = answer(model, options, session)
        n_samples, started = 0, time.perf_counter()
        for block in blocks:
            file.writelines(_lines(block, names, options.threshold))
            file.flush()
            n_samples += len(block.answers.ids) if block.answered is None else int(block.answered.sum())
            if options.out is not None and block.done:
                session.console.progress(block.done, f"predicting: {numbered(n_samples, 'sample')}")
        seconds = time.perf_counter() - started
    if options.out is not None:
        session.console.result(f"{numbered(n_samples, 'prediction')} in {options.out}")
    return {
        "samples": n_samples,
        "k": options.k,
        "mode": options.mode,
        "samples_per_second": n_samples / seconds,
        "seconds": seconds,
        "workers": predictor.n_threads,
        "model": str(path),
        "out": options.out,
    }


def _of_samples(model: Model, options: Namespace, session: Session) -> tuple[Predictor, Iterator[Block]]:
    """Read samples, and return an iterator over their answers."""
    refuse_text_options(options)
    with expecting_numbers(f"the model {options.model} expects numbers"):
        data = read_dataset(options.data)
    data = fitting(data, options.data, {"features": model.n_features}, "the model", session.console)
    predictor = Predictor(with_index_for(model, data.features, options, session), options.workers)
    found = predictor.blocks(data.features, _k(options, model), _recall(options), options.threshold is not None)

    def blocks() -> Iterator[Block]:
        try:
            for done, answers in found:
                yield Block(answers, None, done / data.n_samples)
        except DataError as error:
            raise DataError(error.message, options.data) from None

    return predictor, blocks()


def _of_texts(model: Model, options: Namespace, session: Session) -> tuple[Predictor, Iterator[Block]]:
    """Return an iterator over the answers to texts, which are read as they arrive."""
    if options.mode == "index" and model.index is None:
        session.console.line(f"{options.model}: has no index (slide index builds one), so all labels are scored")
        options.mode = "exact"
    predictor, vectorizer = Predictor(model, options.workers), vectorizer_of(model)
    texts = text_file(options.data, columns_of(options), options, needs_labels=False)
    counter, k, recall = NgramCounter(vectorizer.settings), _k(options, model), _recall(options)

    def blocks() -> Iterator[Block]:
        read: list[str] = []
        for rows in texts:
            if not read and (read := [row.text for row in rows if row.text and row.text.strip()]):
                tell_no_texts(read, model, options, session)
            features = vectorizer.rows(counter.count([row.text or "" for row in rows]))
            answered = np.array([row.text is not None for row in rows], dtype=np.bool_)
            yield Block(predictor.topk(features, k, recall, with_totals=True), answered)
        tell_skipped(texts, session)

    return predictor, blocks()


def _k(options: Namespace, model: Model) -> int:
    """Return how many labels to find: no more than there are, since each place takes memory."""
    return min(options.k, model.n_labels)


def _recall(options: Namespace) -> float | None:
    return None if options.mode == "exact" else options.recall


def _lines(block: Block, names: list[str] | None, threshold: float | None) -> Iterator[str]:
    """Yield a line for each sample, with probabilities if there are any, else logits."""
    answers, gap = block.answers, " " if names is None else "\t"
    scores = answers.scores if answers.totals is None else answers.probabilities
    kept = answers.ids >= 0
    if threshold is not None:
        kept &= scores >= threshold
    if block.answered is not None:
        kept &= block.answered[:, None]
    for ids, values, which in zip(answers.ids.tolist(), scores.tolist(), kept.tolist(), strict=True):
        triples = zip(ids, values, which, strict=True)
        yield gap.join(f"{i if names is None else names[i]}:{value:.6g}" for i, value, is_in in triples if is_in) + "\n"


def _check_output(out: Path, data: str) -> None:
    """Raise ConfigError if the answers would replace the samples, or a file of a model or run."""
    if out.is_file() and _is_file_of(data, out):
        raise ConfigError(f"--out {out}: is the file of the samples; choose another file")
    refuse_within_model("--out", out)
    place = out.resolve()
    for folder in place.parents:
        is_run = (folder / METRICS).is_file()
        if is_run and (place in [folder / name for name in FILES] or folder / CHECKPOINTS in place.parents):
            raise ConfigError(f"--out {out}: is a file of a run; choose another file")


def _is_file_of(data: str, out: Path) -> bool:
    """Tell whether samples, which may be on standard input, are read from a file."""
    with suppress(OSError, ValueError, AttributeError):  # no such file, or no descriptor
        found = os.fstat(sys.stdin.fileno()) if data == STANDARD_INPUT else os.stat(data)
        return os.path.samestat(found, out.stat())
    return False


@contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    """Open standard output, or a file that gets its name only when complete; devices and pipes are written directly."""
    if path is None:
        with standard_output() as stream:
            yield stream
        return
    try:
        with complete_file(path) as file, TextIOWrapper(file, encoding="utf-8", newline="\n") as text:
            yield text
            text.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SlideError(f"{path}: cannot be written ({reason(error, path)}); choose another file") from error
