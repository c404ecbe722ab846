"""The tasks that contenders are compared on, cut alike for all of them."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from slide_fast.data import read_dataset, write_npz, write_xmc
from slide_fast.datasets.stdlib_names import build_task
from slide_fast.datasets.synthetic import SHAPES, Shape, generate
from slide_fast.text.reading import read_known, read_training
from slide_fast.text.settings import TextSettings
from slide_fast.text.sources import Columns, TextFile
from slide_ref.common.errors import SlideError
from slide_ref.common.rng import Purpose, permutation
from slide_ref.common.sparse_rows import Dataset

STDLIB, TITLES = "stdlib", "library_titles"
TITLE_COLUMNS = Columns(("title",), "subjects", "|")
TASKS = ("acl_authors", STDLIB, "diginetica", "amazon-670k")
DENSE_SAMPLES = {STDLIB: 200_000, "diginetica": 200_000}  # dense takes too long for more
GENERATED_SAMPLES = 100_000, 10_000
UNSEEN = {  # generated data on which no default was chosen
    "like-eurlex-4k": Shape(15_000, 3_800, 5_000, 4_000, 236, 5),
    "many-labels-each": Shape(20_000, 5_000, 80_000, 20_000, 100, 30),
    "40k-labels": Shape(40_000, 5_000, 60_000, 40_000, 75, 5),
    "50k-classes": Shape(60_000, 5_000, 40_000, 50_000, 30, 1),
}
EVALUATION_ROWS = {"amazon-670k": 4_000}  # of so many labels; elsewhere as in training
CACHE = Path(tempfile.gettempdir()) / f"slide-benchmarks-{os.getuid()}"


def name_of(data: str) -> str:
    """How a task is called in results: its own name, or that of its folder."""
    return data if data in TASKS else Path(data).resolve().name


def load(data: str, n_samples: int | None = None) -> tuple[Dataset, Dataset]:
    """Training and test samples.

    Parameters
    ----------
    data : str
        "stdlib", "library_titles", a shape of `slide_fast.datasets.synthetic`, a name in `UNSEEN`, a folder with
        train.txt and test.txt, or the name of one in the folder that the environment variable SLIDE_DATA names.
    n_samples : int, optional
        Training samples, the first by key; by default those of `DENSE_SAMPLES`, or all; 0 means all.
    """
    if data in MADE:
        train, test = (read_dataset(path) for path in MADE[data]())
    else:
        train, test = (_read(_folder(data) / name) for name in ("train.txt", "test.txt"))
    wanted = DENSE_SAMPLES.get(name_of(data), 0) if n_samples is None else n_samples
    if 0 < wanted < train.n_samples:
        train = train.take(np.sort(permutation(0, Purpose.EVALUATION, n=train.n_samples)[:wanted]))
    return train, test


def evaluation_rows(data: str, test: Dataset) -> Dataset:
    """The rows on which all contenders are evaluated: the first by key, as in `slide_fast.training.fit`."""
    wanted = EVALUATION_ROWS.get(name_of(data), 10_000)
    return test.take(permutation(0, Purpose.EVALUATION, n=test.n_samples)[:wanted])


def _standard_library() -> list[Path]:
    """The task of the demo, made once for this interpreter."""

    def make() -> tuple[Dataset, Dataset]:
        task = build_task()
        return task.train, task.test

    return _kept(f"{STDLIB}-{platform.python_version()}", make)


def _titles() -> list[Path]:
    """Titles of library records and their subjects, as `slide train` takes them: each word weighted."""
    folder = Path(os.environ.get("SLIDE_DATA", ".")) / TITLES
    if not (folder / "train.tsv").exists():
        sys.exit(f"{folder}: no such folder with train.tsv and test.tsv")

    def make() -> tuple[Dataset, Dataset]:
        return _of_texts(str(folder / "train.tsv"), str(folder / "test.tsv"), TITLE_COLUMNS)

    return _kept(f"{TITLES}-{(folder / 'train.tsv').stat().st_mtime_ns}", make)


def converted(train: str, test: str, columns: Columns | None, skips: bool) -> str:
    """A folder, named like the first of two files of texts, with their features and labels in XMC form.

    Unreadable lines end the program, or are skipped.
    """
    folder = CACHE / "texts" / Path(train).name.split(".")[0]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        parts = _of_texts(train, test, columns, skips)
    except SlideError as error:
        sys.exit(str(error))
    for name, part in zip(("train.txt", "test.txt"), parts, strict=True):
        write_xmc(folder / name, part)
    return str(folder)


def _of_texts(train: str, test: str, columns: Columns | None, skips: bool = False) -> tuple[Dataset, Dataset]:
    """Training and test samples from texts, with the features that `slide train` makes of them."""
    known = read_training(TextFile(train, columns, skips=skips), TextSettings.checked(), 2)
    test_file = TextFile(test, columns, skips=skips)
    return known.data, read_known(test_file, known.vectorizer, known.names, 2)[0]


def _kept(name: str, make: Callable[[], tuple[Dataset, Dataset]]) -> list[Path]:
    """Training and test samples under this name in the cache, made if they are not there yet."""
    paths = [CACHE / f"{name}-{part}.npz" for part in ("train", "test")]
    if not paths[1].exists():
        CACHE.mkdir(exist_ok=True)
        for path, part in zip(paths, make(), strict=True):
            write_npz(path, part)
    return paths


MADE = {STDLIB: _standard_library, TITLES: _titles}  # by programs, from other files


def _folder(data: str) -> Path:
    if data in SHAPES:
        return generated(data)
    if data in UNSEEN:
        return _made(CACHE / data, **asdict(UNSEEN[data]))
    for folder in (Path(data), Path(os.environ.get("SLIDE_DATA", ".")) / data):
        if (folder / "train.txt").exists():
            return folder
    sys.exit(f"{data}: no such folder with train.txt and test.txt, here or in SLIDE_DATA")


def generated(shape: str, n_labels: int | None = None) -> Path:
    """A folder with generated data, made once."""
    n_samples, n_test = GENERATED_SAMPLES
    folder = CACHE / f"{shape}-{n_labels or SHAPES[shape].n_labels}-{n_samples}-{n_test}"
    return _made(folder, shape=shape, n_samples=n_samples, n_test=n_test, n_labels=n_labels)


def _made(folder: Path, **sizes: Any) -> Path:
    """The folder, with the data that `slide_fast.datasets.synthetic` makes of these sizes if they are not there yet."""
    if not (folder / "test.txt").exists():
        generate(folder, **sizes)
    return folder


def _read(path: Path) -> Dataset:
    """A text file, through a binary copy in the cache: each contender reads it again."""
    place = path.resolve()
    copy = CACHE / f"{'-'.join(place.parts[1:])}-{place.stat().st_mtime_ns}.npz"
    if not copy.exists():
        CACHE.mkdir(exist_ok=True)
        write_npz(copy, read_dataset(path))
    return read_dataset(copy)
