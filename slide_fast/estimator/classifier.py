"""`SlideClassifier`: train and predict from Python, with the habits of scikit-learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slide_ref.common.config import RECALL
from slide_ref.common.errors import DataError
from slide_ref.common.index import IndexSamples
from slide_ref.common.lsh_config import share, whole
from slide_ref.common.parameters import Layer, layers_of
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.model_folder import Model, load_model, save_model

from ..engine.checkpoints import TrainingState
from ..engine.handover import Handover
from ..engine.progress import Event
from ..engine.training_info import history_of
from ..inference.predictor import Predictor, indexed_by, with_index
from ..inference.probabilities import logits_of, probabilities_of
from ..prediction import mode_of, predict_topk
from . import validation
from .fitting import Given, train
from .label_decoding import are_right, as_in_training, classes_of, form_of, in_words, places_of, with_classes
from .parameters import config_of, options_of
from .sklearn_base import (
    HAS_SKLEARN,
    BaseEstimator,
    ClassifierMixin,
    NotFittedError,
    check_names,
    copy_to_train,
    seed_from,
)
from .validation import Labels, as_features, as_labels, as_weights

__all__ = ["SlideClassifier", "as_features", "as_labels"]


class SlideClassifier(ClassifierMixin, BaseEstimator):
    """A network with a huge softmax, trained on CPU cores by locality-sensitive hashing.

    X is SparseRows, a SciPy matrix or array of any sparse format, a dense array, or the path of a data set. y holds
    class labels of one type, one a sample; or lists of label ids or names; or it is an indicator with a column a label
    (SciPy matrix, array of 0 and 1, SparseRows); see `as_labels`. scikit-learn and SciPy need not be installed.
    Parameters are checked when training begins; numbers may be NumPy's. A call that raises leaves the estimator as it
    was.

    Parameters
    ----------
    hidden : sequence of int, or int
        Neurons of each hidden layer; one number is one layer.
    epochs : int
        Passes of `fit` over the samples; 0: by their number, as in `Config`.
    micro_batch : int
        Samples that a worker processes at once.
    learning_rate : float
        The largest of the run; 0: by the number of steps, as in `Config`.
    settings : dict, optional
        Further settings of `Config`, for example ``{"scope": "sample", "lsh": {"K": 9, "L": 50}}``.
    n_workers : int, optional
        HOGWILD worker processes; -1: the CPUs there are; None: as many of them as the run is long enough for, see
        `slide_fast.training.fit_with_state`. With one worker a run is reproducible bit for bit; with more it never is.
    random_state : int, RandomState, Generator or None
        Seed of everything random, 0 <= seed < 2**63, or where to draw it from; None: a new one each time.
    warm_start : bool
        `fit` goes on from what was learned before instead of starting again.
    eval_every : float
        Epochs between evaluations on the `eval_set` of `fit`.
    eval_samples : int
        Samples of it that these evaluations use.
    patience : int, optional
        Training stops after so many evaluations in a row without a larger P@1, and the best network is kept.
    max_seconds : float, optional
        Training ends after about this time.
    verbose : bool
        Show progress on standard error.

    Attributes
    ----------
    classes_ : ndarray, shape (n_labels,)
        What stands for each label in y; whole numbers from 0 where y has label ids or columns.
    n_features_in_ : int
    feature_names_in_ : ndarray of object
        Names of the columns, only where X was a DataFrame; others are then refused.
    history_ : list of dict
        What `callback` was told at the end of epochs, at evaluations, and at the end.
    labels_per_sample_ : float
        Mean number of labels of the labelled training samples.
    model_ : Model
    """

    classes_: np.ndarray
    history_: list[Event]
    labels_per_sample_: float
    model_: Model
    n_features_in_: int
    feature_names_in_: np.ndarray
    _kind: str
    _state: TrainingState | None
    _predicts: Predictor
    _index_samples: IndexSamples | None
    _first_seed: int

    def __init__(
        self,
        hidden: Sequence[int] | int = (128,),
        epochs: int = 0,
        micro_batch: int = 256,
        learning_rate: float = 0.0,
        settings: dict[str, Any] | None = None,
        n_workers: int | None = None,
        random_state: Any = 0,
        warm_start: bool = False,
        eval_every: float = 1.0,
        eval_samples: int = 10_000,
        patience: int | None = None,
        max_seconds: float | None = None,
        verbose: bool = False,
    ):
        self.hidden = hidden
        self.epochs = epochs
        self.micro_batch = micro_batch
        self.learning_rate = learning_rate
        self.settings = settings
        self.n_workers = n_workers
        self.random_state = random_state
        self.warm_start = warm_start
        self.eval_every = eval_every
        self.eval_samples = eval_samples
        self.patience = patience
        self.max_seconds = max_seconds
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_label = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__() if HAS_SKLEARN else vars(self)
        return {key: value for key, value in state.items() if key != "_predicts"}

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        eval_set: tuple[Any, Any] | str | Path | None = None,
        callback: Callable[[Event], None] | None = None,
    ) -> SlideClassifier:
        """Train a new network, or with `warm_start` go on with the one there is.

        Parameters
        ----------
        X
            See the class.
        y
            See the class; may be left out where X is a path.
        sample_weight : array of float, shape (n_samples,), optional
            How much each sample counts: 0 or more.
        eval_set : (X, y) or path, optional
            Samples to evaluate on.
        callback : callable, optional
            Called with events, as `slide_fast.training.fit_with_state` says.

        Returns
        -------
        SlideClassifier
            Itself.

        Raises
        ------
        DataError, ConfigError, MemoryError, WorkerDiedError
            See `slide_fast.training.fit_with_state`.
        KeyboardInterrupt
            On Ctrl-C; `model_` then holds what had been learned, if anything had.
        """
        options, config = options_of(self, eval_set, callback), config_of(self)
        goes_on = self.warm_start and hasattr(self, "model_")
        with copy_to_train(self) as new:
            samples = Handover(new._samples(X, y, self.classes_ if goes_on else None, goes_on))
            train(new, config, options, samples, Given(sample_weight, eval_set, callback), goes_on, self.warm_start)
        return self

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> SlideClassifier:
        """Train for one epoch on these samples, on top of what was learned before; the rate does not fall.

        Parameters
        ----------
        X
            As `fit` takes it.
        y, sample_weight
            As `fit` takes them.
        classes : sequence, optional
            All classes there will ever be, in the first call; by default those in y. For label ids ``range(n_labels)``.
            Other labels are refused from then on.

        Returns
        -------
        SlideClassifier
            Itself.
        """
        options, goes_on = options_of(self), hasattr(self, "model_")
        seed = self._first_seed if goes_on and hasattr(self, "_first_seed") else seed_from(self.random_state)
        steady = {"decay": "constant", "in_batch": 0.0} | ({"warmup_steps": 0} if goes_on else {})
        config = config_of(self, epochs=1, seed=seed, **steady)
        given = None if classes is None else validation.as_classes(classes)
        known = self.classes_ if goes_on else given
        if goes_on and given is not None and given.tolist() != np.sort(self.classes_).tolist():
            raise DataError("`classes` is not what it was in the first call of partial_fit")
        with copy_to_train(self) as new:
            new._first_seed = seed  # drawn once: later calls count on in the same keys
            samples = Handover(new._samples(X, y, known, goes_on))
            train(new, config, options, samples, Given(sample_weight), goes_on, keeps_state=True)
        return self

    def _samples(self, X: Any, y: Any, known: np.ndarray | None, goes_on: bool) -> tuple[SparseRows, Labels]:
        """Return samples to train on; where training begins from nothing, also note what they look like."""
        features, labels = validation.as_dataset(X, y, known, self.n_features_in_ if goes_on else None)
        self._check_features(X, features, reset=not goes_on)
        if not goes_on:
            self.classes_, self._kind, self.history_ = labels.classes, labels.kind, []
        return features, labels

    def _check_features(self, X: Any, features: SparseRows, reset: bool) -> None:
        """Note how many features there are and their names, or raise DataError where they are others."""
        validation.check_sizes(features)
        check_names(self, X, reset)
        if reset:
            self.n_features_in_ = features.n_columns
        n, known = features.n_columns, self.n_features_in_
        if n > known or (n < known and not (validation.is_path(X) or isinstance(X, SparseRows))):
            raise DataError(f"X has {n} features, but {type(self).__name__} is expecting {known} features as input")

    def _trained(self) -> Model:
        if not hasattr(self, "model_"):
            raise NotFittedError("this SlideClassifier is not trained yet; call fit or load first")
        return self.model_

    def _asked(self, X: Any) -> tuple[list[Layer], SparseRows]:
        """Return the network's layers, and checked samples to predict."""
        layers = layers_of(self._trained().arrays)
        features = validation.as_samples(X, self.n_features_in_)
        self._check_features(X, features, reset=False)
        return layers, features

    def _make_index(self) -> None:
        """Give the network an index if it has none, and training samples are at hand."""
        samples = getattr(self, "_index_samples", None)
        if self._trained().index is None and samples is not None:
            self.model_ = with_index(self.model_, samples)

    def _predictor(self, features: SparseRows) -> Predictor:
        """Return a predictor of the current network, with an index if one can be made."""
        self._make_index()
        if self.model_.index is None:
            self.model_ = indexed_by(self.model_, features)
        if getattr(self, "_predicts", None) is None or self._predicts.model is not self.model_:
            self._predicts = Predictor(self.model_)
        return self._predicts

    def predict_topk(
        self, X: Any, k: int = 5, mode: str = "exact", recall: float = RECALL
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k best labels of each sample.

        Parameters
        ----------
        X
            See the class.
        k : int
        mode : str
            ``"exact"`` evaluates every label; ``"index"`` only those that an index finds, which may miss the best.
        recall : float
            With ``"index"``: the share of the exact answers that it is to find, above 0 and at most 1. The index is
            saved with the network. Where there is none, or training has made it stale, the call makes one, of training
            samples or else of those of X; where these are fewer than 256, its answers are exact.

        Returns
        -------
        labels : ndarray, shape (n_samples, k)
            Best first, as in `classes_`. Where there are fewer than k labels, or fewer were found: -1 where
            `classes_` is of an integer dtype, NaT where it holds times, else None.
        scores : ndarray of float32, shape (n_samples, k)
            Logits; -inf where a label is missing.

        Raises
        ------
        NotFittedError, DataError
            If nothing is trained, or X has other features than the network.
        ConfigError
            If there is no such mode, or k or the recall is out of its range.
        """
        k, recall, mode = whole("k", k, 1), share("recall", recall), mode_of(mode)
        layers, features = self._asked(X)
        if mode == "index":
            ids, scores, _ = self._predictor(features).topk(features, k, recall)
        else:
            ids, scores = predict_topk(layers, features, k, None)
        return in_words(ids, self.classes_), scores

    def predict(self, X: Any) -> Any:
        """Predict the best label of each sample; where training samples may have several, the best ones.

        Of these there are as many for each sample as a labelled training sample had on average, and the answer has the
        form that y had in training: an indicator, or lists.
        """
        layers, features = self._asked(X)
        k = 1 if self._kind == "classes" else min(max(1, round(self.labels_per_sample_)), len(self.classes_))
        ids, _ = predict_topk(layers, features, k, None)
        return as_in_training(ids, self.classes_, self._kind)

    def decision_function(self, X: Any, labels: Any = None) -> np.ndarray:
        """Return the logits of the labels.

        Parameters
        ----------
        X
            See the class.
        labels : sequence, optional
            Of which labels, as in `classes_`; by default of all.

        Returns
        -------
        ndarray of float32, shape (n_samples, n_chosen)
            With two classes and no choice of labels shape (n_samples,): by how much the second is ahead.
        """
        layers, features = self._asked(X)
        logits = logits_of(layers, features, places_of(labels, self.classes_, features.n_rows))
        if labels is None and self._kind == "classes" and len(self.classes_) == 2:
            return logits[:, 1] - logits[:, 0]
        return logits

    def predict_proba(self, X: Any, labels: Any = None) -> np.ndarray:
        """Return probabilities by the softmax over all labels, float64, shape (n_samples, n_chosen).

        Parameters as in `decision_function`; with two classes there are two columns.
        """
        layers, features = self._asked(X)
        return probabilities_of(layers, features, places_of(labels, self.classes_, features.n_rows))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of samples whose best label is right (P@1); those without known labels are wrong."""
        layers, features = self._asked(X)
        truths = validation.as_truths(X, y, self.classes_)
        if truths.n_rows != features.n_rows:
            raise DataError(f"X has {features.n_rows} samples, but there are labels for {truths.n_rows}")
        best = predict_topk(layers, features, 1, None)[0][:, 0]
        return float(np.average(are_right(best, truths), weights=as_weights(sample_weight, truths.n_rows)))

    def save(self, folder: str | Path) -> None:
        """Write the trained network and its index as a model folder, replacing an earlier one whole."""
        self._make_index()
        names = list(getattr(self, "feature_names_in_", ())) or None
        model = dataclasses.replace(self._trained(), feature_names=names)
        save_model(folder, with_classes(model, self.classes_, self._kind, self.labels_per_sample_))

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = False) -> SlideClassifier:
        """Read a model folder.

        Parameters
        ----------
        folder : path
            A model folder, or the folder of a run that holds one.
        mmap : bool
            Map the weights instead of reading them: processes that serve the same model then share one copy.
        """
        model = load_model(folder, mmap)
        named = model.config.to_dict()
        own = {key: named.pop(key) for key in ("epochs", "micro_batch", "learning_rate")}
        hidden, seed = tuple(named.pop("hidden")), named.pop("seed")
        classifier = cls(hidden, **own, settings=named, random_state=seed)
        classifier.model_, classifier.n_features_in_, classifier.history_ = model, model.n_features, history_of(model)
        classifier._kind, classifier.labels_per_sample_ = form_of(model)
        classifier.classes_ = classes_of(model)
        if model.feature_names is not None:
            classifier.feature_names_in_ = np.array(model.feature_names, dtype=object)
        return classifier
