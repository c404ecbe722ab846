"""Prediction: the five best labels, exact, through the index, and by libraries for nearest neighbours where installed.

    python benchmarks/prediction.py --data acl_authors                    a network of 128, trained and kept
    python benchmarks/prediction.py --data acl_authors --preset wide      another preset
    python benchmarks/prediction.py --data acl_authors --model run/wide   a model that is there already

One thread, one process, all in turn; one row is answered by all CPUs too, as a server would. The libraries (hnswlib,
faiss, ScaNN; PyTorch: exact) get what enters the output layer, with a 1 for the bias, and search weights and biases;
the time of the hidden layers is added to theirs. Their settings are the cheapest that reach the wanted recall on rows
which are not the ones asked; the index keeps the same rows aside.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from shared import tasks
from shared.harness import child, require_agreement, spread, table, write_result

from slide_fast.cli.settings import PRESETS
from slide_fast.indexing import build_index
from slide_fast.inference.predictor import Predictor
from slide_fast.parallel.blas_threads import ONE_BLAS_THREAD
from slide_fast.parallel.machine import available_cpus
from slide_fast.prediction import all_hidden_outputs, predict_topk
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.index import samples_for_index
from slide_ref.common.metrics import recall_at
from slide_ref.common.parameters import layers_of
from slide_ref.common.rng import Purpose, permutation
from slide_ref.common.storage.model_folder import find_model, load_model, save_model

K = 5
RECALLS = (0.9, 0.95, 0.99)
WANTED = 0.95  # of the libraries
BUILD_THREADS = 2
BATCH = 256  # rows of PyTorch
ONE_ROW = 500  # calls with one row
EFS = (10, 20, 30, 45, 65, 100, 150, 220, 330, 500, 750, 1100, 1600)
PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LEAVES = ((10, 100), (20, 100), (40, 200), (80, 200), (150, 300), (300, 500), (500, 1000), (1000, 2000))

Search = Callable[[np.ndarray], np.ndarray]


class Contender(NamedTuple):
    """A library's index: what it is called, the time that making it took, and searches from cheap to dear."""

    name: str
    seconds: float
    searches: Iterator[tuple[str, Search]]


def hnswlib_index(vectors: np.ndarray) -> Contender:
    import hnswlib

    started = time.perf_counter()
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=16, ef_construction=200, random_seed=0)
    index.add_items(vectors, num_threads=BUILD_THREADS)
    seconds = time.perf_counter() - started
    index.set_num_threads(1)

    def searches() -> Iterator[tuple[str, Search]]:
        for ef in EFS:
            index.set_ef(ef)
            yield f"hnswlib M=16 ef={ef}", lambda queries: index.knn_query(queries, K, num_threads=1)[0]

    return Contender("hnswlib", seconds, searches())


def faiss_index(vectors: np.ndarray) -> Contender:
    import faiss

    faiss.omp_set_num_threads(BUILD_THREADS)
    started = time.perf_counter()
    index = faiss.index_factory(vectors.shape[1], "IVF1024,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    seconds = time.perf_counter() - started
    faiss.omp_set_num_threads(1)

    def searches() -> Iterator[tuple[str, Search]]:
        for index.nprobe in PROBES:
            yield f"faiss IVF1024,Flat nprobe={index.nprobe}", lambda queries: index.search(queries, K)[1]

    return Contender("faiss", seconds, searches())


def scann_index(vectors: np.ndarray) -> Contender:
    import scann

    started = time.perf_counter()
    builder = scann.scann_ops_pybind.builder(vectors, K, "dot_product").set_n_training_threads(BUILD_THREADS)
    builder = builder.tree(1000, 100, training_sample_size=100_000).score_ah(2, anisotropic_quantization_threshold=0.2)
    index = builder.reorder(200).build()
    seconds = time.perf_counter() - started

    def searches() -> Iterator[tuple[str, Search]]:
        for leaves, reordered in LEAVES:
            many = {"leaves_to_search": leaves, "pre_reorder_num_neighbors": reordered}
            yield (
                f"ScaNN leaves={leaves} reorder={reordered}",
                lambda queries, many=many: index.search_batched(queries, K, **many)[0],
            )

    return Contender("scann", seconds, searches())


def torch_product(vectors: np.ndarray) -> Contender:
    """All logits and the best of them, in batches: what exact answers take elsewhere."""
    import torch

    torch.set_num_threads(1)
    labels = torch.from_numpy(vectors)

    def search(queries: np.ndarray) -> np.ndarray:
        batches = torch.split(torch.from_numpy(queries), BATCH)
        return torch.cat([torch.topk(batch @ labels.T, K).indices for batch in batches]).numpy()

    return Contender("torch", 0.0, iter([("PyTorch product and topk", search)]))


PEERS = {"hnswlib": hnswlib_index, "faiss": faiss_index, "scann": scann_index, "torch": torch_product}


def model_folder(data: str, preset: str, workers: int) -> Path:
    """A model trained with a preset, from the cache if it is there."""
    folder = tasks.CACHE / f"model-{tasks.name_of(data)}-{preset}"
    if not folder.exists():
        child(train, data, preset, str(folder), workers)
    return folder


def train(data: str, preset: str, folder: str, workers: int) -> dict[str, Any]:
    save_model(folder, fit(Config().replace(**PRESETS[preset]), tasks.load(data, 0)[0], n_workers=workers))
    return {}


def best_of(work: Callable[[], Any], rounds: int) -> float:
    """Seconds of the fastest of some calls."""
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def measure(folder: str, data: str, n_rows: int, rounds: int, peers: list[str]) -> dict[str, Any]:
    """Recall, speed and time to build of every contender, pinned to one CPU while they answer, but for `all_cpus`."""
    model, (train_data, test) = load_model(find_model(folder)), tasks.load(data, 0)
    order = permutation(0, Purpose.EVALUATION, n=test.n_samples)
    rows, others = (test.features.take(order[a:b]) for a, b in ((0, n_rows), (n_rows, 2 * n_rows)))
    layers, started = layers_of(model.arrays), time.perf_counter()
    samples = samples_for_index(0, train_data.features, others)
    index = build_index(layers, samples, BUILD_THREADS)
    seconds = time.perf_counter() - started
    del train_data, test
    indexed = model.__class__(**vars(model) | {"index": index})
    one_row = {"all_cpus": _one_row(Predictor(indexed, available_cpus()), rows)}
    ours = Predictor(indexed, 1)
    vectors = np.ascontiguousarray(np.c_[layers[-1].W, layers[-1].b])
    contenders = [PEERS[name](vectors) for name in peers]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    exact = predict_topk(layers, rows, K)[0]
    table_rows = [_ours(ours, layers, rows, exact, recall, rounds, seconds) for recall in RECALLS]
    one_row["one_cpu"] = _one_row(ours, rows)
    table_rows += [_theirs(peer, layers, rows, others, exact, rounds) for peer in contenders]
    return {"rows": table_rows, "one_row": one_row, "n_labels": len(vectors)}


def _times_exact(layers: Any, rows: Any, work: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """How many times the exact speed, round by round, an eighth of the rows for exact answers."""
    few, ratios, rates = rows.take(np.arange(max(rows.n_rows // 8, 1))), [], []
    for _ in range(rounds):
        exact = best_of(lambda: predict_topk(layers, few, K), 1) / few.n_rows
        own = best_of(work, 1) / rows.n_rows
        ratios.append(exact / own)
        rates.append(1 / own)
    return {"times_exact": spread(ratios), "samples_per_second": max(rates)}


def _ours(
    predictor: Predictor, layers: Any, rows: Any, exact: np.ndarray, recall: float, rounds: int, seconds: float
) -> dict[str, Any]:
    ids = predictor.topk(rows, K, recall).ids
    return {
        "name": f"index, recall {recall:g}",
        "recall_at_5": recall_at(ids, exact, K),
        "recall_kept_aside": predictor.recall_measured(K, recall),
        "candidates": predictor.size(K, recall),
        "seconds_to_build": seconds,
        **_times_exact(layers, rows, lambda: predictor.topk(rows, K, recall), rounds),
    }


def _theirs(peer: Contender, layers: Any, rows: Any, others: Any, exact: np.ndarray, rounds: int) -> dict[str, Any]:
    """The cheapest search that reaches the wanted recall on other rows, or the dearest there is."""

    def queries(features: Any) -> np.ndarray:
        inputs = all_hidden_outputs(layers, features)
        return np.ascontiguousarray(np.c_[inputs, np.ones(len(inputs), np.float32)])

    tried = others.take(np.arange(min(1024, others.n_rows)))
    answers, asked = predict_topk(layers, tried, K)[0], queries(tried)
    for setting in peer.searches:
        name, search = setting
        if recall_at(search(asked).astype(np.int64), answers, K) >= WANTED:
            break
    with ONE_BLAS_THREAD:
        return {
            "name": name,
            "recall_at_5": recall_at(search(queries(rows)).astype(np.int64), exact, K),
            "seconds_to_build": peer.seconds,
            **_times_exact(layers, rows, lambda: search(queries(rows)), rounds),
        }


def _one_row(predictor: Predictor, rows: Any) -> dict[str, float]:
    """Milliseconds for one row: the median, through the index and exact."""
    single = [rows.take(np.arange(i, i + 1)) for i in range(min(ONE_ROW, rows.n_rows))]
    found = {}
    for name, recall in (("index", WANTED), ("exact", None)):
        asked = single if recall else single[:50]
        times = [best_of(partial(predictor.topk, row, K, recall), 1) for row in asked]
        found[name] = 1000 * float(np.median(times))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="amazon-670k")
    parser.add_argument("--model", help="folder of a model or run (default: one is trained)")
    parser.add_argument(
        "--preset", choices=PRESETS, default="fast", help="of the model that is trained (default: fast)"
    )
    parser.add_argument("--name", help="of the result (default: that of the data)")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--workers", type=int, default=2, help="that train")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[], help="libraries to measure beside it")
    options = parser.parse_args()
    require_agreement("tests/agreement/test_prediction.py")
    folder = options.model or str(model_folder(options.data, options.preset, options.workers))
    result = child(measure, folder, options.data, options.rows, options.rounds, options.peers)
    cells = [["top 5", "recall@5 %", "samples/s", "times exact", "candidates", "s to build"]]
    for row in result["rows"]:
        candidates = f"{row['candidates']:,}" if row.get("candidates") else ""
        figures = f"{row['times_exact']['median']:.1f}", candidates, f"{row['seconds_to_build']:.1f}"
        cells.append([row["name"], f"{100 * row['recall_at_5']:.1f}", f"{row['samples_per_second']:,.0f}", *figures])
    table(cells)
    for where, times in result["one_row"].items():
        text = "one row, {}: {index:.2f} ms through the index, {exact:.2f} ms exact"
        print(text.format(where.replace("_", " "), **times))
    write_result(f"prediction_{options.name or tasks.name_of(options.data)}", result)


if __name__ == "__main__":
    main()
