"""HOGWILD, looked at closely: how many updates are lost, what a reader can see of a write, and that loss falls."""

import json
import os

import numpy as np
import pytest
import race_state

from slide_fast.parallel.pool import Pool
from slide_fast.parallel.shared_arrays import SharedArrays
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists

SGD = Config(optimizer="sgd")
UPDATES = int(os.environ.get("SLIDE_RACES", "2000"))


def lost_share(n_workers, n_updates, n_rows=64, width=128):
    """The share of updates that left no trace, each of all rows, handed out in small tasks."""
    layout = {"W": ((n_rows, width), np.float32), "b": ((n_rows,), np.float32)}
    with SharedArrays.create(layout) as block, Pool("race_state:Counting", SGD, [block], n_workers) as pool:
        for _ in pool.run([10] * (n_updates // 10)):
            pass
        weights = np.concatenate([block["W"].ravel(), block["b"]])
        assert (weights == np.round(weights)).all() and weights.min() >= 1 and weights.max() <= n_updates
        return 1 - float(weights.mean()) / n_updates


def test_one_worker_loses_no_update():
    assert lost_share(1, 200) == 0


def test_workers_on_the_same_rows_lose_updates_and_never_invent_one(record_property):
    shares = {n: lost_share(n, UPDATES) for n in (2, 4)}
    record_property("lost_updates", json.dumps(shares))
    print("share of updates lost, by workers:", json.dumps(shares))
    assert all(0 <= share < 1 for share in shares.values())


def test_a_read_beside_a_write_sees_old_and_new_floats_and_nothing_else():
    layout = {"W": ((race_state.SIDES, race_state.SIDES), np.float32), "done": ((2,), np.int64)}
    with SharedArrays.create(layout) as block, Pool("race_state:Tearing", SGD, [block], 2) as pool:
        block["W"][:] = race_state.OLD
        mixed, foreign = dict(pool.run([("write", UPDATES), ("read", UPDATES)]))["read", UPDATES]
        writes, reads = block["done"]
    print(f"{mixed} of {reads} reads beside {writes} writes held both, {foreign} values were neither")
    assert foreign == 0 and min(writes, reads) >= UPDATES


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("n_workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_loss_falls_while_all_workers_write_the_same_rows(n_workers, optimizer):
    """Eight labels, no tables: every step of every worker updates every row of the output layer."""
    labels = np.random.default_rng(0).integers(0, 8, 4000)
    ids = rows_from_lists([[int(label), 8 + i % 5] for i, label in enumerate(labels)], 13)
    features = SparseRows(ids.indptr, ids.indices, np.ones(ids.nnz, np.float32), 13)
    train, losses = Dataset(features, rows_from_lists([[int(label)] for label in labels], 8)), []

    def callback(event):
        if event["kind"] == "epoch":
            losses.append(event["loss"])

    rate = {"adam": 0.002, "sgd": 0.1}[optimizer]
    config = Config(hidden=(16,), epochs=4, micro_batch=10, optimizer=optimizer, learning_rate=rate)
    fit(config.replace(lsh={"min_active": 8}), train, n_workers=n_workers, callback=callback)
    assert losses[-1] < losses[0] / 4
