"""Ranks in lockstep with the reference: every rank runs the reference beside its own part and compares each step.

Run by tests/mpi/test_training.py, in threads and under mpiexec.
"""

import sys

import numpy as np
from problems import random_dataset

import slide_fast.verify.lockstep as verify
import slide_ref.prediction
import slide_ref.training as ref
from slide_fast.engine.learner import parts_queried
from slide_fast.engine.tasks import PredictRows
from slide_fast.engine.worker import TOP
from slide_fast.mpi.communicator import Communicator, mpi_ranks
from slide_fast.mpi.sample_ranges import range_of
from slide_fast.mpi.tasks import Order, Rebuild
from slide_fast.mpi.training import prepare
from slide_ref.common.config import Config
from slide_ref.common.priors import label_priors
from slide_ref.common.schedule import in_batch_steps, sample_order, steps_per_epoch, total_steps

N_STEPS = 9
USUAL = {"hidden": [8], "micro_batch": 7, "epochs": 2, "rebuild_gap": 4, "learning_rate": 0.02, "shards": 6,
         "in_batch": 0.2}  # fmt: skip
LSH = {"family": "simhash", "K": 4, "L": 3, "bucket_size": 4, "budget": 12, "min_active": 20}
TASKS = {
    "batch": {"lsh": LSH},
    "sample": {"lsh": LSH, "scope": "sample"},
    "sample, nothing found in some shards": {"lsh": LSH | {"min_active": 0, "budget": 6}, "scope": "sample"},
    "dense": {"lsh": {"min_active": 100}},
    "two hidden layers, one with tables": {
        "lsh": LSH | {"policy": "reservoir", "strategy": "topk", "family": "dwta", "base": 2},
        "hidden": [8, 12],
        "hidden_lsh": {1: {"K": 3, "L": 2, "bucket_size": 3, "budget": 4}},
    },
    "SGD, logits as they are": {"lsh": LSH, "optimizer": "sgd", "momentum": 0.9, "correction": False},
    "centroid tables": {
        "lsh": {"family": "centroid", "K": 3, "L": 2, "bucket_size": 9, "strategy": "hardest", "budget": 12}
        | {"min_active": 20},
        "hidden": [8, 12],
        "hidden_lsh": {1: {"family": "centroid", "K": 2, "L": 1, "bucket_size": 6, "strategy": "hardest"}},
    },
    "one label a shard": {"lsh": LSH, "shards": 60},
}  # fmt: skip


class Pair:
    """A rank and the reference, from the same state before every step."""

    def __init__(self, config, train, test, ranks):
        self.config, self.train, self.test, self.ranks = config, train, test, ranks
        self.report = verify.Report()
        shares = [data.take(np.array(range_of(data.n_samples, ranks), dtype=np.int64)) for data in (train, test)]
        self.own, self.facts = prepare(config, *shares, ranks, None)
        self.network = ref.new_network(config, train.features.n_columns, train.labels.n_columns)
        self.network.priors = label_priors(train.labels) if config.correction else None
        self.last = len(config.hidden)
        for l, layer in enumerate(self.network.layers):  # initial weights are those of the whole layer
            verify.check_equal(self.report, "initial weights", self.own.learner.layers[l].W, layer.W[self.rows(l)])

    def rows(self, l):
        """Of layer l of the reference, the rows that this rank has."""
        first, last = self.own.edges[self.ranks.rank : self.ranks.rank + 2]
        return slice(first, last) if l == self.last else slice(None)

    def take_state(self):
        for l, (mine, theirs) in enumerate(zip(self.own.learner.layers, self.network.layers, strict=True)):
            for name, array in vars(mine).items():
                if array is not None:
                    array[:] = getattr(theirs, name)[self.rows(l) if l == self.last else slice(None)]

    def rebuild(self, number, step):
        ref.rebuild(self.network, number, self.train.features)
        self.take_state()
        queried = parts_queried(self.config, self.own.learner.parts, step, self.train.n_samples)
        self.own.run(Rebuild(number, sorted({self.own.learner.parts[word].layer for word in queried})))
        for word in queried:
            verify.check_buckets(self.report, self.own.learner.tables[word], self.network.tables[word])

    def step(self, epoch, step):
        order = sample_order(self.config.seed, epoch, self.train.n_samples)
        self.own.run(Order(epoch))
        batch, mine = ref.micro_batch(self.config, self.train, order, epoch, step), self.own.micro_batch(epoch, step)
        assert (mine.rate, mine.n_unlabelled, mine.in_batch) == (batch.rate, batch.n_unlabelled, batch.in_batch)
        for name in ("indptr", "indices", "data"):
            for ours, theirs in zip(mine.data, batch.data, strict=True):
                if getattr(theirs, name) is not None:
                    verify.check_equal(self.report, "samples", getattr(ours, name), getattr(theirs, name))
        self.take_state()
        network64 = ref.Network(self.config, verify.as_dtype(self.network.layers, np.float64), {}, {}, {})
        before = verify.weights_in_float64(self.network.layers)
        active, gradients, choose, backward = {}, [], self.own.learner.choose_active, self.own.learner.backward

        def choose_and_note(l, inputs, batch):
            active[l] = choose(l, inputs, batch)
            return active[l]

        def backward_and_note(passes, batch):
            loss, found = backward(passes, batch)
            whole = (verify.rows_in_order(g) for g in found)
            gradients.extend(g._replace(W=g.W.copy(), b=g.b.copy()) for g in whole)
            return loss, found

        self.own.learner.choose_active, self.own.learner.backward = choose_and_note, backward_and_note
        loss, n_active = self.own.learner.train_step(mine)
        self.own.learner.choose_active, self.own.learner.backward = choose, backward
        theirs = ref.train_step(self.network, batch)
        exact = ref.train_step(network64, batch, theirs.active, theirs.inclusion)
        if not len(batch.samples):
            return
        self.check_active(active, theirs)
        n_active = float(self.ranks.allreduce(np.array([n_active]))[0])
        assert np.isclose(n_active, np.mean([len(ids) for ids in theirs.active[self.last]]))
        size = np.array([1 + exact.loss])
        verify.check_floats(self.report, "loss", *(np.array([x]) for x in (loss, theirs.loss, exact.loss)), size)
        self.check_gradients(before, batch, gradients, theirs, exact)
        if self.config.optimizer == "sgd":  # Adam makes a gradient of rounding as large as any other
            for l, sides in enumerate(zip(self.own.learner.layers, self.network.layers, network64.layers, strict=True)):
                kept = self.rows(l) if l else slice(None)
                mine, other, exact_one = (side.W if i == 0 else side.W[kept] for i, side in enumerate(sides))
                verify.check_floats(self.report, f"W of layer {l}", mine, other, exact_one)

    def check_active(self, active, theirs):
        for l, sets in theirs.active.items():
            rows, n = self.rows(l), len(self.network.layers[l].b)
            first, last, _ = rows.indices(n)
            if active[l] is None:
                assert all(len(ids) == n for ids in sets)
                continue
            for ours, ids in zip(verify.one_by_one(active[l], len(sets)), sets, strict=True):
                ids = ids[(ids >= first) & (ids < last)]
                verify.check_equal(self.report, f"active sets of layer {l}", ours + first, ids)

    def check_gradients(self, before, batch, gradients, theirs, exact):
        trace = ref.forward(before, batch.data.features, lambda l, _: theirs.active[l])
        sizes = verify.gradient_sizes(before, trace, batch.data.labels, None, theirs.inclusion)
        for l, (mine, other, exact_one, size) in enumerate(
            zip(gradients, theirs.gradients, exact.gradients, sizes, strict=True)
        ):
            first, last, _ = self.rows(l).indices(len(self.network.layers[l].W))
            ids = np.arange(last - first) if mine.ids is None else mine.ids
            own = (other.ids >= first) & (other.ids < last)
            verify.check_equal(self.report, f"touched rows of layer {l}", ids + first, other.ids[own])
            for name, ours, r32, r64, s in zip("Wb", mine[1:3], other[1:], exact_one[1:], size, strict=True):
                kept = slice(None) if l == 0 and name == "b" else own
                s = np.broadcast_to(s.max(), r64[kept].shape)
                sides = ours, r32[kept], r64[kept], s, verify.terms_of_gradient(trace, l)
                verify.check_floats(self.report, f"gradients {name} of layer {l}", *sides)

    def predict(self):
        order = self.own.arrays["test_order"]
        expected = slide_ref.prediction.predict_topk(self.network.layers, self.test.features.take(order), TOP)[0]
        self.take_state()
        found = self.own.run(PredictRows(0, self.test.n_samples))
        verify.check_equal(self.report, "predictions", found, expected)

    def check_hidden_layers_alike(self):
        """Every rank has the same bytes of what all of them hold."""
        for layer in self.own.learner.layers[:-1]:
            for array in vars(layer).values():
                if array is not None:
                    found = self.ranks.allgather(array.copy())
                    assert all(other.tobytes() == found[0].tobytes() for other in found)


def lockstep(task, ranks):
    config = Config.from_dict(USUAL | TASKS[task])
    pair = Pair(config, random_dataset(2, min_features=1), random_dataset(1, n_samples=23), ranks)
    per_epoch, rebuilds = steps_per_epoch(pair.train.n_samples, config.micro_batch), 0
    alone = in_batch_steps(config, total_steps(config, pair.train.n_samples))
    for step in range(1, N_STEPS + 1):
        if (step - 1) % config.rebuild_gap == 0 or step - 1 == alone:
            pair.rebuild(rebuilds, step - 1)
            rebuilds += 1
        pair.step((step - 1) // per_epoch, step)
        pair.check_hidden_layers_alike()
    pair.predict()
    return pair.report


if __name__ == "__main__":
    ranks = mpi_ranks() if sys.argv[1] == "mpi" else Communicator()
    for task in TASKS:
        report = lockstep(task, ranks)
        if ranks.rank == 0:
            print(task, sum(report.compared.values()), f"{max(report.deviation.values()):.3f}", flush=True)
