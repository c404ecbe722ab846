"""``slide evaluate``: measure the accuracy of a model on test data."""

from __future__ import annotations

import time
from argparse import Namespace
from typing import Any

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.metrics import RANKS, by_frequency, recall_at
from slide_ref.common.metrics import evaluate as all_measures
from slide_ref.common.sparse_rows import Dataset, SparseRows
from slide_ref.common.storage.model_folder import Model, find_model, load_model

from ..display.wording import aligned, score_table
from ..engine.training_info import propensities
from ..estimator.label_decoding import classes_of, form_of
from ..estimator.validation import Known
from ..inference.predictor import Predictor
from ..parallel.units import numbered
from .session import Session, check_there, expecting_numbers, fitting, read_samples, with_index_for
from .texts import read_texts, refuse_text_options

K = max(RANKS)  # labels per sample that all measures need
TOLERATED = 0.01  # by which recall may be below what is wanted, before advice is given


def evaluate(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide evaluate``: measure a model on test data."""
    path = find_model(options.model)
    model = load_model(path, mmap=True)
    test = _test_samples(model, options, session)
    started = time.perf_counter()
    predictor = Predictor(with_index_for(model, test.features, options, session), options.workers)
    seconds_to_build = time.perf_counter() - started
    recall = None if options.mode == "exact" else options.recall  # also where no index could be made
    try:
        ids, figures = _timed_answers(predictor, test.features, recall, session)
    except DataError as error:
        raise DataError(error.message, options.test) from None
    scores = all_measures(ids, test.labels, propensities(model))
    unlabelled = f", {scores['n_unlabelled']:,} of them without labels" if scores["n_unlabelled"] else ""
    lines = [score_table(scores), "", f"{numbered(test.n_samples, 'test sample')}{unlabelled}"]
    groups = [] if model.label_counts is None else by_frequency(ids, test.labels, model.label_counts)
    if groups:
        lines.append(f"\n{_groups_in_words(groups)}")
    if recall is None:
        del figures["candidates_per_sample"]
    else:
        figures |= {"seconds_to_build_index": None if model.index is not None else seconds_to_build}
        figures |= {"recall": recall, "recall_kept_aside": predictor.recall_measured(K, recall)}
        figures |= _against_exact(predictor, test.features, ids, session)
        lines.append(_comparison(figures))
    session.console.result("\n".join(lines))
    return scores | figures | {
        "by_frequency": groups,
        "mode": options.mode,
        "epochs": model.facts.get("epochs"),
        "workers": predictor.n_threads,
        "model": str(path),
    }  # fmt: skip


def _test_samples(model: Model, options: Namespace, session: Session) -> Dataset:
    """Read the samples to test on, with no more features and labels than the model has."""
    if model.text is not None:
        return read_texts(options.test, model, options, session, needs_labels=True)
    refuse_text_options(options)
    check_there(options.test, options.labels)
    with expecting_numbers(f"the model {options.model} expects numbers"):
        test = read_samples(options.test, options.labels, needs_labels=True, option="--labels")
    known = Known(classes_of(model), form_of(model)[0], None)
    labels = known.of_file(test.labels, options.test, options.test, drop_unknown=True)
    if n_unknown := test.labels.nnz - labels.nnz:
        left_out = f"left out {numbered(n_unknown, 'label')} that the model does not have"
        session.console.line(f"{options.test}: {left_out}")
    if not labels.nnz:
        raise DataError("the model has none of the labels of these samples", options.labels or options.test)
    test, sizes = Dataset(test.features, labels), {"features": model.n_features, "labels": model.n_labels}
    return fitting(test, options.test, sizes, "the model", session.console, options.labels)


def _groups_in_words(groups: list[dict[str, Any]]) -> str:
    """Format the accuracy by label frequency; each group makes up a third of all label occurrences in training."""
    rows = ["by frequency  labels  true labels  found among 5"]
    for g in groups:
        rows.append(f"{g['group']:12}{g['n_labels']:>8,}{g['n_true']:>13,}{100 * g['recall_at_5']:>13.2f} %")
    return "\n".join(rows)


def _timed_answers(
    predictor: Predictor, features: SparseRows, recall: float | None, session: Session
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the best labels of each sample, as many as the metrics need, and the time it took to find them."""
    started, ids, n_candidates, n_samples = time.perf_counter(), [], 0, features.n_rows
    for done, answers in predictor.blocks(features, K, recall):
        ids.append(answers.ids)
        n_candidates += answers.n_candidates * len(answers.ids)
        session.console.progress(done / n_samples, f"evaluating: {done:,} of {numbered(n_samples, 'sample')}")
    seconds = time.perf_counter() - started
    return np.concatenate(ids), {
        "samples_per_second": n_samples / seconds,
        "seconds": seconds,
        "candidates_per_sample": n_candidates / n_samples,
    }


def _against_exact(predictor: Predictor, features: SparseRows, ids: np.ndarray, session: Session) -> dict[str, Any]:
    """Compare answers of the index with exact ones: what they miss, and how long exact ones take."""
    best, exact = _timed_answers(predictor, features, None, session)
    return {
        f"recall_at_{K}": recall_at(ids, best, K),
        "missing_places": float((ids < 0).mean()),
        "exact_samples_per_second": exact["samples_per_second"],
    }


def _comparison(figures: dict[str, Any]) -> str:
    """Describe the measured and the expected recall of the index."""
    seconds = figures["seconds_to_build_index"]
    made = "saved with the model" if seconds is None else f"made in {seconds:.1f} s, of these samples"
    if seconds is None and figures[f"recall_at_{K}"] < figures["recall"] - TOLERATED:
        made += "; for samples like these `slide index MODEL SAMPLES` finds more"
    measured = f"{figures['recall_kept_aside']:.2%} when the index was made"
    return aligned([
        ("", ""),
        (f"recall@{K}", f"{100 * figures[f'recall_at_{K}']:.2f} % of the exact answers are among these"),
        ("missing", f"{100 * figures['missing_places']:.2f} % of the places, where fewer labels were found"),
        ("candidates", f"{figures['candidates_per_sample']:,.1f} labels per sample"),
        ("speed", "{samples_per_second:,.0f} samples/s; exact: {exact_samples_per_second:,.0f}".format(**figures)),
        ("wanted", f"{figures['recall']:.2%}; found {measured}"),
        ("index", made),
    ])  # fmt: skip
