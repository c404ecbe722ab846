"""XR-Linear of PECOS, in a Python of its own: PECOS needs NumPy 1.

python pecos_peer.py FOLDER THREADS K       reads train.npz, labels.npz and test.npz, writes ids.npy and model/

Prints JSON: seconds of training, rows a second of prediction, bytes of memory at the peak of training.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from pecos.xmc import Indexer, LabelEmbeddingFactory
from pecos.xmc.xlinear.model import XLinearModel
from scipy.sparse import load_npz


def main() -> None:
    folder, threads, k = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    train, labels = load_npz(folder / "train.npz"), load_npz(folder / "labels.npz")
    started = time.perf_counter()
    tree = Indexer.gen(LabelEmbeddingFactory.create(labels, train, method="pifa"), threads=threads)
    model = XLinearModel.train(train, labels, C=tree, threads=threads)
    seconds = time.perf_counter() - started
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.save(str(folder / "model"))
    test = load_npz(folder / "test.npz")
    started = time.perf_counter()
    scores = model.predict(test, only_topk=k, threads=threads)
    rate = test.shape[0] / (time.perf_counter() - started)
    np.save(folder / "ids.npy", best(scores, k))
    print(json.dumps({"seconds": seconds, "rows_per_second": rate, "peak_memory_bytes": peak}))


def best(scores, k: int) -> np.ndarray:
    """The columns of the k largest values of each row of a SciPy matrix, -1 where there are fewer."""
    ids = np.full((scores.shape[0], k), -1)
    for i in range(scores.shape[0]):
        own = slice(scores.indptr[i], scores.indptr[i + 1])
        found = scores.indices[own][np.argsort(-scores.data[own], kind="stable")][:k]
        ids[i, : len(found)] = found
    return ids


if __name__ == "__main__":
    main()
