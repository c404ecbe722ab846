"""`SlideClassifier`: train and predict from Python, following the conventions of scikit-learn."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.model_folder import TextColumns, load_model, save_model
from slide_ref.common.storage.precision import with_dtype

from ..engine.auto_settings import OF_INPUTS
from ..engine.checkpoints import TrainingState
from ..engine.handover import Handover
from ..engine.progress import Event
from ..engine.training_info import history_of
from . import validation
from .embeddings import EmbeddingMixin
from .fitting import FORCED, OF_FIT, Given, Part, train
from .label_coding import same_labels
from .label_decoding import classes_of, form_of, with_classes
from .parameters import config_of, options_of
from .sklearn_base import BaseEstimator, ClassifierMixin, copy_to_train
from .validation import Labels, as_labels


class SlideClassifier(EmbeddingMixin, ClassifierMixin, BaseEstimator):
    """A network with a huge softmax, trained on CPU cores: each step computes only some of the labels.

    X is SparseRows, a SciPy matrix or array of any sparse format, a dense array, a DataFrame of numbers, or the path of
    a file for `slide_fast.data.read_dataset`. y holds class labels of one type, one per sample; or lists of label ids
    or names; or it is an indicator matrix, one column per label (SciPy matrix, array of 0 and 1, SparseRows); see
    `slide_fast.estimator.validation.as_labels`. scikit-learn and SciPy need not be installed. Parameters are checked
    when training begins; NumPy numbers are accepted. A call that raises an error leaves the estimator unchanged; Ctrl-C
    during training keeps what was learned.

    Parameters
    ----------
    hidden : sequence of int, or int, optional
        Neurons of each hidden layer; one number means one layer. Default: 1,024, or for dense inputs of up to 1,024
        features a multiple of twice their number (684 to 2,048), for at least 2,000 samples that have two or more
        labels on average or dense inputs, if that needs at most 2**28 weights and `settings` has no `scope`, `lsh` or
        `hidden_lsh`; else 128 (`slide_fast.engine.auto_settings.suited`).
    epochs : int
        Passes of `fit` over the samples; 0: chosen by the number of samples, as in `Config`, or 6 for a new network
        that is wide by default, up to 16 for dense inputs.
    micro_batch : int
        Samples that a worker processes at once.
    learning_rate : float
        Largest learning rate of the run; 0: chosen by the number of steps and the width of the layers (S27).
    settings : dict, optional
        Further settings of `Config`, such as ``{"scope": "sample", "lsh": {"K": 9, "L": 50}}``, but none that is set by
        a parameter.
    n_workers : int, optional
        HOGWILD worker processes in training; -1: one per CPU; None: the same, but no more than the run is long enough
        for (S33). With one worker a run is reproducible bit for bit on the same machine and libraries; with more it
        never is. Prediction uses threads, whatever this number is.
    random_state : int, RandomState, Generator or None
        Seed of all randomness, 0 <= seed < 2**63, or a generator to draw it from; None: a new seed each time.
    warm_start : bool
        `fit` continues from what was learned before instead of starting from scratch.
    eval_every : float
        Epochs between evaluations, on the `eval_set` of `fit` or on held-out samples.
    eval_samples : int
        Number of those samples that each evaluation during training uses.
    patience : int, optional
        Training stops after this many evaluations in a row without improvement in `eval_metric`, and the best network
        is kept. Needs `validation_fraction`, or an `eval_set` in `fit`. By default the last network is kept.
    validation_fraction : float, optional
        Fraction of the training samples, above 0 and below 1, that `fit` holds out to evaluate on, chosen by
        `random_state` (S38). Excludes `eval_set`. `partial_fit` trains on all samples.
    eval_metric : str
        Metric that selects the best network: ``"precision_at_1"``, ``"ndcg_at_5"``, ``"psp_at_3"`` and the like at 1, 3
        and 5, or ``"loss"``.
    class_weight : str or dict, optional
        Weight of the samples of each label. ``"balanced"``: all labels that occur have the same total weight, as in
        scikit-learn; ``"propensity"``: inverse propensity (Jain, Prabhu and Varma, KDD 2016, A = 0.55, B = 1.5), as in
        PSP@k; a dict: weights by label, 1 for those left out. Labels are counted among the samples that `fit` trains
        on. A sample with several labels gets the mean of their weights, times its `sample_weight`. `partial_fit`
        accepts only a dict.
    max_seconds : float, optional
        Training ends after about this many seconds, including rebuilds but not evaluations.
    verbose : bool
        Show progress on standard error.

    Attributes
    ----------
    classes_ : ndarray, shape (n_labels,)
        The value of each label in y; whole numbers from 0 if y has label ids or columns.
    n_features_in_ : int
        Number of features of the training samples.
    feature_names_in_ : ndarray of object
        Names of the columns, only if X was a DataFrame; other names are then rejected.
    history_ : list of dict
        Events of the kinds ``epoch``, ``evaluation`` and ``end``, as `callback` receives them; those of further
        training are added.
    labels_per_sample_ : float
        Mean number of labels of the labelled training samples.
    model_ : Model
        The network, with its settings in `config` and information about its training in `facts`.

    Examples
    --------
    >>> import numpy as np
    >>> from slide_fast import SlideClassifier
    >>> X = np.eye(4).repeat(20, axis=0)
    >>> y = np.array(["north", "east", "south", "west"]).repeat(20)
    >>> model = SlideClassifier(hidden=16, epochs=20, micro_batch=16, learning_rate=0.05, n_workers=1)
    >>> model.fit(X, y).predict(X[:1])
    array(['north'], dtype='<U5')
    """

    history_: list[Event]
    feature_names_in_: np.ndarray
    _state: TrainingState | None
    _first_seed: int

    def __init__(
        self,
        hidden: Sequence[int] | int | None = None,
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
        validation_fraction: float | None = None,
        eval_metric: str = "precision_at_1",
        class_weight: str | dict[Any, float] | None = None,
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
        self.validation_fraction = validation_fraction
        self.eval_metric = eval_metric
        self.class_weight = class_weight
        self.max_seconds = max_seconds
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]  # scikit-learn has it
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_label = True
        tags.non_deterministic = bool(self.n_workers != 1 or self.max_seconds is not None)
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__() or {})  # type: ignore[call-overload]
        state.pop("_predicts", None)
        if state.get("_state") is not None:  # joblib would write what it shares with the model twice
            state["_state"] = state["_state"].besides(state["model_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        kept = getattr(self, "_state", None)
        if kept is not None:
            self._state = kept.completed(self.model_)

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        eval_set: tuple[Any, Any] | str | Path | None = None,
        callback: Callable[[Event], None] | None = None,
    ) -> SlideClassifier:
        """Train a new network, or with `warm_start` continue training the current one.

        Parameters
        ----------
        X
            See the class.
        y
            See the class; may be left out where X is a path.
        sample_weight : array of float, shape (n_samples,), optional
            Weight of each sample, 0 or more, relative to the others of its micro-batch: with ``micro_batch=1`` only
            whether it is 0 counts.
        eval_set : tuple (X, y) or path, optional
            Samples to evaluate on; a single pair, not a list of pairs. Excludes `validation_fraction`.
        callback : callable, optional
            Called with events; see `slide_fast.training.fit_with_state`.

        Returns
        -------
        SlideClassifier
            Itself.

        Raises
        ------
        DataError, ConfigError, MemoryError, WorkerDiedError, DivergedError
            See `slide_fast.training.fit_with_state`.
        TypeError
            If X holds objects that cannot become numbers, or only some of its column names are str.
        KeyboardInterrupt
            On Ctrl-C; `model_` then holds what had been learned, if anything had.
        """
        options, config = options_of(self, eval_set, callback), config_of(self)
        goes_on = self.warm_start and hasattr(self, "model_")
        with copy_to_train(self) as new:
            samples = Handover(new._samples(X, y, goes_on))
            if not goes_on:
                vars(new).pop("_first_seed", None)
            given = Given(sample_weight, eval_set, callback, self.validation_fraction, self.class_weight)
            train(new, config, options, samples, given, goes_on, self.warm_start)
        return self

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> SlideClassifier:
        """Train for one epoch on these samples, on top of what was learned before; the learning rate does not decay.

        There are no in-batch steps (S32), and only the first call warms up. All samples are trained on: `patience` and
        `validation_fraction` have no effect. Label counts, and the number of labels that `predict` returns, are those
        of all calls together; a call cut short by Ctrl-C, or too short for a step, does not count.

        Parameters
        ----------
        X, y, sample_weight
            As `fit` takes them.
        classes : sequence, optional
            All classes that will ever occur, in the first call; by default those in y. For label ids
            ``range(n_labels)``; for the columns of an indicator their names, ascending. Other labels are rejected from
            then on.

        Returns
        -------
        SlideClassifier
            Itself.

        Raises
        ------
        ConfigError
            If `class_weight` is a str, which needs the labels of all samples; else as for `fit`.
        DataError
            If `classes` differs from the labels of the network, or y holds another; else as for `fit`.
        MemoryError, WorkerDiedError, DivergedError, TypeError, KeyboardInterrupt
            As for `fit`.
        """
        options, goes_on = options_of(self, judged=False), hasattr(self, "model_")
        if isinstance(self.class_weight, str):
            raise ConfigError(f"class_weight={self.class_weight!r} counts labels over all samples, but partial_fit "
                              "sees only some; give weights per label")  # fmt: skip
        wanted = config_of(self)
        seed = self._first_seed if goes_on and hasattr(self, "_first_seed") else wanted.seed
        steady = {"decay": "constant", "in_batch": 0.0} | ({"warmup_steps": 0} if goes_on else {})
        config = wanted.replace(epochs=1, seed=seed, **steady)
        given = None if classes is None else validation.as_classes(classes)
        if goes_on and given is not None and not same_labels(given, np.sort(self.classes_)):
            raise DataError("`classes` differs from the labels of the network; leave it out, or train a new network")
        with copy_to_train(self) as new:
            new._first_seed = seed  # drawn once: later calls count on in the same keys
            made = new._samples(X, y, goes_on, given)
            if classes is not None and made[1].kind not in ("classes", "lists"):
                _check_ascending(classes)
            samples = Handover(made)
            del made
            part = Part(wanted, self.model_ if goes_on else None)
            weighting = Given(sample_weight, class_weight=self.class_weight, part=part)
            train(new, config, options, samples, weighting, goes_on, True)
        return self

    def _samples(self, X: Any, y: Any, goes_on: bool, classes: np.ndarray | None = None) -> tuple[SparseRows, Labels]:
        """Return samples to train on; if training starts from scratch, also record what they look like."""
        return self._samples_of(self._rows_of(X), y, goes_on, classes)

    def _samples_of(
        self, X: Any, y: Any, goes_on: bool, classes: np.ndarray | None = None, name: str = "y"
    ) -> tuple[SparseRows, Labels]:
        expected = None if classes is None else validation.Known(classes, "rows", None)
        if goes_on:
            expected = validation.Known(self.classes_, self._kind, self.n_features_in_)
        features, labels = validation.as_dataset(X, y, expected, name)
        self._check_features(X, features, reset=not goes_on)
        if goes_on:
            features = dataclasses.replace(features, n_columns=self.n_features_in_)  # a file may have fewer
        else:
            self.classes_, self._kind, self.history_ = labels.classes, labels.kind, []
        return features, labels

    def _text_columns(self) -> TextColumns | None:
        """Return the text settings to store in the model; None in a class that takes no texts."""
        return None

    def save(self, folder: str | Path, dtype: str | None = None) -> None:
        """Write the trained network and its index as a model folder, replacing an earlier one as a whole.

        Parameters
        ----------
        folder : path
        dtype : str, optional
            Of the weights in the folder: ``"float32"``, or ``"float16"``, which takes half the space. Default: that of
            the network, float32 after training.

        Raises
        ------
        NotFittedError, ConfigError, ModelError
            If the estimator is not trained, the dtype is unknown or cannot hold a weight, or the folder cannot be
            written.
        """
        now = self._now()
        names = list(getattr(now, "feature_names_in_", ())) or None
        model = dataclasses.replace(self._with_index(now), feature_names=names)
        model = model if dtype is None else with_dtype(model, dtype)
        save_model(folder, with_classes(model, now.classes_, now._kind, now.labels_per_sample_))

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = False) -> SlideClassifier:
        """Read a model folder.

        Parameters
        ----------
        folder : path
            A model folder, or the folder of a run that holds one.
        mmap : bool
            Memory-map the weights instead of reading them: processes that serve the same model then share one copy.

        Returns
        -------
        SlideClassifier
            Weights that were saved in float16 stay float16 and are converted to float32 during computation; further
            training converts all of them to float32. Parameters are the settings that the network was trained with; all
            others have their defaults. Two exceptions: `fit` chooses `input_scale` and `initial_weights` from its
            samples again, and after `partial_fit` epochs, decay, in-batch share and warm-up are those that `fit` would
            have had for the samples of the first call.

        Raises
        ------
        ModelError
            If the folder holds no complete model.
        ConfigError
            In a subclass one of whose parameters has no default.

        Examples
        --------
        >>> from slide_fast import SlideClassifier
        >>> X, y = [[1, 0], [0, 1]] * 20, ["left", "right"] * 20
        >>> model = SlideClassifier(hidden=8, epochs=20, micro_batch=10, learning_rate=0.05, n_workers=1)
        >>> model.fit(X, y).save("sides")
        >>> SlideClassifier.load("sides").predict([[0, 1]]).tolist()
        ['right']
        """
        model = load_model(folder, mmap)
        named, of_fit = model.config.to_dict(), model.facts.get(OF_FIT)
        if isinstance(of_fit, dict):
            named |= {key: of_fit[key] for key in FORCED if key in of_fit}
        own = {key: named.pop(key) for key in ("epochs", "micro_batch", "learning_rate")}
        hidden, seed = tuple(named.pop("hidden")), named.pop("seed")
        named = {key: value for key, value in named.items() if key not in OF_INPUTS}
        try:
            inspect.signature(cls).bind()
        except TypeError as error:
            raise ConfigError(
                f"{error}; give each parameter of {cls.__name__} a default, so that load can make one"
            ) from error
        classifier = cls()
        vars(classifier).update(own, hidden=hidden, settings=named, random_state=seed)
        classifier.model_, classifier.n_features_in_, classifier.history_ = model, model.n_features, history_of(model)
        classifier._kind, classifier.labels_per_sample_ = form_of(model)
        classifier.classes_ = classes_of(model)
        if model.feature_names is not None:
            classifier.feature_names_in_ = np.array(model.feature_names, dtype=object)
        return classifier


def _check_ascending(classes: Any) -> None:
    """Raise DataError unless class labels ascend, as they must where the columns of y, or of a file, stand for them."""
    if (np.diff(as_labels(classes, name="classes").rows.indices) <= 0).any():
        raise DataError("classes: the columns of y, or the labels of a file, stand for the classes in ascending order; "
                        "sort `classes` and name each once")  # fmt: skip
