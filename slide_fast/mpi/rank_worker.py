"""One rank's part of a training run: a range of the labels, a share of the samples, and all of the hidden layers.

Every task is carried out by all workers of all ranks together. In a training step each rank of a team computes the
hidden layers for all samples and the output for its labels; in between the ranks tell each other what the softmax and
the hidden layers need of all labels.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from slide_ref.common.config import Config
from slide_ref.common.divergence import check_weights
from slide_ref.common.errors import ConfigError, DivergedError, ModelError
from slide_ref.common.parameters import ARRAYS_OF_A_LAYER, array_shapes, initialise
from slide_ref.common.parts import label_edges
from slide_ref.common.rng import Purpose, permutation
from slide_ref.common.storage.model_folder import load_model

from ..engine.checkpoints import State
from ..engine.worker import TOP, RangeReport, Setup, WorkerState, parts_asked, table_arrays
from ..micro_batches import MicroBatch, samples_of
from ..network import LayerPass, RowGradient, backward
from ..parallel.machine import MemoryMeter
from ..prediction import topk_rows
from ..schedule import in_batch_steps, learning_rate, sample_order, total_steps, workers_at
from .communicator import Communicator, together
from .process_grid import Place, shared_by_workers
from .sample_ranges import SharedSamples, merge_best, share_of


def shards_of(config: Config, ranks: Communicator, rank: int | None = None) -> range:
    """The shards of a rank, by default this one; all have equally many (S31). Raises ConfigError if they cannot."""
    each, rest = divmod(config.shards, ranks.size)
    if rest:
        raise ConfigError(
            f"shards is {config.shards}, and {ranks.size} ranks cannot have equally many of them; start a number of "
            f"ranks that divides it, or set shards to a multiple of {ranks.size}"
        )
    rank = ranks.rank if rank is None else rank
    return range(rank * each, (rank + 1) * each)


class RankState(WorkerState):
    """One worker's view of its rank's part of a run, and what it can be asked to do together with the others.

    Parameters
    ----------
    config : Config
    train, test : SharedSamples
        `test` may be None.
    label_counts : ndarray of int64, shape (n_labels,)
        Training samples that carry each label.
    place : Place
        Among all processes; all make their part at the same time, and meet before they go on.
    state : State or None
        Where the run begins; its arrays are those of the whole network.
    """

    def __init__(
        self,
        config: Config,
        train: SharedSamples,
        test: SharedSamples | None,
        label_counts: np.ndarray,
        place: Place,
        state: State | None,
    ):
        self.everyone, ranks, self.workers = place
        self.ranks, self.train_samples, self.test_samples = ranks, train, test
        self.meter: MemoryMeter | None = None
        self.n_steps, self.traffic = 0, ({}, {})  # messages and bytes in training, by their kind
        self.shards, n_features, n_labels = shards_of(config, ranks), train.n_features, train.n_labels
        edges = label_edges(config, n_labels)
        self.edges = edges[:: len(self.shards)]  # of the ranks
        first, last = self.edges[ranks.rank], self.edges[ranks.rank + 1]
        self.label_counts = label_counts[first:last].copy()
        self.whole, own = (
            {name: (shape, np.dtype(np.float32)) for name, shape in array_shapes(config, n_features, n).items()}
            for n in (n_labels, last - first)
        )
        self.whole |= {name: (shape, np.dtype(d)) for name, (shape, d) in table_arrays(config, n_labels).items()}
        tables = table_arrays(config, n_labels, self.shards)
        orders = {"train_order": ((train.n_samples,), np.int32)}
        orders |= {} if test is None else {"test_order": ((test.n_samples,), np.int32)}
        self.block = shared_by_workers(own | tables | orders, place)
        self.parameters = {name: self.block[name] for name in own}
        self.best: dict[str, np.ndarray] = {}
        self._holder: dict[str, int] = {}  # of tables; those of hidden layers are the same on all ranks
        for rank in range(ranks.size):
            for name in table_arrays(config, n_labels, shards_of(config, ranks, rank)):
                self._holder.setdefault(name, rank)
        steps_before = 0 if state is None else state.before.steps
        super().__init__(Setup(config, n_features, n_labels, steps_before, self.shards), self.block.arrays)
        if self.workers.rank == 0:
            self._fill(state)

    def _fill(self, state: State | None) -> None:
        """Begin as the state says, or anew."""
        if self.test_samples is not None:
            n_samples = self.test_samples.n_samples
            self.arrays["test_order"][:] = permutation(self.config.seed, Purpose.EVALUATION, n=n_samples)
        if state is None:
            initialise(self.layers, self.config.seed, self.first_label)
        for name, array in ({} if state is None else state.arrays).items():
            if name in self.arrays:
                self.arrays[name][:] = self._own(name, array)

    def _own(self, name: str, array: np.ndarray) -> np.ndarray:
        """This rank's rows of an array of the whole network."""
        first, last = self.edges[self.ranks.rank : self.ranks.rank + 2]
        return array[first:last] if self._is_split(name) else array

    def label_shares(self) -> np.ndarray:
        """As in the class above, of all ranks' samples."""
        return self.label_counts / max(self.train_samples.n_labelled, 1)

    def _is_split(self, name: str) -> bool:
        """Whether every rank has rows of an array: those of the output layer."""
        return name in {f"{kind}{len(self.config.hidden)}" for kind in ARRAYS_OF_A_LAYER}

    def holders(self, name: str) -> list[tuple[int, int]]:
        """Who has rows of an array of the whole network, in their order: ranks and numbers of rows."""
        if self._is_split(name):
            return [(rank, self.edges[rank + 1] - self.edges[rank]) for rank in range(self.ranks.size)]
        return [(self._holder.get(name, 0), self.whole[name][0][0])]

    def run(self, task: tuple) -> object:
        """Carry out one task, which ends for no worker of a rank before it does for all.

        Whatever goes wrong in this process alone ends all of them, since they wait for it.
        """
        try:
            result = super().run(task)
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

    def rebuild(self, number: int, step: int) -> None:
        """Build the tables of this rank's shards, and those of hidden layers, anew after a step (S14, S32)."""
        workers, asked = self.workers, parts_asked(self.config, self.parts, step, self.train_samples.n_samples)
        for word in asked:
            own = share_of(self.tables[word].ids.shape[1], workers)
            self.hash_neurons(word, own.start, own.stop)
            if workers.rank == 0:
                self.order_insertion(word, number)
        workers.barrier()
        for word in asked:
            for table in range(workers.rank, len(self.tables[word].ids), workers.size):
                self.sort_table(word, table, number)

    def steps(self, first_step: int, n_steps: int) -> range:
        """Those of this worker's team, if it trains yet (S33)."""
        n_teams = workers_at(self.steps_before + first_step - 1, self.workers.size)
        last = first_step + n_steps if self.workers.rank < n_teams else first_step
        return range(first_step + self.workers.rank, last, n_teams)

    def train(self, epoch: int, first_step: int, n_steps: int) -> RangeReport:
        """As in the class above; the report is that of all teams and ranks."""
        started, report = time.perf_counter(), RangeReport(0, 0, 0.0, 0.0, 0.0)
        before = [dict(counts) for counts in (self.ranks.messages, self.ranks.n_bytes)]
        error: Exception | None = None
        try:
            report = super().train(epoch, first_step, n_steps)
        except DivergedError as found:  # the whole team has it
            error = found
        self.everyone.agree(error)
        self.n_steps += len(self.steps(first_step, n_steps))
        for total, now, earlier in zip(self.traffic, (self.ranks.messages, self.ranks.n_bytes), before, strict=True):
            total.update({kind: total.get(kind, 0) + n - earlier.get(kind, 0) for kind, n in now.items()})
        active = float(self.ranks.allreduce(np.array([report.active]))[0])
        sums = self.workers.allreduce(np.array([*report[:3], active])).tolist()
        return RangeReport(int(sums[0]), int(sums[1]), *sums[2:], time.perf_counter() - started)

    @property
    def drifts(self) -> bool:
        """Whether the hidden layers of the ranks differ after some steps: by the order in which teams update them."""
        return self.workers.size > 1 and self.ranks.size > 1

    def level(self) -> None:
        """Put rank 0's hidden layers, moments included, in the place of this rank's. Implements S31."""
        for name, array in self.parameters.items():
            if not self._is_split(name):
                own = share_of(len(array), self.workers)
                self.ranks.take_over(array[own.start : own.stop])

    def micro_batch(self, epoch: int, step: int) -> MicroBatch:
        """The samples of a step, put together from the shares of all ranks."""
        config, n = self.config, self.train_samples.n_samples
        samples = samples_of(config, n, self.arrays["train_order"], step)
        data, weights = self.train_samples.take(samples)
        labelled = np.flatnonzero(np.diff(data.labels.indptr))
        labelled = labelled if weights is None else labelled[weights[labelled] > 0]
        total = total_steps(config, n)
        rate, in_batch = learning_rate(config, step, total), step <= in_batch_steps(config, total)
        n_unlabelled = len(samples) - len(labelled)
        own = None if weights is None else weights[labelled]
        return MicroBatch(data.take(labelled), samples[labelled], epoch, step, rate, n_unlabelled, own, in_batch)

    def backward(self, passes: list[LayerPass], batch: MicroBatch) -> tuple[float, list[RowGradient]]:
        """Loss and gradient of a micro-batch; of the output layer for this rank's labels."""
        return backward(
            self.layers, passes, batch.data.labels, self.scratch, batch.weights, self.ranks, self.first_label
        )

    def predict(self, first: int, last: int) -> np.ndarray:
        """The `TOP` best labels over all ranks, int32 (n_rows, TOP), of some rows of the test data; rank 0 gets them.

        The teams share the rows.
        """
        own = share_of(last - first, self.workers)
        order = self.arrays["test_order"][first:last][own.start : own.stop]
        rows = self.test_samples.take(order.astype(np.int64))[0].features
        ids, scores = topk_rows(self.layers, rows, TOP, self.scratch)
        ids = np.where(ids < 0, ids, ids + np.int32(self.first_label))
        parts = [np.stack(self.ranks.allgather(array)) for array in (ids, scores)]
        return np.concatenate(self.workers.gather(merge_best(*parts, TOP)[0]))

    def rows(self, name: str, holder: int, first: int, last: int) -> np.ndarray:
        """Rows of an array that rank `holder` has; rank 0 gets them."""
        shape, dtype = self.whole[name]
        own = self.arrays[name][first:last] if self.ranks.rank == holder else np.empty((0, *shape[1:]), dtype)
        parts = [] if self.workers.rank else self.ranks.gather(own)
        return parts[holder] if self.everyone.rank == 0 else own

    def check(self, step: int) -> None:
        """Raise DivergedError in all processes if a weight on any rank is not finite (S29)."""
        with together(self.everyone):
            if self.workers.rank == 0:
                check_weights(step, self.weights_only())

    def weights_only(self) -> dict[str, np.ndarray]:
        """This rank's parameters, without the moments."""
        return {name: array for name, array in self.parameters.items() if "_" not in name}

    def keep_best(self) -> None:
        """Remember the network as it is."""
        if self.workers.rank == 0:
            self.best = {name: array.copy() for name, array in self.weights_only().items()}

    def load_best(self, folder: Path) -> None:
        """Remember the network of a model folder. Raises ModelError in all processes."""
        with together(self.everyone):
            if self.workers.rank == 0:
                whole = load_model(folder, mmap=True).arrays
                self.best = {name: np.array(self._own(name, array)) for name, array in whole.items()}

    def take_best(self) -> None:
        """Go back to the network that was remembered, if one was."""
        for name, array in self.best.items():
            self.parameters[name][:] = array

    def peaks(self) -> list[int]:
        """Bytes of memory that each rank took at its peak, where it was metered; rank 0 gets them."""
        peak = self.workers.allreduce(np.array([0 if self.meter is None else self.meter.peak_bytes]))
        return [int(part[0]) for part in self.ranks.gather(peak)]
