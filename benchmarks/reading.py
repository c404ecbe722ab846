"""Reading 100 MB of XMC text against scikit-learn's reader of svmlight text on the same rows; models to and from disk.

python benchmarks/reading.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from shared import tasks
from shared.harness import child, figure, in_turn, require_agreement, spread, table, write_result

from slide_fast.data import read_dataset, write_xmc
from slide_fast.parallel.machine import MemoryMeter
from slide_ref.common.config import Config
from slide_ref.common.parameters import array_shapes, initialise, layers_of
from slide_ref.common.storage.model_folder import Model, load_model, save_model

BYTES = 100_000_000


def files(data: str, folder: Path) -> tuple[Path, Path]:
    """The same rows as XMC text of about `BYTES`, and as svmlight text, which lacks the header only."""
    xmc, svmlight = folder / "train.txt", folder / "train.svmlight"
    if not svmlight.exists():
        train, _ = tasks.load(data)
        write_xmc(xmc, train)
        wanted = min(train.n_samples, int(train.n_samples * BYTES / xmc.stat().st_size))
        write_xmc(xmc, train.take(np.arange(wanted)))
        with open(xmc, "rb") as source, open(svmlight, "wb") as target:
            source.readline()
            target.writelines(source)
    return xmc, svmlight


def ours_once(path: str) -> dict[str, Any]:
    with MemoryMeter(interval=0.05) as meter:
        started = time.perf_counter()
        data = read_dataset(path)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "nonzeros": data.features.nnz, "peak_memory_bytes": meter.peak_bytes}


def sklearn_once(path: str) -> dict[str, Any]:
    from sklearn.datasets import load_svmlight_file

    with MemoryMeter(interval=0.05) as meter:
        started = time.perf_counter()
        X, _ = load_svmlight_file(path, dtype=np.float32, multilabel=True, zero_based=True)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "nonzeros": X.nnz, "peak_memory_bytes": meter.peak_bytes}


def model_once(n_features: int, n_labels: int) -> dict[str, float]:
    """Save and load a model of random weights; the load is from the page cache."""
    config = Config()
    shapes = {name: shape for name, shape in array_shapes(config, n_features, n_labels).items() if "_" not in name}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    initialise(layers_of(arrays), 0)
    model = Model(config, n_features, n_labels, arrays, {}, None, np.zeros(n_labels, np.int64))
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "model")
        clock = [time.perf_counter()]
        save_model(folder, model)
        clock.append(time.perf_counter())
        load_model(folder)
        clock.append(time.perf_counter())
        load_model(folder, mmap=True)
        clock.append(time.perf_counter())
        n_bytes = sum(file.stat().st_size for file in folder.iterdir())
    save, load, mapped = np.diff(clock).tolist()
    return {"bytes": n_bytes, "save_seconds": save, "load_seconds": load, "map_seconds": mapped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="amazon-670k")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    require_agreement()
    with tempfile.TemporaryDirectory() as folder:
        xmc, svmlight = files(options.data, Path(folder))
        n_bytes = os.path.getsize(xmc)
        contenders = {"slide_fast": partial(child, ours_once, str(xmc)),
                      "scikit-learn": partial(child, sklearn_once, str(svmlight))}  # fmt: skip
        results = in_turn(list(contenders.values()), options.rounds)
    rows = []
    for name, runs in zip(contenders, results, strict=True):
        rows.append({"reader": name, "seconds": spread([run["seconds"] for run in runs]),
                     "nonzeros": runs[0]["nonzeros"],
                     "peak_memory_bytes": max(run["peak_memory_bytes"] for run in runs)})  # fmt: skip
    ratio = spread([b["seconds"] / a["seconds"] for a, b in zip(*results, strict=True)])
    table([["", "seconds", "range", "MB/s", "peak MiB"], *(
        [row["reader"], f"{row['seconds']['median']:.2f}",
         f"{row['seconds']['min']:.2f} to {row['seconds']['max']:.2f}",
         f"{n_bytes / 1e6 / row['seconds']['median']:.1f}", f"{row['peak_memory_bytes'] / 2**20:,.0f}"]
        for row in rows)])  # fmt: skip
    print(f"{n_bytes / 1e6:.0f} MB: {ratio['median']:.2f} times as fast as scikit-learn "
          f"({ratio['min']:.2f} to {ratio['max']:.2f})\n")  # fmt: skip
    train = tasks.load(options.data)[0]
    model = child(model_once, train.features.n_columns, train.labels.n_columns)
    table([["a model", "MiB", "save s", "load s", "map s"],
           ["", f"{model['bytes'] / 2**20:,.0f}", *(f"{model[f'{what}_seconds']:.2f}"
                                                    for what in ("save", "load", "map"))]])  # fmt: skip
    name = f"reading_{tasks.name_of(options.data)}"
    write_result(name, {"bytes": n_bytes, "rows": rows, "sklearn_over_ours": ratio, "model": model})
    figure(partial(draw, rows), name, ylabel="seconds", title=f"reading {n_bytes / 1e6:.0f} MB of text")


def draw(rows: list[dict[str, Any]], plot: Any) -> None:
    plot.bar([row["reader"] for row in rows], [row["seconds"]["median"] for row in rows], width=0.5)


if __name__ == "__main__":
    main()
