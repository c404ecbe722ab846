"""Half an hour of training, evaluating, saving, loading and killing in turn, in one process.

    python benchmarks/soak.py --minutes 30 --out benchmarks/results/soak.json

In each round a network is trained with two workers, of which some are killed or stopped at random moments; it is
saved over the model of the round before, loaded, and evaluated through both ways of prediction; now and then a
training process of its own is killed whole. Memory, descriptors and shared blocks are written down after each round.
Ends with exit code 1 if anything grows, a sample is lost, or a model is worse than it should be.

Memory is read twice: the pages that the process holds, after the C library has given back what it can, and the bytes
that it has allocated and not freed. Both must stay within 2 %. The second tells a leak from free memory that stays in
an arena: `malloc_trim` does not give back the free end of an arena that belongs to a thread, so pages can move in steps
while nothing that is allocated does. All that a round allocates here is allocated by the main thread. The
interpreter's own table of strings grows by half a megabyte once, after some thousands that came and went; it is made
to do so before the first round.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import gc
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from slide_fast.data import write_xmc
from slide_fast.engine import local_engine
from slide_fast.inference.predictor import Predictor, indexed_by
from slide_fast.parallel.machine import cpu_model
from slide_fast.parallel.pool import Pool
from slide_fast.prediction import predict_topk
from slide_fast.training import fit
from slide_ref.common.config import RECALL, Config
from slide_ref.common.metrics import evaluate
from slide_ref.common.parameters import layers_of
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists
from slide_ref.common.storage.model_folder import load_model, save_model

N_LABELS, N_TRAIN, N_TEST, EPOCHS = 1_000, 20_000, 2_000, 4
LEAST_PRECISION = 0.5
LIBC = ctypes.CDLL(None)
CONFIG = Config(hidden=(32,), epochs=EPOCHS, micro_batch=64, rebuild_gap=20, learning_rate=0.01)
CONFIG = CONFIG.replace(lsh={"family": "simhash", "K": 5, "L": 10, "min_active": 300})


def samples(seed: int, n: int) -> Dataset:
    """A sample shows its label's feature nine times out of ten, and three others."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, N_LABELS, n)
    shown = np.where(rng.random(n) < 0.9, labels, rng.integers(0, N_LABELS, n))
    others = N_LABELS + rng.integers(0, N_LABELS, (n, 3))
    ids = rows_from_lists([[int(one), *map(int, more)] for one, more in zip(shown, others, strict=True)], 2 * N_LABELS)
    features = SparseRows(ids.indptr, ids.indices, np.ones(ids.nnz, np.float32), 2 * N_LABELS)
    return Dataset(features, rows_from_lists([[int(label)] for label in labels], N_LABELS))


class Killer(threading.Thread):
    """Kills and stops workers of the current pool at random moments, never two at once."""

    def __init__(self, seed: int):
        super().__init__(daemon=True)
        self.moments, self.pool, self.ended = random.Random(seed), None, threading.Event()
        self.killed = self.stopped = 0

    def run(self) -> None:
        hit: set[int] = set()
        while not self.ended.wait(self.moments.uniform(0.2, 4.0)):
            pids = self.pool.pids if self.pool is not None else []
            if pids and not hit & set(pids):
                victim, stops = self.moments.choice(pids), self.moments.random() < 0.2
                try:
                    os.kill(victim, signal.SIGSTOP if stops else signal.SIGKILL)
                except ProcessLookupError:  # it ended with its run
                    continue
                hit.add(victim)
                self.stopped += stops
                self.killed += not stops


def kill_a_whole_training(folder: Path, data: Path, moments: random.Random) -> int:
    """Start ``slide train``, kill it with SIGKILL, and return how many of its workers outlive it by two seconds."""
    options = ["--out", str(folder), "--workers", "2", "--epochs", "1000", "--set", "lsh.min_active=300"]
    command = [sys.executable, "-m", "slide_fast", "train", str(data), *options]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(moments.uniform(0.5, 5.0))
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    time.sleep(2)
    return sum(is_running(pid) for pid in workers)


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def own_memory() -> int:
    """Bytes that this process holds, shared blocks included.

    Left out are pages of libraries, which others share, and what has been freed but the C library keeps for later:
    that depends on the order in which blocks of different sizes came and went.
    """
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(words[1]) * 1024 for words in lines if words[0] in ("RssAnon:", "RssShmem:"))


class MallocInfo(ctypes.Structure):
    """What glibc tells of its heaps, summed over all arenas."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
                     "keepcost")
    )  # fmt: skip


def allocated() -> int:
    """Bytes that are allocated by malloc and not freed, mapped blocks included; 0 where the C library does not tell."""
    if not hasattr(LIBC, "mallinfo2"):
        return 0
    LIBC.mallinfo2.restype = MallocInfo
    info = LIBC.mallinfo2()
    return info.uordblks + info.hblkhd


def grow_table_of_strings() -> None:
    """Let the interpreter intern and forget so many strings that its table takes the size at which it stays."""
    for i in range(100_000):
        sys.intern(f"a string that is forgotten, {i}")


def holdings() -> dict[str, int]:
    """What a process can leak."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text()
    return {
        "memory_bytes": own_memory(),
        "allocated_bytes": allocated(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "shared_blocks": maps.count("memfd:slide"),
        "threads": threading.active_count(),
    }


def one_round(seed: int, train: Dataset, test: Dataset, folder: Path, killer: Killer) -> dict[str, float]:
    """Train, save, load, evaluate."""
    last: dict[str, dict] = {}
    model = fit(
        CONFIG.replace(seed=seed), train, test=test, n_workers=2, max_restarts=10**6, worker_timeout=2.0,
        callback=lambda event: last.update({event["kind"]: event}),
    )  # fmt: skip
    killer.pool = None
    assert last["end"]["samples"] == EPOCHS * train.n_samples, "samples were lost"
    save_model(folder / "model", model)
    model = load_model(folder / "model")
    layers = layers_of(model.arrays)
    exact = evaluate(predict_topk(layers, test.features, 5)[0], test.labels)["precision_at_1"]
    assert exact == last["evaluation"]["precision_at_1"], "what was saved predicts otherwise"
    answers = Predictor(indexed_by(model, test.features)).topk(test.features, 5, RECALL)
    found = evaluate(answers.ids, test.labels)["precision_at_1"]
    return {"precision_at_1": exact, "precision_at_1_index": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two rounds")
    options = parser.parse_args()
    train, test, killer, moments, rounds = samples(0, N_TRAIN), samples(1, N_TEST), Killer(0), random.Random(1), []

    def make_pool(*arguments: object) -> Pool:
        killer.pool = Pool(*arguments)
        return killer.pool

    local_engine.Pool = make_pool
    grow_table_of_strings()
    killer.start()
    started = time.monotonic()
    outlived = trainings_killed = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_xmc(place / "train.txt", train)
        while (seconds := time.monotonic() - started) < 60 * options.minutes or len(rounds) < 4:
            scores = one_round(len(rounds), train, test, place, killer)
            if len(rounds) % 5 == 4:
                outlived += kill_a_whole_training(place / "run", place / "train.txt", moments)
                trainings_killed += 1
            rounds.append({"seconds": round(seconds, 1)} | scores | holdings())
            print(json.dumps(rounds[-1]), flush=True)
            time.sleep(options.pause)
        left = sorted(name for name in os.listdir(place) if name.startswith("."))
    killer.ended.set()
    report = summary(rounds, killer) | {
        "trainings_killed": trainings_killed, "workers_that_outlived_their_parent": outlived, "files_left": left,
    }  # fmt: skip
    Path(options.out).write_text(json.dumps(report | {"rounds": rounds}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report))
    return 0 if report["is_flat"] and not outlived and not left else 1


def summary(rounds: list[dict[str, float]], killer: Killer) -> dict[str, object]:
    """Whether all stayed as it was: the last quarter of the rounds against the second."""
    quarter = len(rounds) // 4
    early, late = rounds[quarter : 2 * quarter], rounds[-quarter:]
    means, allocations = ([float(np.mean([entry[key] for entry in part])) for part in (early, late)]
                          for key in ("memory_bytes", "allocated_bytes"))  # fmt: skip
    counts = [{(entry["descriptors"], entry["shared_blocks"], entry["threads"]) for entry in part}
              for part in (early, late)]  # fmt: skip
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "n_rounds": len(rounds),
        "minutes": rounds[-1]["seconds"] / 60,
        "workers_killed": killer.killed,
        "workers_stopped": killer.stopped,
        "memory_early_bytes": round(means[0]),
        "memory_late_bytes": round(means[1]),
        "allocated_early_bytes": round(allocations[0]),
        "allocated_late_bytes": round(allocations[1]),
        "lowest_precision_at_1": min(entry["precision_at_1"] for entry in rounds),
        "highest_precision_at_1": max(entry["precision_at_1"] for entry in rounds),
        "is_flat": means[1] < 1.02 * means[0] and allocations[1] <= 1.02 * allocations[0] and counts[0] == counts[1]
        and min(entry["precision_at_1"] for entry in rounds) >= LEAST_PRECISION,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
