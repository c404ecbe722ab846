"""How many of a sample's largest logits its buckets hold while a network trains: before and after each rebuild.

    python benchmarks/retrieval.py                          the standard library, tate_subjects and acl_authors
    python benchmarks/retrieval.py --data tate_subjects

The samples are training samples. Beside the share of the 100 largest logits stands the share of all labels in the
buckets: what as many neurons at random would hold.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from shared import plots, tasks
from shared.harness import child, figure, require_agreement, table, write_result

from slide_fast.engine.run import Run
from slide_fast.hashing import addresses_of, hash_constants
from slide_fast.kernels.scratch import Scratch
from slide_fast.prediction import hidden_outputs
from slide_fast.sampling import hard_threshold
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.parameters import layers_of
from slide_ref.common.sparse_rows import SparseRows

LARGEST = 100
ROWS = 256
SETTINGS: dict[str, dict[str, Any]] = {
    "centroids (defaults)": {},
    "SimHash, K = 14, L = 10": {"family": "simhash"},
    "SimHash, K = 9, L = 50": {"family": "simhash", "K": 9, "L": 50},
}


def held(run: Run, rows: SparseRows) -> tuple[float, float]:
    """Shares of the largest logits and of all labels in the buckets of the samples, means over them."""
    layers, config = layers_of(run.engine.weights(run.all_steps)), run.config
    layer, output = len(layers) - 1, layers[-1]
    inputs = hidden_outputs(layers, rows, Scratch())
    largest = np.argpartition(-(inputs @ output.W.T + output.b), LARGEST, axis=1)[:, :LARGEST]
    if config.lsh.family == "centroid":
        constants = np.asarray(run.engine.arrays(with_tables=True)[f"centroids{layer}"])
    else:
        constants = hash_constants(config.lsh, config.seed, layer, output.W.shape[1])
    found = hard_threshold(run.engine.tables[layer], addresses_of(inputs, constants, config.lsh, config.seed, layer), 1)
    of_row = np.split(found.ids, found.indptr[1:-1])
    hits = [len(np.intersect1d(ids, best)) for ids, best in zip(of_row, largest, strict=True)]
    return float(np.mean(hits)) / LARGEST, len(found.ids) / len(inputs) / len(output.b)


def follow(data: str, n_workers: int, lsh: dict[str, Any]) -> dict[str, Any]:
    """Train, and look into the buckets at each rebuild."""
    train = tasks.load(data)[0]
    rows = train.features.take(np.arange(ROWS))
    points: list[dict[str, float]] = []
    rebuild = Run.rebuild

    def watched(run: Run) -> None:
        before = held(run, rows) if run.progress.rebuilds else (None, None)
        rebuild(run)
        after = held(run, rows)
        points.append({"step": run.progress.step, "before": before[0], "after": after[0], "of_all": after[1]})

    Run.rebuild = watched
    fit(Config(epochs=5, in_batch=0.0).replace(lsh=lsh), train, n_workers=n_workers)
    return {"points": points}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["stdlib", "tate_subjects", "acl_authors"])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    require_agreement()
    per_cent = lambda share: "" if share is None else f"{100 * share:.2f}"  # noqa: E731
    for data in options.data:
        runs = {name: child(follow, data, options.workers, lsh)["points"] for name, lsh in SETTINGS.items()}
        for name, points in runs.items():
            print(f"\n{tasks.name_of(data)}, {name}: share of the {LARGEST} largest logits in a sample's buckets, %")
            rows = [[per_cent(point[key]) for key in ("before", "after", "of_all")] for point in points]
            cells = [[str(point["step"]), *row] for point, row in zip(points, rows, strict=True)]
            table([["step", "before the rebuild", "after", "all labels"], *cells])

        write_result(f"retrieval_{tasks.name_of(data)}", {"rows": ROWS, "runs": runs})
        plot = plots.retrieved(runs, data)
        figure(plot.draw, f"retrieval_{tasks.name_of(data)}", **plot.axes)


if __name__ == "__main__":
    main()
