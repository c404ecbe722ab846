"""`SlideTextClassifier`: texts in, names of labels out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from slide_ref.common.errors import ConfigError, DataError, ModelError
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.model_folder import TextColumns

from ..engine.option_checks import checked
from ..parallel.machine import available_cpus
from ..readers.growing_rows import joined
from ..text.reading import batches_of, counted
from ..text.settings import SAVED, WORDS, TextSettings, require_words
from ..text.vectorizer import Vectorizer, fit
from .classifier import SlideClassifier
from .label_coding import is_missing, shown
from .validation import Labels

SETTINGS = (*SAVED, "tokenizer")


class SlideTextClassifier(SlideClassifier):
    """A `SlideClassifier` for texts: X is a sequence of str, such as a list or a Series; y is as in `SlideClassifier`.

    Features are lower-cased words, optionally also word and character n-grams; their values are (1 + log count) times
    the inverse document frequency in the training texts, and each row has length 1. The text settings are saved with
    the network: ``slide predict`` and other commands accept such models, and `load` accepts models of ``slide train``,
    which reads texts from files. Here no paths are accepted, neither as X nor as `eval_set`.

    Parameters
    ----------
    hidden, epochs, micro_batch, learning_rate, settings, n_workers, random_state, warm_start
        See `SlideClassifier`. Words of more than 12,288 texts are counted by `n_workers` processes, also to predict.
    eval_every, eval_samples, patience, validation_fraction, eval_metric, class_weight, max_seconds, verbose
        See `SlideClassifier`.
    word_ngrams : int
        Features are n-grams of up to this many words; 0: no words.
    char_ngrams : tuple of int, optional
        Smallest and largest n of additional character n-grams, within words that have a space added on each side.
    min_df : int
        Features that occur in fewer than this many training texts are dropped. Has no effect unless `buckets` is 0.
    buckets : int
        Features are hashed into this many columns (not related to the buckets of tables); 0: one column for each
        feature of the training texts.
    token_pattern : str
        Regular expression that matches a word, ``\\w+`` by default; with a group, of which there may be one, what the
        group matches is the word. Has no effect with a `tokenizer`.
    tokenizer : callable, optional
        Splits a lower-cased text into words; returns a list of str. It is not saved: pass it to `load` again.

    Attributes
    ----------
    classes_ : ndarray, shape (n_labels,)
        The value of each label in y.
    n_features_in_ : int
        Number of features.
    history_ : list of dict
    labels_per_sample_ : float
    model_ : Model
        These three are as in `SlideClassifier`.

    Examples
    --------
    >>> from slide_fast import SlideTextClassifier
    >>> texts = ["a red apple", "a green apple", "a red car", "a fast car"] * 20
    >>> tags = [["fruit", "red"], ["fruit"], ["vehicle", "red"], ["vehicle"]] * 20
    >>> model = SlideTextClassifier(hidden=32, epochs=50, micro_batch=32, learning_rate=0.01, n_workers=1)
    >>> labels, logits = model.fit(texts, tags).predict_topk(["the red car"], k=2)
    >>> sorted(labels[0].tolist())
    ['red', 'vehicle']
    """

    _vectorizer: Vectorizer

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
        word_ngrams: int = 1,
        char_ngrams: tuple[int, int] | None = None,
        min_df: int = 2,
        buckets: int = 0,
        token_pattern: str = WORDS,
        tokenizer: Callable[[str], list[str]] | None = None,
    ):
        super().__init__(
            hidden, epochs, micro_batch, learning_rate, settings, n_workers, random_state, warm_start,
            eval_every, eval_samples, patience, validation_fraction, eval_metric, class_weight, max_seconds, verbose,
        )  # fmt: skip
        self.word_ngrams = word_ngrams
        self.char_ngrams = char_ngrams
        self.min_df = min_df
        self.buckets = buckets
        self.token_pattern = token_pattern
        self.tokenizer = tokenizer

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse, tags.input_tags.two_d_array = False, False
        tags.input_tags.one_d_array, tags.input_tags.string = True, True
        return tags

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> SlideTextClassifier:
        """Train for one epoch on these texts, on top of what was learned before; see `SlideClassifier.partial_fit`.

        The first call needs `buckets`, since later calls may bring new words. It sets the document frequencies. After
        `fit` or `load` `buckets` is not needed, and words that did not occur in training are ignored.
        """
        if not hasattr(self, "model_") and not self.buckets:
            raise ConfigError("buckets is 0; partial_fit needs hashed features to begin with, such as buckets=2**18")
        super().partial_fit(X, y, classes, sample_weight)
        return self

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns of `transform`: ``slidetextclassifier0`` and so on.

        Parameters
        ----------
        input_features : sequence of str, optional
            Has no effect: X is one column of texts.

        Returns
        -------
        ndarray of object, shape (n_neurons of the last hidden layer,)
        """
        return super().get_feature_names_out()

    def _samples(self, X: Any, y: Any, goes_on: bool, classes: np.ndarray | None = None) -> tuple[SparseRows, Labels]:
        settings = TextSettings.checked(**{name: getattr(self, name) for name in SETTINGS})
        if goes_on:
            self._check_unchanged(settings)
            rows = self._rows_of(X)
        else:
            require_words(settings)
            self._vectorizer, rows = fit(settings, list(self._counted(as_texts(X), settings)))
        return self._samples_of(rows, y, goes_on, classes)

    def _check_unchanged(self, settings: TextSettings) -> None:
        """Raise ConfigError if text settings differ from those that the network was trained with."""
        for name in SETTINGS:
            if (name == "min_df" and settings.buckets) or (name == "token_pattern" and settings.tokenizer is not None):
                continue  # it has no effect then
            now, trained = getattr(settings, name), getattr(self._vectorizer.settings, name)
            if now != trained:
                text = f"{name} is {now!r}, but the network was trained with {trained!r}"
                raise ConfigError(f"{text}; set it back, or train a new network")

    def _rows_of(self, X: Any) -> SparseRows:
        parts = map(self._vectorizer.rows, self._counted(as_texts(X), self._vectorizer.settings))
        return joined(parts, self._vectorizer.n_columns)

    def _counted(self, texts: list[str], settings: TextSettings) -> Any:
        n_workers = checked({"n_workers": self.n_workers})["n_workers"]
        return counted(batches_of(texts), settings, n_workers or available_cpus())

    def _text_columns(self) -> TextColumns | None:
        return self._vectorizer.saved({})

    @classmethod
    def load(
        cls, folder: str | Path, mmap: bool = False, tokenizer: Callable[[str], list[str]] | None = None
    ) -> SlideTextClassifier:
        """Read a model folder that this class or ``slide train`` wrote for texts.

        Parameters
        ----------
        folder : path
            A model folder, or the folder of a run that holds one.
        mmap : bool
            Memory-map the weights instead of reading them: processes that serve the same model then share one copy.
        tokenizer : callable, optional
            The tokenizer used in training, if there was one.

        Raises
        ------
        ModelError
            If the folder holds no complete model, the model was not trained on texts, or it needs a tokenizer.
        """
        classifier = super().load(folder, mmap)
        assert isinstance(classifier, cls)
        text = classifier.model_.text
        if text is None:
            raise ModelError(f"{folder}: this model was not trained on texts; load it with SlideClassifier.load")
        classifier._vectorizer = Vectorizer.of(text, tokenizer)
        vars(classifier).update({name: getattr(classifier._vectorizer.settings, name) for name in SETTINGS})
        return classifier


def as_texts(X: Any) -> list[str]:
    """Convert X to a list of str. Raises DataError if an item is not a text."""
    if isinstance(X, (str, bytes, Set, Mapping)) or not hasattr(X, "__iter__") or getattr(X, "ndim", 1) != 1:
        raise DataError(
            "X is not a sequence of texts, which SlideTextClassifier takes; give a list of str, or a column of a table "
            "such as table['title']"
        )
    texts = list(X)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            what = "the text is missing" if is_missing(text) else f"{shown(text)} is not a text"
            raise DataError(f"X, row {i}: {what}; give a str, '' if there are no words")
    return texts
