"""Training: checks the arguments, then runs from initial weights to a trained model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from slide_ref.common.checks import require
from slide_ref.common.config import EVAL_METRICS, Config
from slide_ref.common.errors import DataError
from slide_ref.common.schedule import n_epochs, total_steps, workers_at
from slide_ref.common.sparse_rows import Dataset, check_is_dataset
from slide_ref.common.storage.label_names import NO_NAME
from slide_ref.common.storage.model_folder import Model, TextColumns

from .engine.checkpoints import Checkpoints, TrainingState
from .engine.data_summary import check_enough, summarise
from .engine.handover import Handover, taken
from .engine.layout import data_arrays
from .engine.local_engine import LocalEngine
from .engine.memory_estimate import check_left, estimate
from .engine.option_checks import checked
from .engine.options import RunOptions
from .engine.progress import Event
from .engine.run import Run
from .parallel.interrupt import deferred_interrupt
from .parallel.machine import available_cpus

FLOATS = (np.float16, np.float32, np.float64)
SMALL = 200_000 * 128  # samples over all epochs times neurons: below this, workers take longer to start than they save


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C ended training early; `model` holds what had been learned."""

    def __init__(self, model: Model):
        super().__init__("training was interrupted")
        self.model = model


def default_workers(config: Config, n_samples: int) -> int:
    """Return the default number of workers: one per available CPU that the run is long enough to use (S33)."""
    if n_epochs(config, n_samples) * n_samples * max(128, *config.hidden) < SMALL:
        return 1
    return workers_at(total_steps(config, n_samples), available_cpus())


def check_fits(train: Dataset, test: Dataset | None, weights: np.ndarray | None, label_names: list[str] | None) -> None:
    """Raise DataError if the data cannot be used for training or evaluation."""
    for name, data in (("training data", train), ("test data", test)):
        if data is not None or name == "training data":
            check_is_dataset(name, data)
            assert data is not None
            if data.features.n_rows != data.labels.n_rows:
                raise DataError(f"{name}: {data.features.n_rows} samples, but labels for {data.labels.n_rows}")
            data.features.check(f"{name}, features")
            data.labels.check(f"{name}, labels")
            if data.labels.data is not None:
                raise DataError(f"{name}: labels must have no values; convert them with labels.indicator(name)")
            if not (data.features.is_canonical() and data.labels.is_canonical()):
                what = "ids of a row are repeated or not ascending, values are not float32, or indptr is uint64"
                raise DataError(f"{name}: {what}; call canonical() of both parts")
    check_enough(train.n_samples, train.labels.nnz, None if test is None else test.n_samples)
    for what, tested, trained in zip(Dataset._fields, test or train, train, strict=True):
        if tested.n_columns > trained.n_columns:
            raise DataError(f"test data: {tested.n_columns} {what}, but the training data has {trained.n_columns}")
    if weights is not None:
        _check_weights(weights, train)
    if label_names is not None:
        if len(label_names) != train.labels.n_columns:
            raise DataError(f"label_names: {len(label_names)} names, but there are {train.labels.n_columns} labels")
        wrong = [name for name in label_names if not isinstance(name, str) or NO_NAME.search(name)]
        if wrong:
            raise DataError(f"label_names: {wrong[0]!r}; give str without line breaks and halves of surrogate pairs")


def _check_weights(weights: np.ndarray, train: Dataset) -> None:
    """Raise DataError unless there is a weight for each sample, and something to learn from."""
    is_array = isinstance(weights, np.ndarray) and weights.dtype.newbyteorder("=") in FLOATS
    if not is_array or weights.shape != (train.n_samples,):
        raise DataError(f"weights: give an array of {train.n_samples} floats, one per sample")
    fits = np.isfinite(weights) & (weights >= 0)
    if not fits.all():
        i = int(np.argmin(fits))
        raise DataError(f"weights, row {i}: {weights[i]:g} is negative or not finite; give numbers >= 0")
    with np.errstate(over="ignore"):
        if not np.isfinite(weights.sum(dtype=np.float64)):
            raise DataError("weights: their sum is not finite; scale them down")
    if not weights[np.diff(train.labels.indptr) > 0].any():
        raise DataError("weights: all samples that have labels have weight 0; there is nothing to learn from")


def fit(config: Config, train: Dataset | Handover[Dataset], **options: Any) -> Model:
    """Train a network and return the model; for `options` and errors see `fit_with_state`.

    Examples
    --------
    >>> import numpy as np
    >>> from slide_fast import Config, fit
    >>> from slide_ref.common.sparse_rows import Dataset, SparseRows
    >>> ids = np.arange(40, dtype=np.int32) % 4
    >>> features = SparseRows(np.arange(41), ids, np.ones(40, dtype=np.float32), n_columns=4)
    >>> labels = SparseRows(np.arange(41), ids, None, n_columns=4)
    >>> model = fit(Config(hidden=8, epochs=3, micro_batch=10), Dataset(features, labels), n_workers=1)
    >>> model.arrays["W1"].shape, model.facts["steps"]
    ((4, 8), 12)
    """
    return fit_with_state(config, train, **options)[0]


def fit_with_state(
    config: Config,
    train: Dataset | Handover[Dataset],
    *,
    test: Dataset | Handover[Dataset] | None = None,
    weights: np.ndarray | Handover[np.ndarray | None] | None = None,
    n_workers: int | None = None,
    eval_every: float = 1.0,
    eval_samples: int = 10_000,
    max_seconds: float | None = None,
    patience: float | None = None,
    checkpoints: Checkpoints | None = None,
    state: TrainingState | Handover[TrainingState] | None = None,
    callback: Callable[[Event], None] | None = None,
    label_names: list[str] | None = None,
    text: TextColumns | None = None,
    eval_metric: str = EVAL_METRICS[0],
    max_restarts: int = 3,
    worker_timeout: float = 60.0,
) -> tuple[Model, TrainingState]:
    """Train a network.

    Samples are copied to memory that the workers share. Data, weights and a state that are passed in a
    `slide_fast.engine.handover.Handover` are then released, so that there is no second copy during the run.

    Parameters
    ----------
    config : Config
    train : Dataset
        Canonical rows (see `SparseRows`).
    test : Dataset, optional
        Samples to evaluate on, with no more features and labels than `train`.
    weights : ndarray of float, shape (n_samples,), optional
        Weight of each training sample (S10), relative to the others of its micro-batch; finite, at least 0, and above 0
        for some sample that has labels.
    n_workers : int, optional
        HOGWILD worker processes; 1 trains in this process; -1: one per CPU that this process may use. Default: the
        same, but no more than the run is long enough for. With one worker a run is reproducible bit for bit on the same
        machine and libraries; with more it never is. Implements S18.
    eval_every : float
        Epochs between evaluations during training.
    eval_samples : int
        Number of test samples, chosen by key (S2), that these evaluations use; the last one uses all.
    max_seconds : float, optional
        Training ends after about this many seconds, including rebuilds but not evaluations; a resumed run counts those
        before it was interrupted too.
    patience : int, optional
        Training stops after this many evaluations on `test` in a row (one every `eval_every` epochs) without
        improvement in `eval_metric`, and the best network evaluated is returned. By default the last network is
        returned.
    checkpoints : Checkpoints, optional
        Stores the state of the run, and the best model by `eval_metric` on `test`. Unless a run is resumed, its folder
        must be without checkpoints.
    state : TrainingState, optional
        A run to resume from a checkpoint, or a finished run to train further; by default the network is new.
    callback : callable, optional
        Called with an event, a dict whose ``kind`` is ``memory`` (an estimate, before the network is allocated),
        ``start``, ``progress``, ``evaluating``, ``evaluation``, ``epoch``, ``by_heart`` (S37) or ``end``. All but
        ``memory`` and ``evaluating`` have ``seconds``, ``step``, ``samples`` and ``rebuilds`` of the run so far. At the
        ``start`` ``is_complete`` tells whether a resumed run has nothing left to train. An ``epoch`` has
        ``samples_per_second`` and, if any of its samples has labels, ``loss`` and ``active_neurons``; so has an
        ``evaluation``, unless nothing was trained since the one before, and it has the metrics by name. If the network
        was restored, ``kept_epoch`` is its epoch.
    label_names : list of str, optional
        Stored in the model and in checkpoints. Default: those of `state`.
    text : TextColumns, optional
        How texts were converted to features; stored in the model.
    eval_metric : str
        Metric on `test` that selects the best network: ``"precision_at_1"``, ``"_3"`` or ``"_5"``, ``"ndcg_at_1"`` ...,
        ``"psp_at_1"`` ... (S16), or ``"loss"``, the mean over all labels (S10), the only metric for which smaller is
        better.
    max_restarts : int
        Number of workers that may die and be replaced before an error is raised.
    worker_timeout : float
        Seconds of work on one task after which a worker is killed and replaced.

    Returns
    -------
    model : Model
    state : TrainingState
        For further training; it keeps the optimiser's moments: with the defaults one number per feature and two per
        label.

    Raises
    ------
    ConfigError
        If an option is invalid, or `checkpoints` or `state` belong to another run.
    DataError
        If there is nothing to learn from, rows are not canonical, or `test` or `state` do not fit `train`.
    MemoryError
        If the machine does not have enough memory left.
    WorkerDiedError
        If more than `max_restarts` workers die.
    DivergedError
        If the loss or a weight is no longer finite, or the loss is implausibly large (S29).
    TrainingInterrupted
        On Ctrl-C, with the model as trained so far.

    Examples
    --------
    >>> from pathlib import Path
    >>> from slide_fast import Config
    >>> from slide_fast.data import read_dataset
    >>> from slide_fast.training import fit_with_state
    >>> _ = Path("train.txt").write_text("4 2 2\\n" + "0 0:1\\n1 1:1\\n" * 2)
    >>> config, train = Config(hidden=8, epochs=1, micro_batch=2), read_dataset("train.txt")
    >>> model, state = fit_with_state(config, train, n_workers=1)
    >>> model, state = fit_with_state(config, train, n_workers=1, state=state)
    >>> model.facts["steps"]
    4
    """
    train, test, weights, state = taken(train), taken(test), taken(weights), taken(state)
    require(isinstance(config, Config), "config", config, "a Config")
    checked({"checkpoints": checkpoints, "state": state, "callback": callback, "text": text})
    pool = checked({"n_workers": n_workers, "max_restarts": max_restarts, "worker_timeout": worker_timeout})
    options = RunOptions.checked(
        eval_every=eval_every, eval_samples=eval_samples, max_seconds=max_seconds, patience=patience,
        checkpoints=checkpoints, callback=callback, label_names=label_names, text=text, eval_metric=eval_metric,
    )  # fmt: skip
    options.require_test(test)
    check_fits(train, test, weights, options.label_names)
    n_workers = pool["n_workers"] or default_workers(config, train.n_samples)
    need = estimate(config, train, test, n_workers, weights, options.keeps_best)
    sizes = train.features.n_columns, train.labels.n_columns
    check_left(need.to_come, *sizes)
    with ExitStack() as stack:
        stop = stack.enter_context(deferred_interrupt())
        resumes = state is not None and state.progress is not None
        summary = summarise(train, test, weights, with_fingerprint=resumes or checkpoints is not None)
        if state is not None:
            state = state.fitted_to(config, summary)
        data, begun = data_arrays(train, test, weights), None if state is None else dict(state.arrays)
        state = None if state is None else state.without_arrays()
        del train, test, weights
        engine = LocalEngine(config, summary, stop.is_set, stack)
        summary = engine.move_data(data)
        run = Run(config, summary, options, state, engine, stop)
        check_left(need.to_come, *sizes)
        need = need.with_held(engine.best)
        options.callback({"kind": "memory", **need._asdict(), "total": need.total, "n_workers": n_workers})
        engine.allocate(begun)
        engine.start(n_workers, run.past.steps, pool["max_restarts"], pool["worker_timeout"])
        run.carry_out(n_workers, lambda: engine.pids)
        if stop.is_set():
            raise TrainingInterrupted(run.model())
        return run.model(), run.state(is_over=True)
