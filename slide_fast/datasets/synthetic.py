"""Synthetic XMC data of any shape: long-tailed labels and features, and features that depend on the labels.

Labels and features are drawn from Zipf-Mandelbrot laws. Each label has prototype features; some of a sample's features
come from the prototypes of its labels, the rest is background. Values are tf-idf weights, and each row has Euclidean
norm 1. Every draw is keyed by row and position, so a row does not depend on how many are written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from slide_ref.common.checks import one_of, whole
from slide_ref.common.errors import ConfigError, DataError
from slide_ref.common.rng import Purpose, draw, mix, permutation
from slide_ref.common.sparse_rows import Dataset, SparseRows
from slide_ref.common.storage.complete_file import complete_file

from ..data import xmc_lines

CHUNK = 1 << 17  # stored values made at once, about
LABEL_OFFSET, FEATURE_OFFSET = 20.0, 50.0  # of the Zipf-Mandelbrot laws: the larger, the lighter the head
PROTOTYPE_OFFSET = 1000.0  # labels own features that are rarer than the background
PROTOTYPES = 32  # draws of features a label owns
SIGNAL = 0.25  # the part of a sample's features that its labels choose

# Third and fourth word of the keys: what is drawn, and for which rows.
_N_LABELS, _N_FEATURES, _LABEL, _BACKGROUND, _PLACE, _PROTOTYPE, _LABEL_IDS, _FEATURE_IDS = range(8)
_TRAIN, _TEST, _PILOT = range(3)


@dataclass(frozen=True)
class Shape:
    """Sizes of a data set: numbers of training samples, test samples, features and labels.

    `nonzeros` and `labels_per_sample` are mean numbers of features and labels per sample.
    """

    n_samples: int
    n_test: int
    n_features: int
    n_labels: int
    nonzeros: int
    labels_per_sample: int

    def __post_init__(self) -> None:
        most = {"nonzeros": self.n_features, "labels_per_sample": self.n_labels}
        for key, value in asdict(self).items():
            bound = most.get(key, 2**31 - 1)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= bound:
                raise ConfigError(f"{key} is {value!r}; it must be a whole number from 1 to {bound}")


SHAPES = {
    "amazon-670k": Shape(490_449, 153_025, 135_909, 670_091, 75, 5),
    "delicious-200k": Shape(196_606, 100_095, 782_585, 205_443, 302, 75),
    "wiki10-31k": Shape(14_146, 6_616, 101_938, 30_938, 673, 19),
}


def generate(
    folder: str | Path,
    shape: str = "amazon-670k",
    *,
    seed: int = 0,
    started: Callable[[], None] = lambda: None,
    **sizes: int | None,
) -> None:
    """Write ``train.txt`` and ``test.txt`` (S17) into a folder, created if needed; older files are replaced.

    Parameters
    ----------
    folder : path
    shape : str
        A name in `SHAPES`: the sizes of a published data set, whose content is not used.
    seed : int
        Key of all draws.
    started : callable
        Called once the arguments have been checked, before the work begins.
    **sizes : int, optional
        Fields of `Shape`, which override those of `shape`; means are met within a few per cent.

    Raises
    ------
    ConfigError
        If the shape is unknown or a size is out of range.
    DataError
        If the files cannot be written. No incomplete file is left.
    """
    one_of("shape", shape, tuple(SHAPES))
    given = {key: whole(key, value, 1) for key, value in sizes.items() if value is not None}
    _write_both(Path(folder), replace(SHAPES[shape], **given), whole("seed", seed, 0), started)


def _write_both(folder: Path, sizes: Shape, seed: int, started: Callable[[], None]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with complete_file(folder / "train.txt") as train, complete_file(folder / "test.txt") as test:
            started()
            source = _Source(sizes, seed)
            source.write(train, _TRAIN, sizes.n_samples)
            source.write(test, _TEST, sizes.n_test)
    except OSError as error:
        raise DataError(f"cannot write the data ({error.strerror}); choose another folder", str(folder)) from error


class _Source:
    """Generates the rows of a data set, by number."""

    def __init__(self, sizes: Shape, seed: int):
        self.sizes, self.seed = sizes, seed
        self.label_ids = permutation(seed, Purpose.GENERATE, _LABEL_IDS, n=sizes.n_labels)
        self.feature_ids = permutation(seed, Purpose.GENERATE, _FEATURE_IDS, n=sizes.n_features)
        self.idf = np.empty(sizes.n_features)
        self.idf[self.feature_ids] = 1 + np.log1p(np.arange(sizes.n_features) / FEATURE_OFFSET)
        self.draws_per_feature = 1.0  # more than 1, since a feature drawn again does not lengthen the row
        pilot = np.arange(256)
        wanted = self._n_features(_PILOT, pilot).sum()
        for _ in range(4):
            self.draws_per_feature *= wanted / self.rows(_PILOT, pilot).features.nnz

    def write(self, file: BinaryIO, split: int, n_rows: int) -> None:
        file.write(b"%d %d %d\n" % (n_rows, self.sizes.n_features, self.sizes.n_labels))
        step = max(CHUNK // self.sizes.nonzeros, 1)
        for start in range(0, n_rows, step):
            file.writelines(xmc_lines(self.rows(split, np.arange(start, min(start + step, n_rows)))))

    def rows(self, split: int, rows: np.ndarray) -> Dataset:
        labels = self._labels(split, rows)
        return Dataset(self._features(split, rows, labels), labels)

    def _keys(self, stream: int, *words: int | np.ndarray) -> np.ndarray:
        return mix(self.seed, Purpose.GENERATE, stream, *words)

    def _n_features(self, split: int, rows: np.ndarray) -> np.ndarray:
        mean = self.sizes.nonzeros
        least = (mean + 1) // 2
        wanted = least + draw(self._keys(_N_FEATURES, split, rows), 2 * (mean - least) + 1)
        return np.minimum(wanted, self.sizes.n_features)

    def _labels(self, split: int, rows: np.ndarray) -> SparseRows:
        n_draws = 1 + draw(self._keys(_N_LABELS, split, rows), 2 * self.sizes.labels_per_sample - 1)
        owner, place = _places(n_draws)
        ranks = _zipf(self._keys(_LABEL, split, rows[owner], place), self.sizes.n_labels, LABEL_OFFSET)
        indptr = np.concatenate([[0], np.cumsum(n_draws)])
        ids = self.label_ids[ranks].astype(np.int32)
        return SparseRows(indptr, ids, None, self.sizes.n_labels).canonical()

    def _features(self, split: int, rows: np.ndarray, labels: SparseRows) -> SparseRows:
        n = self.sizes.n_features
        n_draws = np.rint(self.draws_per_feature * self._n_features(split, rows)).astype(np.int64)
        owner, place = _places(n_draws)
        chosen = place < SIGNAL * n_draws[owner]
        row, turn = owner[chosen], place[chosen]
        label = labels.indices[labels.indptr[row] + turn % np.diff(labels.indptr)[row]]
        prototype = draw(self._keys(_PLACE, split, rows[row], turn), PROTOTYPES)
        ranks = np.empty(len(owner), dtype=np.int64)
        ranks[chosen] = _zipf(self._keys(_PROTOTYPE, label, prototype), n, PROTOTYPE_OFFSET)
        ranks[~chosen] = _zipf(self._keys(_BACKGROUND, split, rows[owner[~chosen]], place[~chosen]), n, FEATURE_OFFSET)
        keys, times = np.unique(owner * np.int64(n) + self.feature_ids[ranks], return_counts=True)
        owner, ids = np.divmod(keys, n)
        indptr = np.searchsorted(owner, np.arange(len(rows) + 1))
        values = (1 + np.log(times)) * self.idf[ids]
        norms = np.sqrt(np.add.reduceat(values * values, indptr[:-1]))
        return SparseRows(indptr, ids.astype(np.int32), np.round(values / norms[owner], 5).astype(np.float32), n)


def _places(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of each entry, and its position within the row, for rows of the given lengths."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return owner, np.arange(len(owner)) - (np.cumsum(lengths) - lengths)[owner]


def _zipf(keys: np.ndarray, n: int, offset: float) -> np.ndarray:
    """Draw ranks in [0, n) with density proportional to 1 / (rank + offset), one for each key."""
    uniform = (keys >> np.uint64(11)) * 2.0**-53
    return np.minimum(offset * np.expm1(uniform * np.log1p(n / offset)), n - 1).astype(np.int64)
