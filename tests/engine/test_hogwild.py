"""S18: what holds exactly when workers share weights without locks, and what holds of whole runs."""

import hogwild_state
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slide_fast.parallel.pool import Pool
from slide_fast.parallel.shared_arrays import SharedArrays
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists

N, WIDTH, N_UPDATES = 40, 8, 6
PARAMETERS = ("W", "b", "W_m", "W_v", "b_m", "b_v")
CONFIG = Config()


@pytest.fixture(scope="module")
def block():
    layout = {name: ((N, WIDTH) if name in ("W", "W_m") else (N,), np.float32) for name in PARAMETERS}
    layout |= {"indptr": ((N_UPDATES + 1,), np.int64), "ids": ((N,), np.int64), "has_read": ((2,), np.int64)}
    layout |= {"gW": ((N, WIDTH), np.float32), "gb": ((N,), np.float32)}
    with SharedArrays.create(layout) as block:
        yield block


@pytest.fixture(scope="module")
def pools(block):
    made = {n: Pool("hogwild_state:State", CONFIG, [block], n) for n in (1, 2, 3)}
    yield made
    for pool in made.values():
        pool.close()


def prepare(block, parts, seed):
    """Fresh parameters, and a gradient for each part of the rows."""
    rng = np.random.default_rng(seed)
    for name in PARAMETERS:
        values = rng.standard_normal(block[name].shape)
        block[name][:] = 1e-3 * values**2 if name.endswith("_v") else values
    block["indptr"][:] = np.cumsum([0, *map(len, parts)])
    block["ids"][: block["indptr"][-1]] = [row for part in parts for row in sorted(part)]
    block["gW"][:], block["gb"][:] = rng.standard_normal((N, WIDTH)), rng.standard_normal(N)
    block["has_read"][:] = 0


def state_bytes(block):
    return b"".join(block[name].tobytes() for name in PARAMETERS)


def apply(block, parts, seed, run):
    prepare(block, parts, seed)
    run()
    return state_bytes(block)


@settings(max_examples=25)
@given(
    owners=st.lists(st.integers(0, N_UPDATES), min_size=N, max_size=N),
    order=st.permutations(range(N_UPDATES)),
    n_workers=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_s18_updates_of_disjoint_rows_commute_to_the_byte(block, pools, owners, order, n_workers, seed):
    parts = [[row for row in range(N) if owners[row] == i] for i in range(N_UPDATES)]

    def in_sequence():
        state = hogwild_state.State(CONFIG, block.arrays)
        for i in range(N_UPDATES):
            state.run(i)

    wanted = apply(block, parts, seed, in_sequence)
    assert apply(block, parts, seed, lambda: list(pools[n_workers].run(order))) == wanted


def test_s18_a_shared_row_whose_race_is_forced_fails_this_check(block):
    parts = [[3, 5], [5, 7], *[[]] * (N_UPDATES - 2)]

    def in_sequence():
        state = hogwild_state.State(CONFIG, block.arrays)
        state.run(0)
        state.run(1)

    wanted = apply(block, parts, 0, in_sequence)
    with Pool("hogwild_state:RacingState", CONFIG, [block], 2) as pool:
        raced = apply(block, parts, 0, lambda: list(pool.run([0, 1])))
    assert block["has_read"].all()
    assert raced != wanted


@pytest.mark.slow
def test_s18_whole_runs_of_two_workers_stay_in_the_spread_of_seeds():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 60, 3000)
    extras = 60 + rng.integers(0, 40, 3000)
    lists = [sorted({int(label), int(extra)}) for label, extra in zip(labels, extras, strict=True)]
    ids = rows_from_lists(lists, 100)
    features = SparseRows(ids.indptr, ids.indices, np.ones(ids.nnz, np.float32), 100)
    train = Dataset(features, rows_from_lists([[int(label)] for label in labels], 60))

    def last_loss(n_workers, seed):
        losses = []
        config = Config(hidden=(16,), epochs=2, micro_batch=50, rebuild_gap=20, seed=seed)
        config = config.replace(learning_rate=0.01, lsh={"family": "simhash", "K": 4, "L": 3, "min_active": 20})
        keep = lambda event: losses.append(event["loss"]) if event["kind"] == "epoch" else None  # noqa: E731
        fit(config, train, n_workers=n_workers, callback=keep)
        return losses[-1]

    alone = [last_loss(1, seed) for seed in range(10)]
    together = [last_loss(2, seed) for seed in range(5)]
    # The interval in which one more run with one worker would lie but for a chance of 1e-5 (Student, 9 degrees).
    reach = stats.t.ppf(1 - 0.5e-5, 9) * np.std(alone, ddof=1) * np.sqrt(1 + 1 / 10)
    assert np.abs(np.array(together) - np.mean(alone)).max() < reach
    assert reach < 0.5 * np.mean(alone)
