"""Many fits in one process leave nothing behind; many models live side by side. `SLIDE_FITS` sets how many fits."""

import gc
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from problems import random_dataset

from slide_fast.estimator.classifier import SlideClassifier
from slide_fast.indexing import build_index
from slide_fast.prediction import predict_topk, predict_topk_index
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.index import samples_for_index
from slide_ref.common.parameters import layers_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")

FITS = int(os.environ.get("SLIDE_FITS", "25"))
WARM_UP = 5
TRAIN = random_dataset(0, n_samples=200, n_labels=300)
CONFIG = Config(hidden=(16,), epochs=1, micro_batch=50).replace(
    lsh={"family": "simhash", "K": 4, "L": 3, "min_active": 20}
)


def holdings():
    """What a process can leak: descriptors, mapped shared blocks, names in /dev/shm, children, threads."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text()
    children = Path("/proc/self/task", str(os.getpid()), "children").read_text()
    names = sorted(name for name in os.listdir("/dev/shm") if name.startswith(f"slide-{os.getpid()}-"))
    return (len(os.listdir("/proc/self/fd")), maps.count("memfd:slide") + maps.count("/dev/shm/slide-"),
            names, children, threading.active_count())  # fmt: skip


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grow_table_of_strings():
    """Let the interpreter's table of strings take the size at which it stays: it grows by half a megabyte at once."""
    for i in range(100_000):
        sys.intern(f"a string that is forgotten, {i}")


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_many_fits_leak_nothing(n_workers):
    grow_table_of_strings()
    sizes = []
    for i in range(WARM_UP + FITS):
        fit(CONFIG.replace(seed=i), TRAIN, test=TRAIN, n_workers=n_workers)
        if i == WARM_UP - 1:
            before = holdings()
        if i >= WARM_UP:
            sizes.append(resident())
    assert holdings() == before
    half = len(sizes) // 2
    growth = (np.mean(sizes[half:]) - np.mean(sizes[:half])) / half
    one_model = sum(array.nbytes for array in fit(CONFIG, TRAIN, n_workers=1).arrays.values())
    print(f"{FITS} fits with {n_workers} workers: resident size {sizes[0] / 2**20:.1f} to {sizes[-1] / 2**20:.1f} MiB, "
          f"{growth:.0f} bytes a fit; a model takes {one_model}")  # fmt: skip
    assert growth < one_model  # a leak of a fit's memory would be larger: the model and twice as much besides


@pytest.mark.slow
def test_fits_that_fail_leak_nothing():
    def fail(event):
        if event["kind"] == "progress":
            raise OSError("the callback fails")

    found = []
    for _ in range(6):
        with pytest.raises(OSError, match="the callback fails"):
            fit(CONFIG, TRAIN, n_workers=2, callback=fail)
        found.append(holdings())
    assert found[-1] == found[1]


@pytest.mark.parametrize("mode", ["exact", "index"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_prediction_starts_threads_only_where_several_are_asked_for(monkeypatch, mode, n_threads):
    """Memory that a thread has freed stays with the process, and no `malloc_trim` gives it back."""
    layers = layers_of(fit(CONFIG, TRAIN, n_workers=1).arrays)
    index = build_index(layers, samples_for_index(0, TRAIN.features), 2)
    monkeypatch.setattr("slide_fast.prediction.ROWS_AT_ONCE", 50)  # so that there is something to share
    started, start = [], threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (started.append(thread), start(thread)))
    if mode == "exact":
        predict_topk(layers, TRAIN.features, 5, n_threads)
    else:
        predict_topk_index(layers, TRAIN.features, 5, index, 20, n_threads)
    assert bool(started) == (n_threads > 1)


@pytest.mark.slow
def test_ten_models_at_once_in_one_process():
    """Trained by ten threads at the same time, five of them with two workers; then all asked in turn."""
    found = {}

    def train(seed):
        classifier = SlideClassifier(hidden=(16,), epochs=1, micro_batch=50, n_workers=1 + seed % 2, random_state=seed)
        found[seed] = classifier.fit(*TRAIN)

    threads = [threading.Thread(target=train, args=(seed,)) for seed in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(10))
    for seed in range(0, 10, 2):
        alone = SlideClassifier(hidden=(16,), epochs=1, micro_batch=50, n_workers=1, random_state=seed).fit(*TRAIN)
        for one, two in zip(found[seed].predict_topk(TRAIN.features), alone.predict_topk(TRAIN.features), strict=True):
            assert np.array_equal(one, two)
