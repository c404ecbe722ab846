"""What one can train on a folder of samples: each contender trains, predicts and saves, and is measured.

Every function takes a task, the number of workers or threads, and the longest training in seconds; it returns figures
as `measured` does. Each has its library's defaults, unless its docstring says otherwise.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from shared import omikuji_peer, tasks

from slide_fast import SlideClassifier
from slide_fast.cli.settings import PRESETS
from slide_fast.parallel.machine import MemoryMeter
from slide_ref.common.metrics import evaluate, inverse_propensity
from slide_ref.common.sparse_rows import Dataset, SparseRows

K = 5
RATE, NEGATIVES = 1e-3, 1000  # of PyTorch's networks: Adam's default, and negatives a batch
PECOS = "PECOS XR-Linear"
MOST_SEPARATE = 2000  # labels for which scikit-learn trains one classifier each

Best = Callable[[SparseRows], np.ndarray]  # the k best labels of each row; -1 where there are fewer


class Trained(NamedTuple):
    """What a contender made: how it predicts, how it is saved, and the seconds that training took."""

    best: Best
    save: Callable[[Path], None]
    seconds: float


def samples(data: str) -> tuple[Dataset, Dataset]:
    """Return the training samples that have labels, and the test rows that everyone is judged on."""
    train, test = tasks.load(data)
    return train.take(np.flatnonzero(np.diff(train.labels.indptr))), tasks.evaluation_rows(data, test)


def measured(data: str, train_with: Callable[[Dataset, Dataset], Trained]) -> dict[str, Any]:
    """Train a contender, save it, let it predict, and judge it.

    Returns
    -------
    dict
        As `judged`, and ``seconds`` of training, ``rows_per_second`` of prediction, ``peak_memory_bytes`` of training
        with its data and worker processes, ``model_bytes``.
    """
    train, test = samples(data)
    with MemoryMeter(lambda: list(_descendants(os.getpid()))) as meter:
        trained = train_with(train, test)
    with tempfile.TemporaryDirectory() as folder:
        trained.save(Path(folder))
        n_bytes = size_of(Path(folder))
    started = time.perf_counter()
    ids = trained.best(test.features)
    rate = test.n_samples / (time.perf_counter() - started)
    prices = {"seconds": trained.seconds, "rows_per_second": rate, "peak_memory_bytes": meter.peak_bytes}
    return judged(ids, train, test) | prices | {"model_bytes": n_bytes}


def judged(ids: np.ndarray, train: Dataset, test: Dataset) -> dict[str, float]:
    """Return ``precision_at_1``, ``_3``, ``_5`` and ``psp_at_1`` of the k best labels of each test row."""
    counts = np.bincount(train.labels.indices, minlength=train.labels.n_columns)
    found = evaluate(ids, test.labels, inverse_propensity(counts, train.n_samples))
    return {name: found[name] for name in ("precision_at_1", "precision_at_3", "precision_at_5", "psp_at_1")}


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that they have."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            pids = [int(word) for word in path.read_text().split()]
        except OSError:  # ended meanwhile
            continue
        for child in pids:
            yield child
            yield from _descendants(child)


def slide(
    data: str, n_workers: int, max_seconds: float, preset: str | None = None, mode: str = "exact"
) -> dict[str, Any]:
    """Train `SlideClassifier`, which chooses the width of its network, or has that of a preset."""

    def train_with(train: Dataset, test: Dataset) -> Trained:
        settings = dict(PRESETS[preset]) if preset else {}
        hidden = settings.pop("hidden", None)
        classifier = SlideClassifier(hidden=hidden, settings=settings, n_workers=n_workers, max_seconds=max_seconds)
        seconds = _timed(lambda: classifier.fit(train.features, train.labels))
        return Trained(lambda rows: classifier.predict_topk(rows, K, mode)[0], classifier.save, seconds)

    return measured(data, train_with)


def omikuji(data: str, n_workers: int, max_seconds: float) -> dict[str, Any]:
    """Train omikuji. It has no limit of time, and predicts row by row."""

    def train_with(train: Dataset, test: Dataset) -> Trained:
        model, seconds = omikuji_peer.train(train, n_workers)
        return Trained(
            lambda rows: omikuji_peer.best(model, rows, K), lambda to: model.save(str(to / "model")), seconds
        )

    return measured(data, train_with)


def xr_linear(data: str, n_workers: int, max_seconds: float, python: str) -> dict[str, Any]:
    """Train the XR-Linear of PECOS on clusters of labels by their positive features (PIFA). It has no limit of time."""
    from scipy.sparse import save_npz

    train, test = samples(data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, rows in {"train": train.features, "labels": train.labels, "test": test.features}.items():
            save_npz(folder / f"{file}.npz", as_csr(rows))
        command = [python, str(Path(__file__).with_name("pecos_peer.py")), name, str(n_workers), str(K)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.returncode)  # it has said why
        facts = json.loads(done.stdout.splitlines()[-1])
        ids, n_bytes = np.load(folder / "ids.npy"), size_of(folder / "model")
    return judged(ids, train, test) | facts | {"model_bytes": n_bytes}


def scikit_learn(data: str, n_workers: int, max_seconds: float) -> dict[str, Any]:
    """Train one LinearSVC for each label. It has no limit of time."""
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import LinearSVC

    def train_with(train: Dataset, test: Dataset) -> Trained:
        X, Y = as_csr(train.features), as_csr(train.labels)
        occur = np.flatnonzero(np.diff(Y.tocsc().indptr))
        model = OneVsRestClassifier(LinearSVC(), n_jobs=n_workers)
        seconds = _timed(lambda: model.fit(X, Y[:, occur]))

        def best(rows: SparseRows) -> np.ndarray:
            scores = model.decision_function(as_csr(rows))
            return occur[np.argsort(-scores, axis=1)[:, :K]]

        return Trained(best, lambda folder: (folder / "model.pickle").write_bytes(pickle.dumps(model)), seconds)

    return measured(data, train_with)


def pytorch(data: str, n_workers: int, max_seconds: float, n_negatives: int | None) -> dict[str, Any]:
    """Train a network of 128 neurons until P@1 on the test rows no longer grows, and judge it where it was best."""
    import torch
    from shared import peers
    from shared.curves import Point
    from shared.curves import best as best_of

    torch.set_num_threads(n_workers)

    def train_with(train: Dataset, test: Dataset) -> Trained:
        network = peers.Network(train.features.n_columns, train.labels.n_columns, RATE, n_negatives)
        weights = (network.W0, network.b0, network.W1, network.b1)
        kept: list[torch.Tensor] = []
        reached = 0.0

        def keep(points: list[Point]) -> None:
            nonlocal kept, reached
            if points[-1]["precision_at_1"] == best_of(points) or not kept:
                kept, reached = [weight.detach().clone() for weight in weights], points[-1]["seconds"]

        peers.torch_curve(network, train, test, max_seconds, keep=keep)
        with torch.no_grad():
            for weight, one in zip(weights, kept, strict=True):
                weight.copy_(one)

        def best(rows: SparseRows) -> np.ndarray:
            none = SparseRows(np.zeros(rows.n_rows + 1, np.int64), np.zeros(0, np.int32), None, train.labels.n_columns)
            return network.topk(Dataset(rows, none), K)

        return Trained(best, lambda folder: torch.save(kept, folder / "model.pt"), reached)

    return measured(data, train_with)


def as_csr(rows: SparseRows) -> Any:
    """Return rows as a SciPy matrix."""
    from scipy.sparse import csr_matrix

    values = np.ones(rows.nnz, np.float32) if rows.data is None else rows.data
    return csr_matrix((values, rows.indices, rows.indptr), shape=(rows.n_rows, rows.n_columns))


def _timed(work: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


CONTENDERS: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {  # by name: the module it needs, how it is run
    "slide": ("slide_fast", slide),
    "slide, by the index": ("slide_fast", partial(slide, mode="index")),
    "slide, preset fast": ("slide_fast", partial(slide, preset="fast")),
    "omikuji": ("omikuji", omikuji),
    PECOS: ("scipy", xr_linear),
    "scikit-learn LinearSVC": ("sklearn", scikit_learn),
    "PyTorch sampled": ("torch", partial(pytorch, n_negatives=NEGATIVES)),
    "PyTorch dense": ("torch", partial(pytorch, n_negatives=None)),
}


def run(name: str, data: str, n_workers: int, max_seconds: float, more: dict[str, Any]) -> dict[str, Any]:
    """Run a contender by name, with further arguments."""
    return CONTENDERS[name][1](data, n_workers, max_seconds, **more)
