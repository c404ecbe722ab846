"""Peak memory (sum of PSS over the processes) of training, and what of it is parameters, moments, tables and data.

    python benchmarks/memory.py                      Amazon-670K shape, 2 workers, and PyTorch's sampled softmax

Ours is the command that users run, reading and evaluating included.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from shared import peers, tasks
from shared.harness import ROOT, child, figure, require_agreement, table, write_result

from slide_fast.data import write_xmc
from slide_fast.engine.layout import table_arrays
from slide_ref.common.config import Config
from slide_ref.common.parameters import array_shapes
from slide_ref.common.sparse_rows import Dataset

ALLOWED_SHARE, ALLOWED_BYTES = 0.10, 50 * 2**20  # beyond what must be held: a share of it, and so much a process


def needed(config: Config, train: Dataset, test: Dataset) -> dict[str, int]:
    """Bytes of what training must hold."""
    n_features, n_labels = train.features.n_columns, train.labels.n_columns
    shapes = array_shapes(config, n_features, n_labels)
    parts = {"parameters": 0, "moments": 0}
    for name, shape in shapes.items():
        parts["moments" if "_" in name else "parameters"] += 4 * math.prod(shape)
    tables = table_arrays(config, n_labels).values()
    parts["tables"] = sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in tables)
    parts["data"] = sum(rows.nbytes for part in (train, test) for rows in part)
    return parts


def command_peak(data: str, workers: int, seconds: float) -> dict[str, Any]:
    """What ``slide train`` takes at its peak, tables asked from the first step on."""
    train, test = tasks.load(data)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("train.txt", "test.txt")]
        for path, part in zip(files, (train, test), strict=True):
            write_xmc(path, part)
        del train, test, part
        command = [sys.executable, "-m", "slide_fast", "train", files[0], "--test", files[1], "--out", f"{folder}/run",
                   "--workers", str(workers), "--max-seconds", str(seconds), "--epochs", "1000",
                   "--set", "in_batch=0", "--json"]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="amazon-670k")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="of training")
    parser.add_argument("--negatives", type=int, default=6000, help="of the sampled softmax")
    options = parser.parse_args()
    require_agreement()
    parts = needed(Config(), *tasks.load(options.data))
    own = command_peak(options.data, options.workers, options.seconds)["peak_memory_bytes"]
    given = options.data, 0, options.negatives, options.workers, options.seconds
    sampled = child(peers.torch_rate, *given)["peak_memory_bytes"]
    must = sum(parts.values())
    n_processes = 1 + (options.workers if options.workers > 1 else 0)
    allowed = ALLOWED_SHARE * must + ALLOWED_BYTES * n_processes
    rows = {**parts, "beyond these": own - must, "slide train, peak": own, "PyTorch sampled softmax, peak": sampled}
    table([["", "MiB"], *([name, f"{n_bytes / 2**20:,.0f}"] for name, n_bytes in rows.items())])
    print(f"beyond what must be held: {(own - must) / 2**20:,.0f} MiB in {n_processes} processes; "
          f"10 % and 50 MiB a process would be {allowed / 2**20:,.0f} MiB")  # fmt: skip
    name = f"memory_{tasks.name_of(options.data)}"
    write_result(name, {"workers": options.workers, "bytes": rows, "allowed_beyond": allowed})
    figure(partial(draw, rows), name, ylabel="MiB", title=tasks.name_of(options.data))


def draw(rows: dict[str, int], plot: Any) -> None:
    bottom = 0.0
    for name in ("parameters", "moments", "tables", "data", "beyond these"):
        plot.bar(["slide train"], [rows[name] / 2**20], bottom=bottom, label=name, width=0.5)
        bottom += rows[name] / 2**20
    plot.bar(["PyTorch sampled"], [rows["PyTorch sampled softmax, peak"] / 2**20], color="grey", width=0.5)


if __name__ == "__main__":
    main()
