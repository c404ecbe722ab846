"""Training over several ranks: each holds a range of the labels, a share of the samples, and all hidden layers.

The first process executes the same `Run` as on one machine, with an engine whose tasks are carried out by all processes
together (`slide_fast.mpi.rank_engine`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.errors import ConfigError
from slide_ref.common.sparse_rows import Dataset
from slide_ref.common.storage.model_folder import Model

from ..engine.checkpoints import TrainingState
from ..engine.data_summary import DataSummary, check_enough, fingerprint
from ..engine.options import RunOptions
from ..engine.run import Run
from ..parallel.interrupt import deferred_interrupt
from ..training import TrainingInterrupted
from .communicator import Communicator, together
from .process_grid import place_of
from .rank_engine import NO_LOSS, RankEngine, follow
from .rank_worker import RankWorker, shards_of
from .sample_ranges import SharedSamples, pooled


def summarise_ranks(train: SharedSamples, test: SharedSamples | None, ranks: Communicator) -> DataSummary:
    """Summarise data that is divided among the ranks; all of them must call this."""
    counts = ranks.allreduce(np.bincount(train.own.labels.indices, minlength=train.n_labels))
    test_labels = None if test is None else test.all_labels()
    shares = [fingerprint(part.own, part.weights, part.first) for part in (train, test) if part is not None]
    totals = ranks.allreduce(np.array(shares, dtype=np.uint64)).tolist()  # modulo 2^64
    sizes = train.n_samples, train.n_features, train.n_labels
    return DataSummary(*sizes, counts, train.n_labelled, test_labels, *(f"{total:016x}" for total in totals))


def assembled(model: Model) -> Model:
    """Return a model with complete arrays in the memory of this process."""
    return dataclasses.replace(model, arrays={name: np.asarray(array) for name, array in model.arrays.items()})


def prepare(
    config: Config,
    train: Dataset,
    test: Dataset | None,
    everyone: Communicator,
    state: TrainingState | None,
    n_workers: int = 1,
    weights: np.ndarray | None = None,
) -> tuple[RankWorker, DataSummary]:
    """Check the settings against the processes, and make this one's worker; all must call it with their shares.

    Raises
    ------
    SlideError, MemoryError
        In all processes.
    """
    with together(everyone):
        place = place_of(everyone, n_workers)
        shards_of(config, place.ranks)
    own, own_weights = pooled(train, weights, place)
    train_samples = SharedSamples(own, place.ranks, own_weights)
    test_samples = None if test is None else SharedSamples(pooled(test, None, place)[0], place.ranks)
    summary = summarise_ranks(train_samples, test_samples, place.ranks)
    with together(everyone):
        n_test = None if test_samples is None else test_samples.n_samples
        check_enough(summary.n_train, summary.n_labelled, n_test)
        if state is not None:
            state = state.fitted_to(config, summary)
    with together(everyone):
        worker = RankWorker(config, train_samples, test_samples, summary.label_counts, place, state)
    return worker, summary


def conduct(engine: RankEngine, summary: DataSummary, *, state: TrainingState | None = None, **options: Any) -> Model:
    """Train in the first process while the others `follow`.

    Parameters
    ----------
    engine : RankEngine
        Must be open as long as the model is needed.
    summary : DataSummary
        From `prepare`.
    state : TrainingState, optional
        The state that the run starts from; its arrays are ignored.
    **options
        Fields of `slide_fast.engine.options.RunOptions`.

    Returns
    -------
    Model
        Its arrays are `Blocks`: it can be saved or assembled as long as the other processes `follow`.

    Raises
    ------
    DivergedError, TrainingInterrupted
        As for `slide_fast.training.fit_with_state`.
    """
    with deferred_interrupt() as stop:
        engine.should_stop = stop.is_set
        run = Run(engine.own.config, summary, RunOptions.checked(**options), state, engine, stop)
        run.carry_out(engine.own.everyone.size, tuple)
        if stop.is_set():
            raise TrainingInterrupted(run.model())
        return run.model()


def fit_sharded(
    config: Config,
    train: Dataset,
    *,
    ranks: Communicator,
    n_workers: int = 1,
    test: Dataset | None = None,
    weights: np.ndarray | None = None,
    state: TrainingState | None = None,
    finish: Callable[[Model], Any] = assembled,
    **options: Any,
) -> Any:
    """Train a network over several ranks; every process calls this with its share of the samples.

    Parameters
    ----------
    config : Config
        `config.shards` must be a multiple of the number of ranks.
    train, test : Dataset
        This process's samples, which follow those of the previous process. All must have the same features and labels.
    ranks : Communicator
        All processes, from `slide_fast.mpi.communicator.mpi_ranks`.
    n_workers : int
        Processes per rank; they are consecutive and share memory. With one worker per rank, steps are the same on any
        number of ranks up to the rounding of sums; with more, teams of one worker from every rank update the network
        without locks, and no two runs are the same.
    weights : ndarray of float64, shape (n_samples,), optional
        Weight of each of these samples (S10); finite, at least 0. Either all processes give weights, or none does.
    state : TrainingState, optional
        A run to resume from a checkpoint, the same in all processes; written by any number of ranks and workers.
    finish : callable
        Called in the first process with the model, whose arrays are `Blocks`; by default it is assembled in memory.
    **options
        Of `slide_fast.training.fit_with_state`, and used by the first process: ``eval_every``, ``eval_samples``,
        ``max_seconds``, ``patience``, ``checkpoints``, ``callback``, ``label_names``, ``text``, ``eval_metric``.

    Returns
    -------
    The result of `finish` in the first process, None in the others.

    Raises
    ------
    SlideError, MemoryError, TrainingInterrupted
        As for `fit_with_state`; also ConfigError if `eval_metric` is ``"loss"``.
    """
    with together(ranks):
        asked = RunOptions.checked(**options)
        asked.require_test(test)
        if asked.eval_metric == "loss":
            raise ConfigError(NO_LOSS)
    own, summary = prepare(config, train, test, ranks, state, n_workers, weights)
    if ranks.rank:
        del summary
        return follow(own)
    with RankEngine(own) as engine:
        try:
            return finish(conduct(engine, summary, state=None if state is None else state.without_arrays(), **options))
        except TrainingInterrupted as stop:
            stop.model = assembled(stop.model)  # as long as the others follow
            raise
