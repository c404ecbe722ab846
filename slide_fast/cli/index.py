"""``slide index``: build or rebuild the index of a model."""

from __future__ import annotations

import time
from argparse import Namespace
from typing import Any

from slide_ref.common.config import RECALL
from slide_ref.common.index import samples_for_index
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.model_folder import Model, find_model, load_model, save_model

from ..inference.predictor import Predictor, with_index
from .session import Session, check_there, expecting_numbers, fitting, read_samples
from .texts import read_texts, refuse_text_options

K = 5  # of the recall that is shown


def index(options: Namespace, session: Session) -> dict[str, Any]:
    """``slide index``: rewrite a model folder with a new index."""
    check_there(options.data, options.kept_aside)
    path = find_model(options.model)
    model = load_model(path)
    features = _features(options.data, model, options, session)
    others = None if options.kept_aside is None else _features(options.kept_aside, model, options, session)
    session.console.progress(0.0, "making the index")
    started = time.perf_counter()
    model = with_index(model, samples_for_index(model.config.seed, features, others), options.workers)
    seconds = time.perf_counter() - started
    save_model(path, model)
    session.console.result(f"{in_words(model)}; made in {seconds:.1f} s")
    return figures_of(model) | {"seconds": seconds, "model": str(path)}


def _features(path: str, model: Model, options: Namespace, session: Session) -> SparseRows:
    if model.text is not None:
        return read_texts(path, model, options, session, needs_labels=False).features
    refuse_text_options(options)
    with expecting_numbers(f"the model {options.model} expects numbers"):
        data = read_samples(path)
    return fitting(data, path, {"features": model.n_features}, "the model", session.console).features


def figures_of(model: Model) -> dict[str, Any]:
    """Return the index size for the default recall, and the recall measured at it, as JSON values."""
    predictor = Predictor(model)
    return {
        "index_recall": predictor.recall_measured(K, RECALL),
        "index_candidates": predictor.size(K, RECALL) or model.n_labels,
    }


def in_words(model: Model) -> str:
    """Describe a model's index."""
    if model.index is None:
        return "none"
    n_buckets, figures = len(model.index.centroids), figures_of(model)
    recall, candidates = figures["index_recall"], figures["index_candidates"]
    return f"{n_buckets:,} buckets; {recall:.1%} of the best {K} among {candidates:,} of {model.n_labels:,} labels"
