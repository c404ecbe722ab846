"""Prediction: the five best labels, exact against PyTorch's product and topk, and through an index against exact.

    python benchmarks/prediction.py               a model with the defaults on the Amazon-670K shape, and kept
    python benchmarks/prediction.py --retrain     the model is trained again

The index is chosen as `slide predict --mode lsh` does it, on the first rows, for several recalls; the others are
asked. Beside it stand tables over all labels, without a head.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from shared import tasks
from shared.harness import child, figure, in_turn, require_agreement, spread, table, write_result
from slide_fast.inference.index_choice import ROWS, index_of

from slide_fast.prediction import Index, build_index, predict_topk, predict_topk_lsh
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.metrics import recall_at
from slide_ref.common.parameters import Layer, layers_of
from slide_ref.common.sparse_rows import SparseRows
from slide_ref.common.storage.model_folder import load_model, save_model

K = 5
BATCH = 256
RECALLS = (0.8, 0.9, 0.95, 0.99)
TABLES = ({}, {"K": 8, "L": 50, "bucket_size": 10**6}, {"K": 12, "L": 100, "bucket_size": 10**6})


def model_folder(data: str, retrain: bool, workers: int) -> Path:
    """A model trained with the defaults, from the cache if it is there."""
    folder = tasks.CACHE / f"model-{tasks.name_of(data)}"
    if retrain or not folder.exists():
        child(train, data, str(folder), workers)
    return folder


def train(data: str, folder: str, workers: int) -> dict[str, Any]:
    save_model(folder, fit(Config(), tasks.load(data)[0], n_workers=workers))
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
    from shared.peers import Batch
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


def lsh_once(folder: str, data: str, n_rows: int, n_threads: int) -> dict[str, Any]:
    """Recall and speed through indexes, and exact speed beside each of them."""
    model, rows = load_model(folder), _rows(data, ROWS + n_rows).features
    layers, first, rows = layers_of(model.arrays), rows.take(np.arange(ROWS)), rows.take(np.arange(ROWS, ROWS + n_rows))
    best = predict_topk(layers, rows, K, n_threads)[0]
    found = []
    for wanted in RECALLS:
        started = time.perf_counter()
        index, choice = index_of(model, first, K, wanted, n_threads)
        seconds = time.perf_counter() - started
        name = f"recall {wanted:g}: {choice.n_head:,} longest, {choice.lsh.L} tables"
        found.append(_asked(name, index, layers, rows, best, seconds, n_threads))
    for lsh in TABLES:
        started = time.perf_counter()
        index = build_index(model.config.replace(lsh=lsh), layers, 0)
        seconds = time.perf_counter() - started
        name = "tables: " + (", ".join(f"{key} {lsh[key]}" for key in ("K", "L") if key in lsh) or "as in training")
        found.append(_asked(name, index, layers, rows, best, seconds, n_threads))
    return {"rows": found}


def _asked(
    name: str, index: Index, layers: list[Layer], rows: SparseRows, best: np.ndarray, to_build: float, n_threads: int
) -> dict[str, Any]:
    """What an index answers, and exact speed right before."""
    started = time.perf_counter()
    predict_topk(layers, rows, K, n_threads)
    exact_seconds = time.perf_counter() - started
    started = time.perf_counter()
    ids, _, n_candidates = predict_topk_lsh(layers, rows, K, index, n_threads=n_threads)
    seconds = time.perf_counter() - started
    return {
        "index": name,
        "recall_at_5": recall_at(ids, best, K),
        "samples_per_second": rows.n_rows / seconds,
        "times_exact": exact_seconds / seconds,
        "candidates": float(n_candidates.mean()),
        "seconds_to_build": to_build,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="amazon-670k")
    parser.add_argument("--retrain", action="store_true")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    require_agreement()
    folder = model_folder(options.data, options.retrain, options.threads)
    given = str(folder), options.data, options.rows, options.threads
    mine, theirs = in_turn([partial(child, exact_once, *given), partial(child, torch_once, *given)], options.rounds)
    rates = [spread([run["samples_per_second"] for run in runs]) for runs in (mine, theirs)]
    ratio = spread([a["samples_per_second"] / b["samples_per_second"] for a, b in zip(mine, theirs, strict=True)])
    cells = [["exact top 5", "samples/s", "range"]]
    cells += [[name, f"{rate['median']:,.0f}", f"{rate['min']:,.0f} to {rate['max']:,.0f}"]
              for name, rate in zip(("slide_fast", "PyTorch product and topk"), rates, strict=True)]  # fmt: skip
    table(cells)
    print(f"exact: {ratio['median']:.2f} times PyTorch ({ratio['min']:.2f} to {ratio['max']:.2f})\n", flush=True)
    runs = in_turn([partial(child, lsh_once, *given)], options.rounds)[0]
    rows = runs[0]["rows"]
    for i, row in enumerate(rows):
        row["times_exact"] = spread([run["rows"][i]["times_exact"] for run in runs])["median"]
    cells = [["lsh top 5", "recall@5 %", "samples/s", "times exact", "candidates", "s to build"]]
    for row in rows:
        figures = f"{row['times_exact']:.2f}", f"{row['candidates']:,.0f}", f"{row['seconds_to_build']:.1f}"
        cells.append([row["index"], f"{100 * row['recall_at_5']:.1f}", f"{row['samples_per_second']:,.0f}", *figures])
    table(cells)
    good = [row for row in rows if row["recall_at_5"] >= 0.9]
    fastest = max(good, key=lambda row: row["times_exact"], default=None)
    print("none finds 0.9 of the exact answers" if fastest is None else
          f"the fastest that finds 0.9: {fastest['times_exact']:.2f} times exact")  # fmt: skip
    name = f"prediction_{tasks.name_of(options.data)}"
    write_result(name, {"exact": rates[0], "pytorch": rates[1], "exact_over_pytorch": ratio, "lsh": rows,
                        "fastest_at_recall_0.9": fastest})  # fmt: skip
    figure(partial(draw, rows), name, xlabel="recall@5 of the exact answers", ylabel="times exact")


def draw(rows: list[dict[str, Any]], plot: Any) -> None:
    for row in rows:
        plot.plot(row["recall_at_5"], row["times_exact"], marker="o", linestyle="none", label=row["index"])
    plot.axvline(0.9, color="grey", linewidth=1)
    plot.axhline(5, color="grey", linewidth=1)
    plot.set_yscale("log")


if __name__ == "__main__":
    main()
