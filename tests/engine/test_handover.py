"""Nobody holds a second copy of the samples, of their weights, or of a state, once a run has its own."""

import weakref

import numpy as np
import pytest
from problems import random_dataset, some_weights

from slide_fast import SlideClassifier, training
from slide_fast.cli import demo
from slide_fast.cli.main import main
from slide_fast.data import write_npz, write_xmc
from slide_fast.datasets.stdlib_names import build_task
from slide_fast.engine import options
from slide_fast.engine.checkpoints import Checkpoints
from slide_fast.engine.handover import Handover
from slide_fast.engine.layout import data_arrays
from slide_fast.training import fit, fit_with_state
from slide_ref.common.config import Config

CONFIG = Config(hidden=(8,), epochs=1, micro_batch=8)
TRAIN, TEST = random_dataset(0, n_samples=60), random_dataset(1, n_samples=20)
SMALL = ["--hidden", "8", "--epochs", "2", "--micro-batch", "8"]


@pytest.fixture
def left(monkeypatch):
    """How many arrays of data and of states were seen as runs began, and how many were there at their starts."""
    seen, left = [], []
    estimate, log_event, last = training.estimate, options.log_event, Checkpoints.last

    def note(arrays):
        seen.extend(map(weakref.ref, arrays))

    def noting(config, train, test, n_workers, weights, *more):
        note(data_arrays(train, test, weights).values())
        return estimate(config, train, test, n_workers, weights, *more)

    def listening(callback):
        def told(event):
            if event["kind"] == "start":
                left.append((len(seen), sum(array() is not None for array in seen)))
                seen.clear()
            callback(event)

        return log_event(told)

    def noting_last(self, *arguments, **named):
        state = last(self, *arguments, **named)
        note(state.arrays.values())
        return state

    monkeypatch.setattr(training, "estimate", noting)
    monkeypatch.setattr(options, "log_event", listening)
    monkeypatch.setattr(Checkpoints, "last", noting_last)
    return left


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "n_workers"), [(".txt", "1"), (".npz", "2")])
def test_the_command_keeps_no_copy(left, tmp_path, suffix, n_workers):
    write = write_npz if suffix == ".npz" else write_xmc
    files = [str(tmp_path / f"{name}{suffix}") for name in ("train", "test")]
    write(files[0], TRAIN)
    write(files[1], TEST)
    command = ["train", files[0], "--test", files[1], "--out", str(tmp_path / "run"), "--workers", n_workers]
    assert main([*command, *SMALL, "--checkpoint-every", "0.5", "--patience", "9"]) == 0
    assert main([*command, "--resume", "--epochs", "3", "--patience", "9"]) == 0
    n_arrays = 10  # of samples and labels
    assert [n_left for _, n_left in left] == [0, 0]
    assert [n_seen for n_seen, _ in left] == [n_arrays, n_arrays + 8]  # parameters and moments of two layers


def test_the_demo_keeps_no_copy(left, tmp_path, monkeypatch):
    for i in range(12):
        (tmp_path / f"m{i}.py").write_text("for item in range(len(items)):\n    items.append(item)\n" * 5)
    monkeypatch.setattr(demo, "build_task", lambda: build_task(tmp_path))
    assert main(["demo", "--workers", "1", "--out", str(tmp_path / "run")]) == 0
    assert left == [(10, 0)]


@pytest.mark.parametrize("train", [fit, fit_with_state])
def test_what_is_handed_over_is_dropped_and_what_is_not_stays(left, train):
    state = fit_with_state(CONFIG, TRAIN, n_workers=1)[1]
    begun = {name: array.copy() for name, array in state.arrays.items()}
    kept = [weakref.ref(array) for array in begun.values()]
    handed = Handover(state.__class__(CONFIG, 30, 60, begun))
    del begun
    own = [Handover(random_dataset(seed, n_samples=30)) for seed in (0, 1)]
    weights = Handover(some_weights(30))
    train(CONFIG, own[0], test=own[1], weights=weights, state=handed, n_workers=1)
    assert left[1] == (11, 0) and not any(array() is not None for array in kept)
    train(CONFIG, TRAIN, test=TEST, state=state, n_workers=1)
    assert left[2] == (10, 10) and state.arrays["W0"].shape == (30, 8)


def test_what_a_classifier_makes_of_its_input_is_dropped(left):
    scipy = pytest.importorskip("scipy.sparse")
    X = np.random.default_rng(0).random((40, 6))
    y = np.arange(40) % 4
    for samples in (X, X.tolist(), scipy.csr_array(X), scipy.coo_array(X.astype(np.float32))):
        classifier = SlideClassifier(hidden=(8,), epochs=1, n_workers=1, warm_start=True)
        classifier.fit(samples, y, sample_weight=list(range(1, 41)), eval_set=(samples, y))
        classifier.fit(samples, y, sample_weight=np.ones(40, dtype=np.float32), eval_set=(samples, y))
        classifier.partial_fit(samples, y)
    assert {n_left for _, n_left in left} == {0} and len(left) == 12
