"""omikuji with its defaults: training from a file, and answers row by row, which is what its Python interface has."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from slide_fast.data import write_xmc
from slide_ref.common.sparse_rows import Dataset, SparseRows


def train(samples: Dataset, n_threads: int) -> tuple[Any, float]:
    """Train on samples, all with labels; return the model and the seconds, the file already written."""
    from omikuji import Model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.txt")
        write_xmc(path, samples)
        started = time.perf_counter()
        model = Model.train_on_data(str(path), n_threads=n_threads)
        return model, time.perf_counter() - started


def best(model: Any, rows: SparseRows, k: int) -> np.ndarray:
    """Return the k best labels of each row, -1 where there are fewer."""
    ids = np.full((rows.n_rows, k), -1)
    for i in range(rows.n_rows):
        columns, values = rows.row(i)
        found = model.predict(list(zip(columns.tolist(), values.tolist(), strict=True)), top_k=k)
        ids[i, : len(found)] = [label for label, _ in found]
    return ids
