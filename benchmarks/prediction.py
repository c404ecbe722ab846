"""Prediction: the five best labels, exact against PyTorch's product and topk, and through the tables against exact.

    python benchmarks/prediction.py                  a model trained for a minute on the Amazon-670K shape, and kept
    python benchmarks/prediction.py --retrain        the model is trained again

The tables of prediction are built from the trained weights, so their settings need not be those of training: several
are tried, and the fastest that finds 0.9 of the exact answers counts.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import ours
import tasks
from harness import child, figure, in_turn, require_agreement, spread, table, write_result

from slide_fast.prediction import build_index, predict_topk, predict_topk_lsh
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.metrics import recall_at
from slide_ref.common.model_folder import load_model, save_model
from slide_ref.common.parameters import layers_of

K = 5
BATCH = 256
GRID = [
    {},
    {"K": 8, "L": 20, "bucket_size": 10**6},
    {"K": 10, "L": 30, "bucket_size": 10**6},
    {"K": 12, "L": 50, "bucket_size": 10**6},
    {"K": 12, "L": 70, "bucket_size": 10**6},
    {"K": 13, "L": 70, "bucket_size": 10**6},
    {"K": 14, "L": 100, "bucket_size": 10**6},
]
BUDGETS = (0, 1000)


def model_folder(data: str, seconds: float, retrain: bool, workers: int) -> Path:
    """A model trained with the defaults for some seconds, from the cache if it is there."""
    folder = tasks.CACHE / f"model-{tasks.name_of(data)}-{seconds:g}s"
    if retrain or not folder.exists():
        child(train, data, seconds, str(folder), workers)
    return folder


def train(data: str, seconds: float, folder: str, workers: int) -> dict[str, Any]:
    train_data, _ = tasks.load(data)
    save_model(folder, fit(Config(epochs=ours.LONG), train_data, n_workers=workers, max_seconds=seconds))
    return {}


def _rows(data: str, n_rows: int) -> Any:
    return tasks.evaluation_rows(data, tasks.load(data)[1]).take(range(n_rows))


def exact_once(folder: str, data: str, n_rows: int, n_threads: int) -> dict[str, Any]:
    """Our exact answers to some rows."""
    layers, rows = layers_of(load_model(folder).arrays), _rows(data, n_rows)
    predict_topk(layers, rows.features.take(range(BATCH)), K, n_threads)
    started = time.perf_counter()
    predict_topk(layers, rows.features, K, n_threads)
    return {"samples_per_second": n_rows / (time.perf_counter() - started)}


def torch_once(folder: str, data: str, n_rows: int, n_threads: int) -> dict[str, Any]:
    """PyTorch's answers: a product with all labels and topk, in batches."""
    import torch
    from peers import Batch
    from torch.nn import functional

    torch.set_num_threads(n_threads)
    layers, rows = layers_of(load_model(folder).arrays), _rows(data, n_rows)
    W0, b0, W1, b1 = (torch.from_numpy(array.copy()) for layer in layers for array in (layer.W, layer.b))

    @torch.no_grad()
    def answer(first: int, last: int) -> None:
        batch = Batch(rows.take(range(first, last)))
        bags = functional.embedding_bag(batch.features, W0, batch.offsets, mode="sum", per_sample_weights=batch.values)
        torch.topk(torch.addmm(b1, torch.relu(bags + b0), W1.T), K, dim=1)

    answer(0, BATCH)
    started = time.perf_counter()
    for first in range(0, n_rows, BATCH):
        answer(first, min(first + BATCH, n_rows))
    return {"samples_per_second": n_rows / (time.perf_counter() - started)}


def lsh_grid(folder: str, data: str, n_rows: int, n_threads: int) -> dict[str, Any]:
    """Recall and speed through tables of several settings, and exact speed beside each setting."""
    model, rows = load_model(folder), _rows(data, n_rows)
    layers = layers_of(model.arrays)
    best = predict_topk(layers, rows.features, K, n_threads)[0]
    found = []
    for lsh in GRID:
        config = model.config.replace(lsh=lsh)
        started = time.perf_counter()
        index = build_index(config, layers, 0)
        to_build = time.perf_counter() - started
        started = time.perf_counter()
        predict_topk(layers, rows.features, K, n_threads)
        exact_seconds = time.perf_counter() - started
        for budget in BUDGETS:
            started = time.perf_counter()
            ids, _, n_candidates = predict_topk_lsh(layers, rows.features, K, index, budget, n_threads)
            seconds = time.perf_counter() - started
            found.append({
                "settings": lsh,
                "budget": budget,
                "recall_at_5": recall_at(ids, best, K),
                "samples_per_second": n_rows / seconds,
                "times_exact": exact_seconds / seconds,
                "candidates": float(n_candidates.mean()),
                "seconds_to_build": to_build,
            })  # fmt: skip
    return {"rows": found}


def in_words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or "as in training"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="amazon-670k")
    parser.add_argument("--train-seconds", type=float, default=60.0)
    parser.add_argument("--retrain", action="store_true")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    require_agreement()
    folder = model_folder(options.data, options.train_seconds, options.retrain, options.threads)
    given = str(folder), options.data, options.rows, options.threads
    mine, theirs = in_turn([partial(child, exact_once, *given), partial(child, torch_once, *given)], options.rounds)
    rates = [spread([run["samples_per_second"] for run in runs]) for runs in (mine, theirs)]
    ratio = spread([a["samples_per_second"] / b["samples_per_second"] for a, b in zip(mine, theirs, strict=True)])
    cells = [["exact top 5", "samples/s", "range"]]
    cells += [[name, f"{rate['median']:,.0f}", f"{rate['min']:,.0f} to {rate['max']:,.0f}"]
              for name, rate in zip(("slide_fast", "PyTorch product and topk"), rates, strict=True)]  # fmt: skip
    table(cells)
    print(f"exact: {ratio['median']:.2f} times PyTorch ({ratio['min']:.2f} to {ratio['max']:.2f})\n", flush=True)
    rows = child(lsh_grid, *given)["rows"]
    cells = [["lsh top 5", "budget", "recall@5 %", "samples/s", "times exact", "candidates", "s to build"]]
    for row in rows:
        cells.append([in_words(row["settings"]), str(row["budget"]), f"{100 * row['recall_at_5']:.1f}",
                      f"{row['samples_per_second']:,.0f}", f"{row['times_exact']:.2f}", f"{row['candidates']:,.0f}",
                      f"{row['seconds_to_build']:.1f}"])  # fmt: skip
    table(cells)
    good = [row for row in rows if row["recall_at_5"] >= 0.9]
    fastest = max(good, key=lambda row: row["times_exact"], default=None)
    print("no setting finds 0.9 of the exact answers" if fastest is None else
          f"the fastest that finds 0.9: {fastest['times_exact']:.2f} times exact")  # fmt: skip
    name = f"prediction_{tasks.name_of(options.data)}"
    write_result(name, {"exact": rates[0], "pytorch": rates[1], "exact_over_pytorch": ratio, "lsh": rows,
                        "fastest_at_recall_0.9": fastest})  # fmt: skip
    figure(partial(draw, rows), name, xlabel="recall@5 of the exact answers", ylabel="times exact")


def draw(rows: list[dict[str, Any]], plot: Any) -> None:
    for settings in dict.fromkeys(in_words(row["settings"]) for row in rows):
        own = [row for row in rows if in_words(row["settings"]) == settings]
        x, y = ([row[key] for row in own] for key in ("recall_at_5", "times_exact"))
        plot.plot(x, y, marker="o", linestyle="none", label=settings)
    plot.axvline(0.9, color="grey", linewidth=1)
    plot.axhline(5, color="grey", linewidth=1)
    plot.set_yscale("log")


if __name__ == "__main__":
    main()
