"""The commands that use a trained model or make data: evaluate, predict, info, plot, generate."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from slide_ref.common.errors import SlideError
from slide_ref.common.metrics import RANKS, by_frequency, inverse_propensity, recall_at
from slide_ref.common.metrics import evaluate as all_measures
from slide_ref.common.parameters import layers_of
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.complete_file import complete_file, reason
from slide_ref.common.storage.model_folder import Model, load_model

from ..data import read_dataset
from ..datasets import synthetic
from ..display.console import aligned, network_in_words, score_table, size
from ..display.plots import plot_runs
from ..engine.checkpoints import Checkpoints
from ..engine.training_info import history_of, history_table, in_words
from ..inference.index_choice import RECALL, index_of
from ..parallel.machine import available_cpus
from ..prediction import ROWS_AT_ONCE, predict_topk, predict_topk_lsh
from .run_folder import CHECKPOINTS, CURVES, find_model
from .session import Session, fitting, read_samples
from .settings import to_toml

BLOCKS_A_THREAD = 4
SIZES = {
    "samples": "n_samples",
    "test_samples": "n_test",
    "features": "n_features",
    "labels": "n_labels",
    "nonzeros": "nonzeros",
    "labels_per_sample": "labels_per_sample",
}


def evaluate(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide evaluate``: how good a model is on test data."""
    path = find_model(options.model)
    model = load_model(path, mmap=True)
    test = read_samples(options.test, options.labels)
    sizes = {"features": model.n_features, "labels": model.n_labels}
    test = fitting(test, options.test, sizes, "the model", session.console)
    n_threads = options.workers or available_cpus()
    ids, figures = _timed_answers(model, test.features, options, n_threads, session)
    scores = all_measures(ids, test.labels, _propensities(model))
    unlabelled = f", {scores['n_unlabelled']:,} of them without labels" if scores["n_unlabelled"] else ""
    lines = [score_table(scores), "", f"{test.n_samples:,} test samples{unlabelled}"]
    groups = [] if model.label_counts is None else by_frequency(ids, test.labels, model.label_counts)
    if groups:
        lines.append(f"\n{_groups_in_words(groups)}")
    if options.mode == "lsh":
        figures |= _against_exact(model, test.features, ids, n_threads, session)
        lines.append(_comparison(figures))
    session.console.result("\n".join(lines))
    return scores | figures | {
        "by_frequency": groups,
        "mode": options.mode,
        "epochs": model.facts.get("epochs"),
        "workers": n_threads,
        "model": str(path),
    }  # fmt: skip


def _groups_in_words(groups: list[dict[str, Any]]) -> str:
    """Where the accuracy comes from; each group carries a third of the training labels."""
    rows = ["by frequency  labels  true labels  found among 5"]
    for g in groups:
        rows.append(f"{g['group']:12}{g['n_labels']:>8,}{g['n_true']:>13,}{100 * g['recall_at_5']:>13.2f} %")
    return "\n".join(rows)


def _timed_answers(
    model: Model, features: SparseRows, options: Namespace, n_threads: int, session: Session
) -> tuple[np.ndarray, dict[str, Any]]:
    """Best labels of each sample, for all measures, and what it took to find them."""
    predictor = _Predictor(model, features, max(RANKS), n_threads, options, session)
    started, ids, n_samples = time.perf_counter(), [], features.n_rows
    for done, block, _ in predictor.blocks(features):
        ids.append(block)
        session.console.progress(done / n_samples, f"evaluating: {done:,} of {n_samples:,} samples")
    seconds = time.perf_counter() - started
    figures = {"samples_per_second": n_samples / seconds, "seconds": seconds}
    if predictor.index is not None:
        figures |= {
            "seconds_to_build_index": predictor.seconds_to_build,
            "head": len(predictor.index.head),
            "tables": predictor.index.lsh.L,
            "K": predictor.index.lsh.K,
            "candidates_per_sample": predictor.n_candidates / n_samples,
        }
    return np.concatenate(ids), figures


def _against_exact(
    model: Model, features: SparseRows, ids: np.ndarray, n_threads: int, session: Session
) -> dict[str, Any]:
    """Answers through the tables beside exact ones: what they miss, and how long exact ones take."""
    best, exact = _timed_answers(model, features, Namespace(mode="exact", recall=None), n_threads, session)
    k = max(RANKS)
    return {
        f"recall_at_{k}": recall_at(ids, best, k),
        "missing_places": float((ids < 0).mean()),
        "exact_samples_per_second": exact["samples_per_second"],
    }


def _comparison(figures: dict[str, Any]) -> str:
    k = max(RANKS)
    return aligned([
        ("", ""),
        (f"recall@{k}", f"{100 * figures[f'recall_at_{k}']:.2f} % of the exact answers are among these"),
        ("missing", f"{100 * figures['missing_places']:.2f} % of the places, where fewer labels were found"),
        ("candidates", f"{figures['candidates_per_sample']:,.1f} labels a sample"),
        ("speed", "{samples_per_second:,.0f} samples/s; exact: {exact_samples_per_second:,.0f}".format(**figures)),
        ("index", _index_in_words(figures)),
    ])  # fmt: skip


def _index_in_words(figures: dict[str, Any]) -> str:
    tables = f"{figures['tables']} tables of {figures['K']} bits" if figures["tables"] else "no tables"
    return f"{figures['head']:,} longest labels and {tables}; made in {figures['seconds_to_build_index']:.1f} s"


class _Predictor:
    """A model and how it is asked, block by block.

    Parameters
    ----------
    model, features, k, n_threads
        As `predict_topk` takes them.
    options : Namespace
        With mode ``"lsh"`` the recall that the index is to have on the first of the features.
    session : Session

    Attributes
    ----------
    index : Index or None
        With mode ``"lsh"``.
    seconds_to_build : float
    n_candidates : int
        Labels that were looked at so far, over all samples.
    """

    def __init__(
        self, model: Model, features: SparseRows, k: int, n_threads: int, options: Namespace, session: Session
    ):
        self.layers, self.k, self.n_threads = layers_of(model.arrays), k, n_threads
        self.n_candidates, self.index = 0, None
        started = time.perf_counter()
        if options.mode == "lsh" and features.n_rows:
            session.console.progress(0.0, "choosing and building an index")
            self.index, _ = index_of(model, features, k, options.recall or RECALL, n_threads)
        self.seconds_to_build = time.perf_counter() - started

    def blocks(self, features: SparseRows) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Blocks of the rows in order: how many rows are done with this block, and its ids and scores."""
        at_once = ROWS_AT_ONCE * self.n_threads * BLOCKS_A_THREAD
        for first in range(0, features.n_rows, at_once):
            rows = np.arange(first, min(first + at_once, features.n_rows))
            yield first + len(rows), *self._answer(features.take(rows))

    def _answer(self, features: SparseRows) -> tuple[np.ndarray, np.ndarray]:
        if self.index is None:
            return predict_topk(self.layers, features, self.k, self.n_threads)
        ids, scores, found = predict_topk_lsh(self.layers, features, self.k, self.index, n_threads=self.n_threads)
        self.n_candidates += int(found.sum())
        return ids, scores


def _propensities(model: Model) -> np.ndarray | None:
    """Inverse propensities of the labels; None where the model does not know how often they occurred."""
    n_samples = model.facts.get("n_train_samples")
    if model.label_counts is None or not isinstance(n_samples, int) or n_samples < 1:
        return None
    return inverse_propensity(model.label_counts, n_samples)


def predict(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide predict``: the best labels of each sample, a line each, written block by block."""
    path = find_model(options.model)
    with _output(options.out) as file:
        model = load_model(path, mmap=True)
        data = read_dataset(options.data)
        data = fitting(data, options.data, {"features": model.n_features}, "the model", session.console)
        names = None if model.label_names is None else [name.replace("\t", " ") for name in model.label_names]
        n_samples, n_threads = data.n_samples, options.workers or available_cpus()
        predictor = _Predictor(model, data.features, options.k, n_threads, options, session)
        started = time.perf_counter()
        for done, ids, scores in predictor.blocks(data.features):
            file.writelines(_lines(ids, scores, names))
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
        "workers": n_threads,
        "model": str(path),
        "out": options.out,
    }


def _lines(ids: np.ndarray, scores: np.ndarray, names: list[str] | None) -> Iterator[str]:
    gap = " " if names is None else "\t"
    for row_ids, row_scores in zip(ids.tolist(), scores.tolist(), strict=True):
        pairs = zip(row_ids, row_scores, strict=True)
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


def info(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide info``: what a model folder holds."""
    path = find_model(options.model)
    model = load_model(path, mmap=True)
    n_parameters = sum(array.size for array in model.arrays.values())
    n_bytes = sum(file.stat().st_size for file in path.iterdir())
    pairs = [
        ("model", f"{path}, {size(n_bytes)}"),
        ("network", network_in_words(model.config, model.n_features, model.n_labels)),
        ("parameters", f"{n_parameters:,}"),
        *((name, f"{array.dtype} {array.shape}") for name, array in model.arrays.items()),
        ("label names", "no" if model.label_names is None else "yes"),
        ("columns", "without names" if model.feature_names is None else "with names"),
        *in_words(model),
    ]
    saved = Checkpoints(Path(options.model) / CHECKPOINTS).saved()
    pairs += [("checkpoints", ", ".join(folder.name for folder in saved))] if saved else []
    parts = [aligned(pairs), history_table(history_of(model)), to_toml(model.config).rstrip()]
    session.console.result("\n\n".join(filter(None, parts)))
    return {
        "model": str(path),
        "bytes": n_bytes,
        "n_features": model.n_features,
        "n_labels": model.n_labels,
        "n_parameters": n_parameters,
        "arrays": {name: list(array.shape) for name, array in model.arrays.items()},
        "has_label_names": model.label_names is not None,
        "has_feature_names": model.feature_names is not None,
        "facts": model.facts,
        "checkpoints": [str(folder) for folder in saved],
        "config": model.config.to_dict(),
    }


def plot(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide plot``: learning curves of runs in one picture."""
    runs = [Path(run) for run in options.runs]
    out = options.out or str(runs[0] / CURVES if len(runs) == 1 else CURVES)
    plot_runs(runs, out)
    session.console.result(out)
    return {"curves": out}


def generate(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide generate``: synthetic data of a given shape."""
    started = time.perf_counter()
    sizes = {name: getattr(options, option) for option, name in SIZES.items()}

    def tell() -> None:
        session.console.line(f"writing {options.shape} data into {options.dir}")

    synthetic.generate(options.dir, options.shape, seed=options.seed, started=tell, **sizes)
    files = [Path(options.dir, name) for name in ("train.txt", "test.txt")]
    lines = [f"{file}  {size(file.stat().st_size)}" for file in files]
    session.console.result("\n".join(lines))
    return {"train": str(files[0]), "test": str(files[1]), "seconds": time.perf_counter() - started}
