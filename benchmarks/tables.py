"""What the tables find: the share of each sample's 100 largest logits that stand in its buckets, over training.

    python benchmarks/tables.py --data acl_authors stdlib

A network is trained with the defaults; after each of some epochs its output is hashed with the tables of training and
with others, and the first test rows query them. Chance is the share that as many neurons drawn uniformly would hold.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np
from shared import tasks
from shared.harness import figure, require_agreement, table, write_result

from slide_fast.hash_tables import build_tables
from slide_fast.hashing import addresses_of, hash_constants
from slide_fast.indexing import build_index
from slide_fast.prediction import all_hidden_outputs, candidates, predict_topk
from slide_fast.sampling import hard_threshold
from slide_fast.training import fit_with_state
from slide_ref.common.config import Config
from slide_ref.common.index import IndexSamples, samples_for_index
from slide_ref.common.parameters import Layer, layers_of
from slide_ref.common.sparse_rows import SparseRows

LARGEST = 100
ROWS = 256
EPOCHS = 5
INDEX = {"family": "centroid"}  # the index for prediction, of which the first 2 % of the labels are looked at
TABLES = (
    INDEX,
    {"K": 14, "L": 10, "family": "simhash"},
    {"K": 9, "L": 50, "family": "simhash"},
    {"K": 9, "L": 50, "family": "simhash", "bucket_size": 10**6},
    {"K": 4, "L": 10, "family": "dwta"},
    {"K": 3, "L": 50, "family": "dwta"},
)


def found_in_tables(config: Config, output: Layer, inputs: np.ndarray) -> list[np.ndarray]:
    """The neurons in each sample's L buckets."""
    lsh, seed, layer = config.lsh, config.seed, len(config.hidden)
    constants = hash_constants(lsh, seed, layer, inputs.shape[1])
    tables = build_tables(output.W, constants, lsh, seed, layer, 0)
    found = hard_threshold(tables, addresses_of(inputs, constants, lsh, seed, layer), 1)
    return np.split(found.ids, found.indptr[1:])[: len(inputs)]


def share_found(
    config: Config, layers: list[Layer], rows: SparseRows, samples: IndexSamples, n_threads: int
) -> dict[str, float]:
    """Mean share of the largest logits that the tables return, and how many neurons they return."""
    best, _ = predict_topk(layers, rows, LARGEST, n_threads)
    inputs = all_hidden_outputs(layers, rows, n_threads)
    if config.lsh.family == "centroid":
        index = build_index(layers, samples, n_threads)._replace(preview=None)
        found = candidates(index, inputs, min(len(layers[-1].b) // 50, index.buckets.shape[1]), LARGEST)
    else:
        found = found_in_tables(config, layers[-1], inputs)
    shares = [np.isin(wanted, own).mean() for wanted, own in zip(best, found, strict=True)]
    n_found = float(np.mean([len(own) for own in found]))
    return {"share": float(np.mean(shares)), "found": n_found, "chance": n_found / len(layers[-1].b)}


def over_training(data: str, workers: int) -> list[dict[str, Any]]:
    """A row for each epoch and each kind of tables."""
    train, test = tasks.load(data)
    rows, state, found = tasks.evaluation_rows(data, test).features.take(np.arange(ROWS)), None, []
    samples = samples_for_index(0, train.features)
    config = Config(epochs=1, decay="constant", in_batch=0.0)
    for epoch in range(EPOCHS + 1):
        if epoch:
            model, state = fit_with_state(config, train, n_workers=workers, state=state)
        else:
            model, _ = fit_with_state(config, train, n_workers=1, max_seconds=1e-9)
        for lsh in TABLES:
            figures = share_found(config.replace(lsh=lsh), layers_of(model.arrays), rows, samples, workers)
            found.append({"epoch": epoch, "tables": in_words(lsh)} | figures)
            print(f"  {data}, epoch {epoch}, {in_words(lsh)}: {100 * figures['share']:.1f} %", flush=True)
    return found


def in_words(lsh: dict[str, Any]) -> str:
    if lsh == INDEX:
        return "index for prediction, 2 %"
    lsh = Config().replace(lsh=lsh).lsh
    room = "" if lsh.bucket_size < 10**6 else ", no bound"
    return f"{lsh.family} K={lsh.K} L={lsh.L}{room}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["acl_authors", tasks.STDLIB])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    require_agreement()
    results = {}
    for data in options.data:
        rows = results[data] = over_training(data, options.workers)
        cells = [[data, *(f"epoch {epoch}" for epoch in range(EPOCHS + 1)), "neurons at the end", "chance"]]
        for name in dict.fromkeys(row["tables"] for row in rows):
            own = [row for row in rows if row["tables"] == name]
            shares = [f"{100 * row['share']:.1f} %" for row in own]
            cells.append([name, *shares, f"{own[-1]['found']:,.0f}", f"{100 * own[-1]['chance']:.1f} %"])
        table(cells)
        axes = {"xlabel": "epochs", "ylabel": "share of the 100 largest logits, per cent", "title": data}
        figure(partial(draw, rows), f"tables_{tasks.name_of(data)}", **axes)
    write_result("tables", {"rows": results, "largest": LARGEST, "test_rows": ROWS})


def draw(rows: list[dict[str, Any]], plot: Any) -> None:
    for name in dict.fromkeys(row["tables"] for row in rows):
        own = [row for row in rows if row["tables"] == name]
        plot.plot([row["epoch"] for row in own], [100 * row["share"] for row in own], marker="o", label=name)


if __name__ == "__main__":
    main()
