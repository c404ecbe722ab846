"""Dense inputs: accuracy and seconds on noisy embeddings of few samples per label, beside what people would take else.

    python benchmarks/embeddings.py
    python benchmarks/embeddings.py --sets independent --noise 2.35

20,000 embeddings of 384 dimensions and length 1 lie around 5,000 centres, four around each; 5,000 others are for the
test. "independent" centres are drawn one by one; those of "topics" lie around 100 topics. SLIDE has its defaults, with
one worker and with two, and is trained on the same embeddings in other units too. PyTorch's dense softmax has the same
width and epochs; scikit-learn's `MLPClassifier` has 384 hidden neurons and twenty epochs.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import numpy as np
from shared.harness import child, in_turn, require_agreement, spread, table, write_result

N_SAMPLES, N_TEST, N_LABELS, N_DIMENSIONS = 20_000, 5_000, 5_000, 384
TOPICS = 100
SETS = {"independent": (1.8, 2.35), "topics": (1.4,)}
UNITS = ("as they are", "times 20", "divided by 20", "standardised")
Data = tuple[np.ndarray, np.ndarray]


def embeddings(kind: str, noise: float, units: str = UNITS[0], seed: int = 0) -> tuple[Data, Data]:
    """Draw training and test embeddings with their labels."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((N_LABELS, N_DIMENSIONS), dtype=np.float32)
    if kind == "topics":
        topics = rng.standard_normal((TOPICS, N_DIMENSIONS), dtype=np.float32)
        centres = topics[rng.integers(TOPICS, size=N_LABELS)] + centres / 2
    labels = np.concatenate([np.arange(N_SAMPLES) % N_LABELS, rng.integers(N_LABELS, size=N_TEST)])
    X = centres[labels] + np.float32(noise) * rng.standard_normal((len(labels), N_DIMENSIONS), dtype=np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    if units == "standardised":
        X = (X - X[:N_SAMPLES].mean(axis=0)) / X[:N_SAMPLES].std(axis=0)
    X *= np.float32({"times 20": 20, "divided by 20": 1 / 20}.get(units, 1))
    return (X[:N_SAMPLES], labels[:N_SAMPLES]), (X[N_SAMPLES:], labels[N_SAMPLES:])


def estimator_of(contender: str) -> Any:
    """Make an estimator of scikit-learn's kind."""
    from sklearn.neighbors import NearestCentroid
    from sklearn.neural_network import MLPClassifier

    from slide_fast import SlideClassifier

    if contender == "NearestCentroid":
        return NearestCentroid()
    if contender == "MLPClassifier":
        return MLPClassifier(N_DIMENSIONS, max_iter=20, random_state=0)
    return SlideClassifier(n_workers=int(contender.split()[1]), random_state=0)


def run(contender: str, kind: str, noise: float, units: str) -> dict[str, Any]:
    """Train and score one contender."""
    (X, y), test = embeddings(kind, noise, units)
    if contender == "PyTorch, dense":
        return run_torch(X, y, *test)
    estimator, started = estimator_of(contender), time.perf_counter()
    estimator.fit(X, y)
    seconds = time.perf_counter() - started
    return {"accuracy": float(np.mean(estimator.predict(test[0]) == test[1])), "seconds": seconds}


def run_torch(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray) -> dict[str, Any]:
    """Train a dense softmax over one hidden layer by Adam; return the best run of three learning rates."""
    import torch
    from torch.nn import Linear, ReLU, Sequential
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(2)
    runs = []
    for rate in (1e-3, 3e-3, 3e-4):
        torch.manual_seed(0)
        network = Sequential(Linear(N_DIMENSIONS, 2 * N_DIMENSIONS), ReLU(), Linear(2 * N_DIMENSIONS, N_LABELS))
        optimizer = torch.optim.Adam(network.parameters(), lr=rate)
        inputs, labels, started = torch.from_numpy(X), torch.from_numpy(y), time.perf_counter()
        for _ in range(16):
            for some in torch.randperm(len(inputs)).split(256):
                optimizer.zero_grad()
                cross_entropy(network(inputs[some]), labels[some]).backward()
                optimizer.step()
        seconds = time.perf_counter() - started
        with torch.no_grad():
            best = network(torch.from_numpy(X_test)).argmax(dim=1).numpy()
        runs.append({"accuracy": float(np.mean(best == y_test)), "seconds": seconds, "learning_rate": rate})
    return max(runs, key=lambda run: run["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--noise", type=float, nargs="+", help="standard deviations of a dimension of the centres")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    require_agreement()
    rows = []
    for kind in options.sets:
        for noise in options.noise or SETS[kind]:
            contenders = [(name, UNITS[0]) for name in ("NearestCentroid", "MLPClassifier", "PyTorch, dense")]
            contenders += [("SLIDE 2 workers", UNITS[0]), *(("SLIDE 1 worker", units) for units in UNITS)]
            runs = in_turn(
                [partial(child, run, name, kind, noise, units) for name, units in contenders], options.rounds
            )
            for (name, units), own in zip(contenders, runs, strict=True):
                figures = {key: spread([one[key] for one in own]) for key in ("accuracy", "seconds")}
                rows.append({"set": kind, "noise": noise, "contender": name, "units": units} | figures)
            shown = [row for row in rows if (row["set"], row["noise"]) == (kind, noise)]
            cells = [(f"{row['contender']}, {row['units']}", f"{100 * row['accuracy']['median']:.1f}",
                      f"{row['seconds']['median']:.1f}") for row in shown]  # fmt: skip
            table([(f"{kind}, noise {noise}", "accuracy, %", "s"), *cells])
    write_result("embeddings", {"rows": rows})


if __name__ == "__main__":
    main()
