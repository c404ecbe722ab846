"""What could hashing bring at best? Exact hardest negatives against tables, uniform and in-batch negatives.

    python benchmarks/oracle.py                                   all data sets, three seeds: hours
    python benchmarks/oracle.py --data tate_subjects --seeds 0    one run of each kind

All runs have the defaults and one worker; they differ only in the negatives of the steps after the in-batch phase. The
oracle evaluates all labels and takes for each sample those of largest logit, as many as the tables return. Beside P@1
and P@5 stands what a table finds at its last rebuild: the share of a test sample's 100 largest logits that are in its
buckets, and how many of all labels these hold.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
from retrieval import held
from shared import tasks
from shared.harness import child, require_agreement, table, write_result

from slide_fast import active_sets
from slide_fast.engine import learner
from slide_fast.engine.run import Run
from slide_fast.sampling import Retrieved
from slide_fast.training import fit
from slide_ref.common.config import Config

DATA = ("stdlib", "acl_authors", "tate_subjects", "diginetica")
ROWS = 256  # test samples whose buckets are looked into
ORACLE = "exact hardest"
KINDS: dict[str, dict[str, Any]] = {
    "uniform": {"lsh": {"L": 0}},
    "in-batch alone": {"in_batch": 1.0},
    "SimHash, K = 14, L = 10": {"lsh": {"family": "simhash"}},
    "SimHash, K = 9, L = 50": {"lsh": {"family": "simhash", "K": 9, "L": 50}},
    "centroids": {},
    ORACLE: {},
}


def become_an_oracle() -> None:
    """Let the learners of this process retrieve the neurons of largest logit, found by evaluating all of them."""
    layer: list[Any] = []
    choose_active = learner.Learner.choose_active

    def choose(self: learner.Learner, l: int, inputs: np.ndarray, batch: Any) -> Any:
        layer[:] = [self.layers[l]]
        return choose_active(self, l, inputs, batch)

    def hardest(_: Any, inputs: np.ndarray, lsh: Any, *key: Any) -> Retrieved:
        logits = inputs @ layer[0].W.T + layer[0].b
        best = np.argpartition(-logits, lsh.budget, axis=1)[:, : lsh.budget]
        return Retrieved(np.arange(len(inputs) + 1) * lsh.budget, best.ravel())

    learner.Learner.choose_active = choose
    learner.addresses_of = lambda inputs, *_: inputs
    active_sets.retrieve = hardest


def train(data: str, kind: str, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Train once; what came of it, and what the tables of the last rebuild find."""
    train, test = tasks.load(data)
    test = tasks.evaluation_rows(data, test)
    rows, found, end = test.features.take(np.arange(min(ROWS, test.n_samples))), {}, {}
    rebuild = Run.rebuild

    def watched(run: Run) -> None:
        rebuild(run)
        if run.queried() and kind != ORACLE and run.config.lsh.L:
            found["of_largest"], found["of_all"] = held(run, rows)

    def watch(event: dict[str, Any]) -> None:
        if event["kind"] == "end":
            end.update({key: event[key] for key in ("precision_at_1", "precision_at_5", "seconds")})

    Run.rebuild = watched
    if kind == ORACLE:
        become_an_oracle()
    config = Config(seed=seed).replace(**changes).replace(**KINDS[kind])
    fit(config, train, test=test, n_workers=1, eval_every=1000, eval_samples=1, callback=watch)
    return end | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    require_agreement()
    for data in options.data:
        runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in options.kinds}
        for seed in options.seeds:
            for kind, of_kind in runs.items():
                of_kind.append(child(train, data, kind, seed, {}))
                print(f"  {data}, seed {seed}, {kind}: P@1 {100 * of_kind[-1]['precision_at_1']:.2f} %", flush=True)
        cells = [[tasks.name_of(data), "P@1 %", "standard error", "P@5 %", "of the 100 largest %", "of all labels %"]]
        cells += [[kind, *figures(of_kind)] for kind, of_kind in runs.items()]
        table(cells)
        write_result(f"oracle_{tasks.name_of(data)}", {"seeds": options.seeds, "runs": runs})


def figures(runs: list[dict[str, Any]]) -> list[str]:
    """The cells of one kind of negatives: means over the seeds."""

    def mean(key: str) -> str:
        return f"{100 * statistics.mean(run[key] for run in runs):.2f}" if all(key in run for run in runs) else ""

    first = [100 * run["precision_at_1"] for run in runs]
    error = f"{statistics.stdev(first) / len(first) ** 0.5:.2f}" if len(first) > 1 else ""
    return [mean("precision_at_1"), error, mean("precision_at_5"), mean("of_largest"), mean("of_all")]


if __name__ == "__main__":
    main()
