"""What a trained estimator knows besides answers: activations of samples, weights of labels, labels that are alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.lsh_config import whole

from ..inference.similar import most_similar
from ..prediction import all_hidden_outputs
from .answers import PredictionMixin
from .label_decoding import places_of
from .sklearn_base import TransformerMixin


class EmbeddingMixin(PredictionMixin, TransformerMixin):
    """The answers of `SlideClassifier`, and its embeddings."""

    def transform(self, X: Any) -> np.ndarray:
        """Return what the last hidden layer makes of samples, rectified: what enters the output layer.

        Parameters
        ----------
        X
            See the class.

        Returns
        -------
        ndarray of float32, shape (n_samples, n_neurons of the last hidden layer)
            Their product with `label_embeddings_`, and the biases, are the logits.

        Raises
        ------
        NotFittedError, DataError
            If nothing is trained, or X has other features than the network.
        """
        layers, features = self._asked(X)
        return all_hidden_outputs(layers, features, None)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns of `transform`: ``slideclassifier0`` and so on, by scikit-learn's rules.

        Parameters
        ----------
        input_features : sequence of str, optional
            Of no effect, but checked against the features of training.

        Returns
        -------
        ndarray of object, shape (n_neurons of the last hidden layer,)
        """
        n_neurons, known = self._trained().config.hidden[-1], getattr(self, "feature_names_in_", None)
        if input_features is not None:
            names = np.asarray(input_features, dtype=object)
            if known is not None and not np.array_equal(known, names):
                raise DataError("input_features is not equal to feature_names_in_")
            if len(names) != self.n_features_in_:
                n = self.n_features_in_
                raise DataError(
                    f"input_features should have length equal to number of features ({n}), got {len(names)}"
                )
        return np.array([f"{type(self).__name__.lower()}{i}" for i in range(n_neurons)], dtype=object)

    @property
    def label_embeddings_(self) -> np.ndarray:
        """Weights of the output layer: float32, shape (n_labels, n_inputs), a row a label in the order of `classes_`.

        They are the network's own and cannot be written to; of a network in float16 they are a copy.
        """
        model = self._trained()
        weights = np.asarray(model.arrays[f"W{len(model.config.hidden)}"]).astype(np.float32, copy=False).view()
        weights.flags.writeable = False
        return weights

    def similar_labels(self, label: Any, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """Find the labels whose weights point in the most similar direction: those that fire for similar samples.

        Parameters
        ----------
        label
            One of `classes_`.
        k : int

        Returns
        -------
        labels : ndarray, shape (k,)
            As in `classes_`, most similar first; fewer if there are fewer others. The label itself is not among them.
        similarities : ndarray of float32, shape (k,)
            Cosines of the angles between rows of `label_embeddings_`: from -1 to 1.

        Raises
        ------
        NotFittedError, DataError, ConfigError
            If nothing is trained, there is no such label, or k is no whole number of 1 or more.
        """
        k, model = whole("k", k, 1), self._trained()
        place = int(places_of([label], self.classes_, 1)[0])
        ids, cosines = most_similar(np.asarray(model.arrays[f"W{len(model.config.hidden)}"]), place, k)
        return self.classes_[ids], cosines
