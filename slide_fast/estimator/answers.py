"""Predictions of a trained estimator: labels, scores, probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from slide_ref.common.checks import share, whole
from slide_ref.common.config import RECALL
from slide_ref.common.errors import DataError
from slide_ref.common.index import IndexSamples
from slide_ref.common.metrics import hits_at
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.model_folder import Model

from ..inference.predictor import Predictor, indexed_by, require_finite, with_index
from ..inference.probabilities import logits_of, probabilities_of
from ..prediction import mode_of
from . import validation
from .feature_coding import check_sizes
from .label_decoding import as_in_training, in_words, places_of
from .sklearn_base import REPLACING, NotFittedError, check_names
from .validation import Known, as_weights


class PredictionMixin:
    """Prediction methods of `SlideClassifier`; training sets the attributes declared here."""

    classes_: np.ndarray
    labels_per_sample_: float
    model_: Model
    n_features_in_: int
    _kind: str
    _predicts: Predictor
    _index_samples: IndexSamples | None

    def _rows_of(self, X: Any) -> Any:
        """Return X in the form that `as_features` accepts; overridden by classes that take other inputs."""
        return X

    def _check_features(self, X: Any, features: SparseRows, reset: bool) -> None:
        """Record the number and names of the features; raise DataError if they differ from those recorded before."""
        check_sizes(features)
        check_names(self, X, reset)
        if reset:
            self.n_features_in_ = features.n_columns
        n, known = features.n_columns, self.n_features_in_
        if n > known or (n < known and not (validation.is_path(X) or isinstance(X, SparseRows))):
            raise DataError(f"X has {n} features, but {type(self).__name__} is expecting {known} features as input")

    def _trained(self) -> Model:
        if not hasattr(self, "model_"):
            raise NotFittedError(f"this {type(self).__name__} is not trained yet; call fit or load first")
        return self.model_

    def _now(self) -> PredictionMixin:
        """Return the estimator as it is now, so that network and labels fit together while another thread trains it."""
        now = object.__new__(type(self))
        vars(now).update(vars(self))
        now._trained()
        return now

    def _asked(self, X: Any) -> tuple[PredictionMixin, Predictor, SparseRows]:
        """Return the estimator as it is now, a predictor for its network, and checked samples to predict."""
        now = self._now()
        X = now._rows_of(X)
        features = validation.as_samples(X, now.n_features_in_)
        now._check_features(X, features, reset=False)
        return now, Predictor(now.model_), features

    def _with_index(self, now: PredictionMixin, features: SparseRows | None = None) -> Model:
        """Return the network of `now` with an index, from training samples or else `features`, and keep it for later.

        It stays without one where samples are missing or too few. If another thread trains meanwhile, its network is
        kept instead.
        """
        old, samples = now.model_, getattr(now, "_index_samples", None)
        if old.index is not None:
            return old
        if samples is not None:
            new = with_index(old, samples)
        elif features is not None:
            new = indexed_by(old, features)
        else:
            return old
        with REPLACING:
            if self.model_ is old:
                self.model_ = new
        return new

    def _indexed(self, now: PredictionMixin, features: SparseRows) -> Predictor:
        """Return a predictor for the network of `now`, with an index if one can be built; keep it for the next call."""
        model, predictor = self._with_index(now, features), getattr(self, "_predicts", None)
        if predictor is None or predictor.model is not model:
            self._predicts = predictor = Predictor(model)
        return predictor

    def predict_topk(
        self, X: Any, k: int = 5, mode: str = "exact", recall: float = RECALL
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k best labels of each sample.

        Parameters
        ----------
        X
            See the class.
        k : int
            Number of labels to find, 1 or more.
        mode : str
            ``"exact"`` scores every label; ``"index"`` only those that an index finds, which may miss the best.
        recall : float
            With ``"index"``: the fraction of the exact top k that the index should find, above 0 and at most 1; default
            0.95. Where the index cannot reach it, answers are exact. The index is saved with the network. If it is
            missing, or stale after further training, the call builds one from training samples, or else from X if that
            has 256 samples or more; without an index, answers are exact.

        Returns
        -------
        labels : ndarray, shape (n_samples, k)
            Best first, as in `classes_`. Missing labels (if there are fewer than k, or fewer were found) are -1 if
            `classes_` has an integer dtype, NaT if it holds times, else None.
        scores : ndarray of float32, shape (n_samples, k)
            Logits; -inf where a label is missing.

        Raises
        ------
        NotFittedError, DataError
            If the estimator is not trained, or the features of X differ from those of the network.
        ConfigError
            If the mode is unknown, or k or the recall is out of range.

        Examples
        --------
        >>> from slide_fast import SlideClassifier
        >>> X, y = [[1, 0], [0, 1]] * 20, ["left", "right"] * 20
        >>> model = SlideClassifier(hidden=8, epochs=20, micro_batch=10, learning_rate=0.05, n_workers=1)
        >>> labels, scores = model.fit(X, y).predict_topk([[0, 1]], k=2)
        >>> labels.tolist()
        [['right', 'left']]
        """
        k, recall, mode = whole("k", k, 1), share("recall", recall), mode_of(mode)
        now, predictor, features = self._asked(X)
        if mode == "index":
            found = self._indexed(now, features).topk(features, k, recall)
        else:
            found = predictor.topk(features, k)
        return in_words(found.ids, now.classes_), found.scores

    def predict(self, X: Any) -> Any:
        """Predict the best label of each sample, or its best labels if training samples may have several.

        Parameters
        ----------
        X
            See the class.

        Returns
        -------
        ndarray, shape (n_samples,), or indicator matrix, shape (n_samples, n_labels), or list of lists
            In the form that y had in training. If samples may have several labels, each gets as many as a labelled
            training sample had on average, rounded, and at least 1.

        Raises
        ------
        NotFittedError, DataError
            As for `predict_topk`.
        """
        now, predictor, features = self._asked(X)
        k = 1 if now._kind == "classes" else min(max(1, round(now.labels_per_sample_)), len(now.classes_))
        return as_in_training(predictor.topk(features, k).ids, now.classes_, now._kind)

    def decision_function(self, X: Any, labels: Any = None) -> np.ndarray:
        """Return the logits of the labels.

        Parameters
        ----------
        X
            See the class.
        labels : sequence, optional
            Labels to score, as in `classes_`, one for each column; default: all.

        Returns
        -------
        ndarray of float32, shape (n_samples, n_chosen)
            With two classes and `labels` not given, shape (n_samples,): the second logit minus the first.

        Raises
        ------
        NotFittedError, DataError
            As for `predict_topk`; also DataError if there is no such label.
        MemoryError
            If the scores of all labels do not fit in memory; choose some with `labels`.
        """
        now, predictor, features = self._asked(X)
        logits = logits_of(predictor.layers, features, places_of(labels, now.classes_, features.n_rows))
        require_finite(logits)
        if labels is None and now._kind == "classes" and len(now.classes_) == 2:
            return logits[:, 1] - logits[:, 0]
        return logits

    def predict_proba(self, X: Any, labels: Any = None) -> np.ndarray:
        """Return the probabilities of labels, a softmax over all of them, float64, shape (n_samples, n_chosen).

        Takes the same parameters as `decision_function`; with two classes there are two columns.

        Examples
        --------
        >>> from slide_fast import SlideClassifier
        >>> X, y = [[1, 0], [0, 1]] * 20, ["left", "right"] * 20
        >>> model = SlideClassifier(hidden=8, epochs=20, micro_batch=10, learning_rate=0.05, n_workers=1).fit(X, y)
        >>> model.predict_proba([[0, 1]]).shape
        (1, 2)
        >>> bool(model.predict_proba([[0, 1]], labels=["right"])[0, 0] > 0.5)
        True
        """
        now, predictor, features = self._asked(X)
        found = probabilities_of(predictor.layers, features, places_of(labels, now.classes_, features.n_rows))
        require_finite(found)
        return found

    def predict_log_proba(self, X: Any, labels: Any = None) -> np.ndarray:
        """Return the logarithms of what `predict_proba` returns: -inf where a probability is 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X, labels))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return P@1: the fraction of samples whose best label is one of their own.

        X, y and `sample_weight` are as in `fit`; with weights, the fraction is weighted. True labels that did not occur
        in training count as wrong.
        """
        now, predictor, features = self._asked(X)
        truths = validation.as_truths(X, y, Known(now.classes_, now._kind, None))
        if truths.n_rows != features.n_rows:
            raise DataError(f"X has {features.n_rows} samples, but there are labels for {truths.n_rows}")
        hits = hits_at(predictor.topk(features, 1).ids, truths, 1)[:, 0]
        return float(np.average(hits, weights=as_weights(sample_weight, truths.n_rows)))
