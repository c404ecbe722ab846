"""`SlideTextClassifier`: texts in, names of labels out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slide_ref.common.errors import ConfigError, DataError, ModelError
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.model_folder import TextColumns

from ..engine.option_checks import checked
from ..parallel.machine import available_cpus
from ..text.reading import batches_of, counted
from ..text.settings import WORDS, TextSettings
from ..text.vectorizer import Vectorizer, fit, joined
from .classifier import SlideClassifier
from .label_coding import is_missing, shown
from .validation import Labels

SETTINGS = ("word_ngrams", "char_ngrams", "min_df", "buckets", "token_pattern", "tokenizer")


class SlideTextClassifier(SlideClassifier):
    """A `SlideClassifier` of texts: X is a sequence of str, such as a list or a Series, y as there.

    Features are words, and as the parameters say words in a row and parts of words, counted in lower case; values are
    (1 + log count) times the inverse document frequency in the training texts, and each row has length 1. What makes
    features of texts is saved with the network: ``slide predict`` and its like take models of this class, and `load`
    takes models of ``slide train``.

    Parameters
    ----------
    hidden, epochs, micro_batch, learning_rate, settings, n_workers, random_state, warm_start
        See `SlideClassifier`.
    eval_every, eval_samples, patience, validation_fraction, eval_metric, class_weight, max_seconds, verbose
        See `SlideClassifier`.
    word_ngrams : int
        Features are words, and so many words in a row at most; 0: no words.
    char_ngrams : tuple of int, optional
        Least and most characters of parts of words, with a space before and after each word, that are features too.
    min_df : int
        Training texts that a feature must occur in; rarer ones are left out. Without effect where `buckets` is not 0.
    buckets : int
        Features are hashed into so many columns; 0: those of the training texts are kept, a column each.
    token_pattern : str
        Regular expression of a word.
    tokenizer : callable, optional
        Cuts a text, in lower case, into words; returns a list of str. It is not saved: `load` must be given it again.

    Attributes
    ----------
    classes_ : ndarray, shape (n_labels,)
        What stands for each label in y.
    n_features_in_ : int
        Columns that the texts have.
    model_ : Model
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

        The first call needs `buckets`: nobody knows the words to come. Document frequencies are those of its texts.
        After `fit` or `load` nothing is needed, and words that were not there in training are passed over.
        """
        if not hasattr(self, "model_") and not self.buckets:
            raise ConfigError("buckets is 0; partial_fit needs hashed features to begin with, such as buckets=2**18")
        super().partial_fit(X, y, classes, sample_weight)
        return self

    def _samples(self, X: Any, y: Any, known: np.ndarray | None, goes_on: bool) -> tuple[SparseRows, Labels]:
        if goes_on:
            return super()._samples(X, y, known, goes_on)
        settings = TextSettings.checked(**{name: getattr(self, name) for name in SETTINGS})
        self._vectorizer, rows = fit(settings, list(self._counted(as_texts(X), settings)))
        return super()._samples(rows, y, known, goes_on)

    def _rows_of(self, X: Any) -> SparseRows:
        if isinstance(X, SparseRows):  # made by `_samples`
            return X
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
            Map the weights instead of reading them: processes that serve the same model then share one copy.
        tokenizer : callable, optional
            The one of training, where there was one.

        Raises
        ------
        ModelError
            If the folder holds no whole model, the model was not trained on texts, or it needs a tokenizer.
        """
        classifier = super().load(folder, mmap)
        assert isinstance(classifier, cls)
        text = classifier.model_.text
        if text is None:
            raise ModelError(f"{folder}: this model was not trained on texts; load it with SlideClassifier.load")
        classifier._vectorizer = Vectorizer.of(text, tokenizer)
        classifier.set_params(**{name: getattr(classifier._vectorizer.settings, name) for name in SETTINGS})
        return classifier


def as_texts(X: Any) -> list[str]:
    """List texts as users have them. Raises DataError where one is no text."""
    if isinstance(X, (str, bytes)) or not hasattr(X, "__iter__") or getattr(X, "ndim", 1) != 1:
        raise DataError(
            "X is not a sequence of texts; give a list of str, or a column of a table such as table['title']"
        )
    texts = list(X)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            what = "the text is missing" if is_missing(text) else f"{shown(text)} is not a text"
            raise DataError(f"X, row {i}: {what}; give a str, '' where there are no words")
    return texts
