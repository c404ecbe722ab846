"""``slide predict``: the best labels of each sample, a line each."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO

from slide_ref.common.errors import SlideError
from slide_ref.common.storage.complete_file import complete_file, reason
from slide_ref.common.storage.model_folder import find_model, load_model

from ..data import read_dataset
from ..inference.predictor import Answers, Predictor
from .session import Session, fitting, with_index_for


def predict(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide predict``: write the best labels of each sample, block by block."""
    path = find_model(options.model)
    with _output(options.out) as file:
        model = load_model(path, mmap=True)
        data = read_dataset(options.data)
        data = fitting(data, options.data, {"features": model.n_features}, "the model", session.console)
        names = None if model.label_names is None else [name.replace("\t", " ") for name in model.label_names]
        predictor = Predictor(with_index_for(model, data.features, options, session), options.workers)
        n_samples, recall = data.n_samples, None if options.mode == "exact" else options.recall
        started = time.perf_counter()
        for done, answers in predictor.blocks(data.features, options.k, recall):
            file.writelines(_lines(answers, names))
            file.flush()
            if options.out is not None:
                session.console.progress(done / n_samples, f"predicting: {done:,} of {n_samples:,} samples")
        seconds = time.perf_counter() - started
    if options.out is not None:
        session.console.result(f"{n_samples:,} predictions in {options.out}")
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


def _lines(answers: Answers, names: list[str] | None) -> Iterator[str]:
    gap = " " if names is None else "\t"
    for ids, scores in zip(answers.ids.tolist(), answers.scores.tolist(), strict=True):
        pairs = zip(ids, scores, strict=True)
        yield gap.join(f"{i if names is None else names[i]}:{score:.6g}" for i, score in pairs if i >= 0) + "\n"


@contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    """Standard output, or a file that takes its name only when it is complete; a device or a pipe is written to."""
    if path is None:
        yield sys.stdout
        return
    try:
        with complete_file(path) as file, TextIOWrapper(file, encoding="utf-8", newline="\n") as text:
            yield text
            text.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SlideError(f"{path}: cannot be written ({reason(error, path)}); choose another file") from error
