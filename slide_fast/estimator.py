"""`SlideClassifier`: train and predict from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError, DataError, ModelError
from slide_ref.common.model_folder import Model, load_model, save_model
from slide_ref.common.parameters import layers_of
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists

from .machine import available_cpus
from .prediction import MODES, Index, index_of, predict_topk, predict_topk_lsh
from .training import Event, TrainingInterrupted, fit


def as_features(X: Any) -> SparseRows:
    """Samples as checked, canonical rows.

    Parameters
    ----------
    X : SparseRows, or a SciPy CSR matrix or array

    Raises
    ------
    DataError
        If X is something else, or its arrays do not fit together, or a value is not finite.
    """
    if not isinstance(X, SparseRows):
        if getattr(X, "format", None) != "csr":
            raise DataError(f"X is {type(X).__name__}; give SparseRows or a SciPy CSR matrix (X.tocsr())")
        indptr, indices = X.indptr.astype(np.int64), X.indices.astype(np.int32)
        X = SparseRows(indptr, indices, X.data.astype(np.float32), X.shape[1])
    X.check("X")
    return X.canonical()


def as_labels(Y: Any, n_labels: int | None = None) -> SparseRows:
    """Labels as canonical rows without values.

    Parameters
    ----------
    Y : SparseRows, SciPy CSR indicator, sequence of label ids, or sequence of lists of label ids
    n_labels : int, optional
        Labels there are; by default the columns of Y, or one more than the largest id.

    Raises
    ------
    DataError
        If Y is something else, or an id is negative or too large.
    """
    if getattr(Y, "format", None) == "csr":
        indptr, indices = Y.indptr.astype(np.int64), Y.indices.astype(np.int32)
        Y = SparseRows(indptr, indices, np.asarray(Y.data, np.float32), Y.shape[1])
    if isinstance(Y, SparseRows):
        Y.check("Y")
        rows = Y.canonical()
        return SparseRows(rows.indptr, rows.indices, None, rows.n_columns)
    lists = [np.atleast_1d(np.asarray(ids)) for ids in Y]
    if any(ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu") for ids in lists):
        raise DataError("Y holds something else than label ids; give whole numbers from 0, one or a list a sample")
    largest = max((int(ids.max()) for ids in lists if ids.size), default=-1)
    return rows_from_lists([ids.tolist() for ids in lists], largest + 1 if n_labels is None else n_labels)


class SlideClassifier:
    """A network with a huge softmax, trained on CPU cores by locality-sensitive hashing.

    Parameters
    ----------
    hidden : sequence of int
        Neurons of each hidden layer.
    epochs, micro_batch, learning_rate
        As in `Config`.
    settings : dict, optional
        Further settings of `Config`, for example ``{"scope": "sample", "lsh": {"K": 9, "L": 50}}``.
    n_workers : int, optional
        HOGWILD worker processes; see `slide_fast.training.fit`. With one worker a run is reproducible bit for bit;
        with more it never is.
    random_state : int
        Seed of everything random.

    Attributes
    ----------
    model_ : Model
        After `fit` or `load`.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128,),
        epochs: int = 5,
        micro_batch: int = 256,
        learning_rate: float = 2e-3,
        settings: dict[str, Any] | None = None,
        n_workers: int | None = None,
        random_state: int = 0,
    ):
        self.hidden = hidden
        self.epochs = epochs
        self.micro_batch = micro_batch
        self.learning_rate = learning_rate
        self.settings = settings
        self.n_workers = n_workers
        self.random_state = random_state

    def _config(self) -> Config:
        named = {"hidden": list(self.hidden), "seed": int(self.random_state)}
        named |= {key: getattr(self, key) for key in ("epochs", "micro_batch", "learning_rate")}
        return Config.from_dict({**named, **(self.settings or {})})

    def fit(self, X: Any, Y: Any, callback: Callable[[Event], None] = lambda event: None) -> SlideClassifier:
        """Train a new network.

        Parameters
        ----------
        X : SparseRows or SciPy CSR, shape (n_samples, n_features)
        Y : SparseRows, SciPy CSR indicator, sequence of label ids, or sequence of lists of label ids
        callback : callable
            As `slide_fast.training.fit` takes it.

        Returns
        -------
        SlideClassifier
            Itself.

        Raises
        ------
        DataError, ConfigError, MemoryError, WorkerDiedError
            See `slide_fast.training.fit`.
        KeyboardInterrupt
            On Ctrl-C; `model_` then holds what had been learned.
        """
        try:
            self.model_ = fit(
                self._config(), Dataset(as_features(X), as_labels(Y)), n_workers=self.n_workers, callback=callback
            )
        except TrainingInterrupted as interrupted:
            self.model_ = interrupted.model
            raise
        return self

    def _trained(self) -> Model:
        if not hasattr(self, "model_"):
            raise ModelError("this SlideClassifier is not trained yet; call fit or load first")
        return self.model_

    def _index(self) -> Index:
        """Tables for the model of the moment, built once."""
        model = self._trained()
        if getattr(self, "_indexed", (None,))[0] is not model:
            self._indexed = model, index_of(model)
        return self._indexed[1]

    def predict_topk(self, X: Any, k: int = 5, mode: str = "exact", budget: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The k best labels of each sample.

        Parameters
        ----------
        X : SparseRows or SciPy CSR, shape (n_samples, n_features)
        k : int
        mode : str
            ``"exact"`` evaluates every label; ``"lsh"`` only those that the hash tables return, which may miss the
            best. The first call with ``"lsh"`` builds the tables.
        budget : int
            With ``"lsh"``: evaluate no more labels than this, those that stand in most tables; 0 means no limit.

        Returns
        -------
        ids : ndarray of int32, shape (n_samples, k)
            Best first; -1 where there are fewer than k labels, or fewer were found.
        scores : ndarray of float32, shape (n_samples, k)
            Logits; -inf where the id is -1.

        Raises
        ------
        ModelError
            If nothing is trained, or with mode ``"lsh"`` if the settings ask for no tables.
        ConfigError
            If there is no such mode.
        DataError
            If X has more features than the network.
        """
        model, features = self._trained(), as_features(X)
        if features.n_columns > model.n_features:
            raise DataError(f"X has {features.n_columns} features, but the model was trained on {model.n_features}")
        layers, n_threads = layers_of(model.arrays), available_cpus()
        if mode == "lsh":
            return predict_topk_lsh(layers, features, k, self._index(), budget, n_threads)[:2]
        if mode != "exact":
            raise ConfigError(f"mode is {mode!r}; it must be one of {', '.join(MODES)}")
        return predict_topk(layers, features, k, n_threads)

    def save(self, folder: str | Path) -> None:
        """Write the trained network as a model folder, replacing an earlier one whole."""
        save_model(folder, self._trained())

    @classmethod
    def load(cls, folder: str | Path) -> SlideClassifier:
        """Read a model folder."""
        model = load_model(folder)
        config = model.config
        settings = {key: value for key, value in config.to_dict().items() if key not in vars(cls())}
        classifier = cls(config.hidden, config.epochs, config.micro_batch, config.learning_rate, settings)
        classifier.random_state = settings.pop("seed")
        classifier.model_ = model
        return classifier
