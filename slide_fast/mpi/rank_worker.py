"""One process's part of a run over ranks: a range of the labels, a share of the samples, and all of the hidden layers.

All workers of all ranks carry out every task together. In a training step each rank of a team computes the hidden
layers for all samples and the output for its labels; the ranks combine the sums over all labels that the softmax and
the hidden layers need.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.divergence import check_weights
from slide_ref.common.errors import ConfigError, DivergedError, ModelError
from slide_ref.common.hash_constants import samples_to_cluster
from slide_ref.common.micro_batches import MicroBatch, labelled_part, samples_of
from slide_ref.common.parameters import ARRAYS_OF_A_LAYER, initialise
from slide_ref.common.parts import label_edges
from slide_ref.common.rng import Purpose, permutation
from slide_ref.common.schedule import sample_order, workers_at
from slide_ref.common.storage.model_folder import load_model

from ..engine.checkpoints import TrainingState
from ..engine.layout import network_arrays, order_arrays, state_arrays, table_arrays
from ..engine.learner import Learner
from ..engine.rebuilds import stages
from ..engine.tasks import RangeReport
from ..engine.worker import TOP, train_on
from ..parallel.machine import MemoryMeter
from ..prediction import topk_rows
from .communicator import Communicator, together
from .process_grid import Place, shared_by_workers
from .sample_ranges import SharedSamples, merge_best, range_of


def shards_of(config: Config, ranks: Communicator, rank: int | None = None) -> range:
    """Return the shards of a rank, by default this one; all have the same number (S31). Raises ConfigError."""
    each, rest = divmod(config.shards, ranks.size)
    if rest:
        raise ConfigError(
            f"shards is {config.shards}, and {ranks.size} ranks cannot share them equally; start a number of "
            f"ranks that divides it, or set shards to a multiple of {ranks.size}"
        )
    rank = ranks.rank if rank is None else rank
    return range(rank * each, (rank + 1) * each)


class RankWorker:
    """A worker of a rank, and the tasks that it carries out together with all others.

    Parameters
    ----------
    config : Config
    train, test : SharedSamples
        `test` may be None.
    label_counts : ndarray of int64, shape (n_labels,)
        Training samples that carry each label.
    place : Place
        Position among all processes; all construct their worker at the same time, and wait for each other.
    state : TrainingState or None
        The state that the run starts from, with the arrays of the whole network.
    """

    def __init__(
        self,
        config: Config,
        train: SharedSamples,
        test: SharedSamples | None,
        label_counts: np.ndarray,
        place: Place,
        state: TrainingState | None,
    ):
        self.config, self.train_samples, self.test_samples = config, train, test
        self.everyone, self.ranks, self.workers = place
        self.meter: MemoryMeter | None = None
        self.n_steps = 0
        self.traffic: tuple[Counter[str], Counter[str]] = (Counter(), Counter())  # messages and bytes in training
        self.steps_before = 0 if state is None else state.past.steps
        shards, n_features, n_labels = shards_of(config, self.ranks), train.n_features, train.n_labels
        self.edges = label_edges(config, n_labels)[:: len(shards)]  # of the ranks
        first, last = self._own_labels = self.edges[self.ranks.rank], self.edges[self.ranks.rank + 1]
        self.whole = state_arrays(config, n_features, n_labels)
        own = network_arrays(config, n_features, last - first)
        orders = order_arrays(train.n_samples, None if test is None else test.n_samples)
        self.block = shared_by_workers(own | table_arrays(config, n_labels, shards) | orders, place)
        self.arrays = self.block.arrays
        self.parameters = {name: self.arrays[name] for name in own}
        priors = label_counts[first:last] / max(train.n_labelled, 1)
        self.learner = Learner(config, self.arrays, n_labels, priors, shards, self.ranks.allreduce)
        self.best: dict[str, np.ndarray] = {}
        self._holder: dict[str, int] = {}  # of tables; those of hidden layers are the same on all ranks
        for rank in range(self.ranks.size):
            for name in table_arrays(config, n_labels, shards_of(config, self.ranks, rank)):
                self._holder.setdefault(name, rank)
        if self.workers.rank == 0:
            self._fill(state)

    def _fill(self, state: TrainingState | None) -> None:
        """Fill the arrays from a state, or initialise a new network."""
        if self.test_samples is not None:
            n_samples = self.test_samples.n_samples
            self.arrays["test_order"][:] = permutation(self.config.seed, Purpose.EVALUATION, n=n_samples)
        if state is None:
            initialise(self.learner.layers, self.config, self.learner.first_label)
        for name, array in ({} if state is None else state.arrays).items():
            if name in self.arrays:
                self.arrays[name][:] = self._own(name, np.asarray(array))

    def _own(self, name: str, array: np.ndarray) -> np.ndarray:
        """Return this rank's rows of an array of the whole network."""
        return array[slice(*self._own_labels)] if self._is_split(name) else array

    def _is_split(self, name: str) -> bool:
        """Tell whether an array is split over the ranks, as those of the output layer are."""
        return name in {f"{kind}{len(self.config.hidden)}" for kind in ARRAYS_OF_A_LAYER}

    def holders(self, name: str) -> list[tuple[int, int]]:
        """Return the ranks that hold rows of an array of the whole network, in order, with numbers of rows."""
        if self._is_split(name):
            return [(rank, self.edges[rank + 1] - self.edges[rank]) for rank in range(self.ranks.size)]
        return [(self._holder.get(name, 0), self.whole[name][0][0])]

    def run(self, task: Any) -> Any:
        """Carry out one task; it ends for all workers of a rank at the same time.

        An error in this process alone ends all of them, since they wait for it.
        """
        try:
            result = getattr(self, task.method)(*vars(task).values())
            self.workers.barrier()
            return result
        except (DivergedError, ModelError):  # all have seen it
            raise
        except BaseException as error:
            self.everyone.give_up(error)

    def order(self, epoch: int) -> None:
        """Put the samples in the order of an epoch (S13)."""
        if self.workers.rank == 0:
            self.arrays["train_order"][:] = sample_order(self.config.seed, epoch, self.train_samples.n_samples)

    def rebuild(self, number: int, layers: list[int]) -> None:
        """Build the tables of some layers: this rank's shards of the output, and all of a hidden layer (S14, S31)."""
        learner, workers = self.learner, self.workers
        for stage in stages((part for part in learner.parts.values() if part.layer in layers), number):
            for task in stage[workers.rank :: workers.size]:
                owner = self if hasattr(self, task.method) else learner
                getattr(owner, task.method)(*vars(task).values())
            workers.barrier()

    def gather_queries(self, word: int, rebuild: int, first: int, last: int) -> None:
        """Write the inputs of a part's layer for some samples that a rebuild clusters, from the shares of all ranks.

        The parts of all ranks draw the same samples, since the key holds the layer and not the shard (S34).
        """
        part, n = self.learner.parts[word], self.train_samples.n_samples
        samples = samples_to_cluster(part.lsh, self.config.seed, part.layer, rebuild, n)[first:last]
        self.learner.take_queries(word, first, self.train_samples.take(samples)[0].features)

    def steps(self, first_step: int, n_steps: int) -> range:
        """Return those of some steps that this worker's team trains on, if it trains yet (S33)."""
        n_teams = workers_at(self.steps_before + first_step - 1, self.workers.size)
        last = first_step + n_steps if self.workers.rank < n_teams else first_step
        return range(first_step + self.workers.rank, last, n_teams)

    def train(self, epoch: int, first_step: int, n_steps: int) -> RangeReport:
        """Train on some steps; the report covers all teams and ranks."""
        started, report = time.perf_counter(), RangeReport(0, 0, 0.0, 0.0, 0.0)
        before = self.ranks.messages.copy(), self.ranks.n_bytes.copy()
        steps, error = self.steps(first_step, n_steps), None
        batches: Iterator[MicroBatch] = (self.micro_batch(epoch, step) for step in steps)
        try:
            report = train_on(self.learner, batches, self.steps_before)
        except DivergedError as found:  # the whole team has it
            error = found
        self.everyone.agree(error)
        self.n_steps += len(steps)
        for total, now, earlier in zip(self.traffic, (self.ranks.messages, self.ranks.n_bytes), before, strict=True):
            total.update(now - earlier)
        active = float(self.ranks.allreduce(np.array([report.active]))[0])
        n_samples, n_labelled, *sums = self.workers.allreduce(np.array([*report[:3], active])).tolist()
        return RangeReport(int(n_samples), int(n_labelled), sums[0], sums[1], time.perf_counter() - started)

    @property
    def drifts(self) -> bool:
        """Tell whether the ranks' hidden layers may differ after some steps, by the order of the teams' updates."""
        return self.workers.size > 1 and self.ranks.size > 1

    def level(self) -> None:
        """Replace this rank's hidden layers, moments included, by those of rank 0. Implements S31."""
        for name, array in self.parameters.items():
            if not self._is_split(name):
                own = range_of(len(array), self.workers)
                self.ranks.take_over(array[own.start : own.stop])

    def micro_batch(self, epoch: int, step: int) -> MicroBatch:
        """Assemble the samples of a step from the shares of all ranks."""
        n = self.train_samples.n_samples
        samples = samples_of(self.config, n, self.arrays["train_order"], step)
        data, weights = self.train_samples.take(samples)
        return labelled_part(self.config, data, samples, weights, n, epoch, step)

    def predict(self, first: int, last: int) -> np.ndarray:
        """Find the `TOP` best labels over all ranks, int32 (n_rows, TOP), for some test rows; rank 0 gets them.

        Rows are in keyed order and divided among the teams.
        """
        assert self.test_samples is not None
        own = range_of(last - first, self.workers)
        order = self.arrays["test_order"][first:last][own.start : own.stop]
        rows = self.test_samples.take(order.astype(np.int64))[0].features
        ids, scores = topk_rows(self.learner.layers, rows, TOP, self.learner.scratch)
        ids = np.where(ids < 0, ids, ids + np.int32(self.learner.first_label))
        ids, scores = (np.stack(self.ranks.allgather(array)) for array in (ids, scores))
        return np.concatenate(self.workers.gather(merge_best(ids, scores, TOP)[0]))

    def rows(self, name: str, holder: int, first: int, last: int) -> np.ndarray:
        """Send to rank 0 rows of an array that rank `holder` has."""
        shape, dtype = self.whole[name]
        own = self.arrays[name][first:last] if self.ranks.rank == holder else np.empty((0, *shape[1:]), dtype)
        parts = [] if self.workers.rank else self.ranks.gather(own)
        return parts[holder] if self.everyone.rank == 0 else own

    def check(self, step: int) -> None:
        """Raise DivergedError in all processes if a weight on any rank is not finite (S29)."""
        with together(self.everyone):
            if self.workers.rank == 0:
                check_weights(step, self._weights())

    def _weights(self) -> dict[str, np.ndarray]:
        """Return this rank's parameters, without the moments."""
        return {name: array for name, array in self.parameters.items() if "_" not in name}

    def keep_best(self) -> None:
        """Remember the current network as the best."""
        if self.workers.rank == 0:
            self.best = {}  # the last one goes before the next one comes
            self.best = {name: array.copy() for name, array in self._weights().items()}

    def load_best(self, folder: Path) -> None:
        """Remember the network of a model folder as the best. Raises ModelError in all processes."""
        with together(self.everyone):
            if self.workers.rank == 0:
                whole = load_model(folder, mmap=True).arrays
                self.best = {name: np.array(self._own(name, np.asarray(array))) for name, array in whole.items()}

    def restore_best(self) -> None:
        """Restore the network that was remembered, if any."""
        for name, array in self.best.items():
            self.parameters[name][:] = array

    def peaks(self) -> list[int]:
        """Send to rank 0 the peak memory of each rank in bytes, if it was metered."""
        peak = self.workers.allreduce(np.array([0 if self.meter is None else self.meter.peak_bytes]))
        return [int(part[0]) for part in self.ranks.gather(peak)]
