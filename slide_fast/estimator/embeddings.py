"""Embeddings of a trained estimator: activations of samples, weight vectors of labels, and similar labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from slide_ref.common.checks import whole
from slide_ref.common.errors import DataError

from ..inference.predictor import require_finite
from ..inference.similar import most_similar
from ..prediction import all_hidden_outputs
from .answers import PredictionMixin
from .label_coding import is_row
from .label_decoding import places_of
from .sklearn_base import TransformerMixin


class EmbeddingMixin(PredictionMixin, TransformerMixin):
    """Prediction methods of `SlideClassifier`, and its embeddings."""

    def transform(self, X: Any) -> np.ndarray:
        """Return the activations of the last hidden layer, after ReLU: the inputs of the output layer.

        Parameters
        ----------
        X
            See the class.

        Returns
        -------
        ndarray of float32, shape (n_samples, n_neurons of the last hidden layer)
            Their product with the transpose of `label_embeddings_`, plus the biases, gives the logits.

        Raises
        ------
        NotFittedError, DataError
            If the estimator is not trained, or the features of X differ from those of the network.
        """
        _, predictor, features = self._asked(X)
        found = all_hidden_outputs(predictor.layers, features, None)
        require_finite(found)
        return found

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns of `transform`: ``slideclassifier0`` and so on, by scikit-learn's rules.

        Parameters
        ----------
        input_features : sequence of str, optional
            Has no effect, but is checked against the training features.

        Returns
        -------
        ndarray of object, shape (n_neurons of the last hidden layer,)
        """
        n_neurons, known = self._trained().config.hidden[-1], getattr(self, "feature_names_in_", None)
        if input_features is not None:
            names = np.asarray(input_features, dtype=object)
            if known is not None and not np.array_equal(known, names):
                raise DataError("input_features is not equal to feature_names_in_")
            n = self.n_features_in_
            if len(names) != n:
                text = f"input_features should have length equal to number of features ({n}), got {len(names)}"
                raise DataError(text)
        return np.array([f"{type(self).__name__.lower()}{i}" for i in range(n_neurons)], dtype=object)

    @property
    def label_embeddings_(self) -> np.ndarray:
        """Weights of the output layer: float32, shape (n_labels, n_inputs), with rows in the order of `classes_`.

        A read-only view of the network's weights; for a float16 network, a copy.
        """
        model = self._trained()
        weights = np.asarray(model.arrays[f"W{len(model.config.hidden)}"]).astype(np.float32, copy=False).view()
        weights.flags.writeable = False
        return weights

    def similar_labels(self, label: Any, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """Find the labels whose weight vectors point in the most similar directions: similar samples activate them.

        Parameters
        ----------
        label
            One of `classes_`.
        k : int

        Returns
        -------
        labels : ndarray, shape (k,)
            As in `classes_`, most similar first; fewer than k if there are fewer other labels. Excludes the label
            itself.
        similarities : ndarray of float32, shape (k,)
            Cosines of the angles between rows of `label_embeddings_`: from -1 to 1.

        Raises
        ------
        NotFittedError, DataError, ConfigError
            If the estimator is not trained, there is no such label, or k is not a whole number of 1 or more.

        Examples
        --------
        >>> from slide_fast import SlideClassifier
        >>> X, y = [[1, 0], [0, 1]] * 20, ["left", "right"] * 20
        >>> model = SlideClassifier(hidden=8, epochs=20, micro_batch=10, learning_rate=0.05, n_workers=1)
        >>> labels, cosines = model.fit(X, y).similar_labels("left")
        >>> labels.tolist()
        ['right']
        """
        k, now = whole("k", k, 1), self._now()
        if is_row(type(label)):
            raise DataError("label holds several values; give one of classes_")
        place = int(places_of([label], now.classes_, 1, "label")[0])
        ids, cosines = most_similar(np.asarray(now.model_.arrays[f"W{len(now.model_.config.hidden)}"]), place, k)
        return now.classes_[ids], cosines
