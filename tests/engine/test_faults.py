"""Training runs whose workers are killed, stopped, or die in chosen places; and what a killed parent leaves (nothing).

``SLIDE_KILLS`` is the number of workers that the campaign kills; a test of everyday kills a few.
"""

import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fault_state
import numpy as np
import pytest

from slide_fast.data import write_xmc
from slide_fast.engine import local_engine
from slide_fast.parallel.pool import Pool
from slide_fast.parallel.shared_arrays import SharedArrays
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.errors import WorkerDiedError
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

N_TRAIN, N_LABELS = 2000, 50
KILLS = int(os.environ.get("SLIDE_KILLS", "6"))


def samples(seed, n):
    """A sample shows its label's feature three times out of four, and two others."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, N_LABELS, n)
    shown = np.where(rng.random(n) < 0.75, labels, rng.integers(0, N_LABELS, n))
    others = N_LABELS + rng.integers(0, N_LABELS, (n, 2))
    ids = rows_from_lists([[int(one), *map(int, two)] for one, two in zip(shown, others, strict=True)], 2 * N_LABELS)
    features = SparseRows(ids.indptr, ids.indices, np.ones(ids.nnz, np.float32), 2 * N_LABELS)
    return Dataset(features, rows_from_lists([[int(label)] for label in labels], N_LABELS))


TRAIN, TEST = samples(0, N_TRAIN), samples(1, 1000)


def config(epochs=3, seed=0):
    usual = Config(hidden=(16,), epochs=epochs, micro_batch=20, rebuild_gap=10, learning_rate=0.01, seed=seed)
    return usual.replace(lsh={"family": "simhash", "K": 4, "L": 3, "min_active": 15})


class Watched:
    """Runs `fit` with workers that count what they train on; `deaths` are set before they start."""

    def __init__(self, block, patch):
        self.trained, self.answered, self.deaths, self.stops = block.arrays.values()
        self.pool = None

        def make_pool(factory, setup, shared, *rest):
            self.pool = Pool("fault_state:State", setup, [*shared, block], *rest)
            return self.pool

        patch.setattr(local_engine, "Pool", make_pool)

    def fit(self, settings, callback=lambda event: None, **options):
        self.last = {}

        def keep(event):
            self.last[event["kind"]] = event
            callback(event)

        usual = {"n_workers": 2, "max_restarts": 10_000}
        return fit(settings, TRAIN, test=TEST, callback=keep, **usual | options)

    def assert_nothing_is_lost(self, epochs):
        assert self.last["end"]["samples"] == epochs * N_TRAIN
        assert (self.trained >= epochs).all()


@pytest.fixture
def watched(monkeypatch):
    with SharedArrays.create(fault_state.layout(N_TRAIN)) as block:
        yield Watched(block, monkeypatch)


@pytest.fixture(scope="module")
def usual_precisions():
    """P@1 of undisturbed runs of other seeds."""
    found = []

    def callback(event):
        if event["kind"] == "evaluation" and event["epoch"] == 3:
            found.append(event["precision_at_1"])

    for seed in range(1, 7):
        fit(config(seed=seed), TRAIN, test=TEST, n_workers=1, callback=callback)
    return np.array(found)


def assert_usual(precision, usual):
    """Within reach of one more run of another seed, but for a chance of 1e-5 (Student's t)."""
    t = pytest.importorskip("scipy.stats").t.ppf(1 - 0.5e-5, len(usual) - 1)
    assert abs(precision - usual.mean()) <= t * usual.std(ddof=1) * np.sqrt(1 + 1 / len(usual))


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("place", fault_state.PLACES)
@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_worker_that_dies_in_any_place_is_replaced_and_nothing_is_lost(watched, place, times):
    watched.deaths[fault_state.PLACES.index(place)] = times
    model = watched.fit(config(epochs=1))
    watched.assert_nothing_is_lost(epochs=1)
    assert watched.pool.restarts >= times and not watched.deaths.any()
    assert all(np.isfinite(array).all() for array in model.arrays.values())


def test_both_workers_die_in_every_place(watched):
    watched.deaths[:] = 2
    watched.fit(config(epochs=1))
    watched.assert_nothing_is_lost(epochs=1)
    assert watched.pool.restarts >= 2 * len(fault_state.PLACES)


@pytest.mark.slow
def test_kills_at_random_moments_cost_no_sample_and_no_precision(watched, usual_precisions):
    moments, ended, killed, precisions = random.Random(0), threading.Event(), [], []

    def keep_killing():
        while len(killed) < KILLS and not ended.wait(moments.uniform(0.0, 1.0)):
            pids = watched.pool.pids if watched.pool is not None else []
            if pids and not set(pids) & set(killed):  # all that were killed have been replaced
                victims = pids if moments.random() < 0.2 else [moments.choice(pids)]
                for pid in victims:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    killer = threading.Thread(target=keep_killing)
    killer.start()
    try:
        while len(killed) < KILLS:
            watched.trained[:] = 0
            watched.fit(config())
            watched.assert_nothing_is_lost(epochs=3)
            precisions.append(watched.last["evaluation"]["precision_at_1"])
    finally:
        ended.set()
        killer.join()
    print(
        f"{len(killed)} workers killed in {len(precisions)} runs, P@1 {min(precisions):.4f} to {max(precisions):.4f}; "
        f"undisturbed {usual_precisions.min():.4f} to {usual_precisions.max():.4f}"
    )
    for precision in precisions:
        assert_usual(precision, usual_precisions)


def test_deaths_beyond_max_restarts_end_the_run_with_advice(watched):
    watched.deaths[fault_state.PLACES.index("update")] = 100
    with pytest.raises(WorkerDiedError, match=r"max_restarts \(2\) is exhausted.*worker \d+: SIGKILL: .*memory; try"):
        watched.fit(config(), max_restarts=2)
    assert watched.pool.restarts in (3, 4) and watched.pool.pids == []


@pytest.mark.parametrize("place", ["update", "predict"])
def test_a_stopped_worker_is_replaced_and_the_rest_go_on(watched, place):
    """It stops in the first task of a kind. The rest work on; then its time is up, whatever the clock says."""
    done = watched.trained if place == "update" else watched.answered
    stopped, went_on, ended = [], threading.Event(), threading.Event()

    def callback(event):
        if event["kind"] == "start":
            stopped.append(watched.pool.pids[0])
            watched.stops[fault_state.PLACES.index(place)] = stopped[0]

    def let_time_pass():
        while not ended.wait(0.01):
            busy = watched.pool._busy() if stopped else []
            if done.any() and [worker.process.pid for worker in busy] == stopped:
                went_on.set()
                busy[0].waited = math.inf

    clock = threading.Thread(target=let_time_pass)
    clock.start()
    try:
        watched.fit(config(epochs=2), callback)
    finally:
        ended.set()
        clock.join()
    watched.assert_nothing_is_lost(epochs=2)
    assert watched.pool.restarts == 1 and not is_alive(stopped[0]) and went_on.is_set()


def start_training(folder, *more):
    write_xmc(folder / "train.txt", TRAIN)
    (folder / "tmp").mkdir()
    options = f"--out {folder}/run --workers 2 --epochs 1000000 --hidden 8 --micro-batch 20 --set lsh.min_active=15"
    options += " --set in_batch=0"  # so that there are rebuilds to be interrupted
    command = [sys.executable, "-m", "slide_fast", "train", folder / "train.txt", *options.split(), *more]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment)


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_killed_parent_leaves_no_process_no_memory_and_no_file(tmp_path):
    with start_training(tmp_path) as parent:
        metrics = tmp_path / "run" / "metrics.jsonl"
        wait_for(lambda: metrics.exists() and metrics.stat().st_size, 60)
        workers = children(parent.pid)
        assert len(workers) == 2
        parent.kill()
        parent.wait()
        wait_for(lambda: not any(is_alive(pid) for pid in workers), 20.0)
    assert os.listdir(tmp_path / "tmp") == [] and not any(name.startswith("slide-") for name in os.listdir("/dev/shm"))
    assert sorted(os.listdir(tmp_path / "run")) == ["config.toml", "metrics.jsonl"]


@pytest.mark.slow
@pytest.mark.skipif(signal.getsignal(signal.SIGINT) is signal.SIG_IGN, reason="Ctrl-C is out of use here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [0.1, 0.5, 0.9, 1.7])
def test_an_interrupt_at_any_moment_ends_cleanly(tmp_path, number, moment):
    with start_training(tmp_path) as parent:
        time.sleep(moment)
        parent.send_signal(number)
        errors = parent.communicate(timeout=60)[1]
    assert "Traceback" not in errors or parent.returncode in (-number, 1)  # before the command was there
    if "the model is in" in errors:
        command = [sys.executable, "-m", "slide_fast", "evaluate", str(tmp_path / "run"), str(tmp_path / "train.txt")]
        assert subprocess.run(command, capture_output=True).returncode == 0
    else:
        assert not (tmp_path / "run").exists() or os.listdir(tmp_path / "run") == []
