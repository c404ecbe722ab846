"""The task of ``slide demo``: predict hidden identifiers in the source files of Python's standard library.

The data come with every Python. A sample is one occurrence of an identifier; its features are the tokens around it, its
label is the identifier itself.
"""

from __future__ import annotations

import hashlib
import keyword
import os
import re
import sysconfig
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slide_ref.common.errors import DataError
from slide_ref.common.rng import Purpose, permutation
from slide_ref.common.sparse_rows import Dataset, SparseRows

from ..kernels.sparse_products import values_of

TOKEN = re.compile(r"[A-Za-z_]\w+|\S")
SKIPPED_FOLDERS = ("site-packages", "dist-packages", "__pycache__")
REACH = 3
HIDDEN = "▢"
LABELS_PER_FEATURE = 300
_BLOCK = 1 << 17  # samples made at once
_PAIRS = 1 << 21  # pairs of feature and label counted at once, about


@dataclass(frozen=True)
class DemoTask:
    """Samples of the demo, and the words needed to display them.

    Attributes
    ----------
    train, test : Dataset
        One label per sample. With V tokens in the vocabulary, features 0..V-1 count the tokens within `REACH`
        positions, V..2V-1 mark the left neighbour, 2V..3V-1 the right one.
    words : tuple of str
        The distinct tokens of all files; the first V are the vocabulary.
    label_names : tuple of str
    test_contexts : ndarray of int32, shape (n_test_samples, 2 * REACH)
        The tokens before and after each hidden identifier, as indices into `words`; -1 beyond the ends of a file.
    counts : dict of str to int
        ``files``, ``files_held_out``, ``files_undecodable`` (found, but skipped), ``training_samples``,
        ``test_samples``, ``test_samples_dropped`` (identifier is not a label), ``features``, ``labels``.
    """

    train: Dataset
    test: Dataset
    words: tuple[str, ...]
    label_names: tuple[str, ...]
    test_contexts: np.ndarray
    counts: dict[str, int]


def build_task(stdlib: Path | None = None) -> DemoTask:
    """Read a library's source files and make samples from them.

    Tokens are identifiers of two or more characters and single other characters. The vocabulary holds the tokens seen
    at least twice in the training files, in order of first occurrence; the labels are those tokens that are identifiers
    and not keywords. Other identifiers give no samples.

    Parameters
    ----------
    stdlib : Path, optional
        Folder of the library; default: the running interpreter's standard library.

    Returns
    -------
    DemoTask

    Raises
    ------
    DataError
        If the folder holds no Python files, or too few to make a training and a test sample.
    """
    folder = Path(sysconfig.get_path("stdlib") if stdlib is None else stdlib)
    found = _source_files(folder)
    if not found:
        raise DataError("no Python source files found; use an interpreter that ships its library", str(folder))
    texts = {name: text for name in found if (text := _read(folder / name)) is not None}
    held_out = _choose_held_out(list(texts))
    train_tokens, test_tokens, words, n_vocabulary = _tokenise(
        [text for name, text in texts.items() if name not in held_out], [texts[name] for name in held_out]
    )
    is_name = np.array([_is_name(word) for word in words] + [False])  # the last place is that of token -1
    label_words = np.flatnonzero(is_name[:n_vocabulary])
    label_of = np.full(len(is_name), -1, dtype=np.int32)
    label_of[label_words] = np.arange(len(label_words))
    train_at, test_at = (np.flatnonzero(label_of[tokens] >= 0) for tokens in (train_tokens, test_tokens))
    if not len(train_at) or not len(test_at):
        raise DataError(f"the {len(found)} Python source files are too few to train and test on", str(folder))
    train = _samples(train_tokens, train_at, n_vocabulary, label_of)
    test = _samples(test_tokens, test_at, n_vocabulary, label_of)
    counts = {"files": len(found), "files_held_out": len(held_out), "files_undecodable": len(found) - len(texts)}
    counts |= {"training_samples": train.n_samples, "test_samples": test.n_samples}
    counts |= {"test_samples_dropped": int(is_name[test_tokens].sum()) - test.n_samples}
    counts |= {"features": train.features.n_columns, "labels": train.labels.n_columns}
    label_names = tuple(words[i] for i in label_words)
    return DemoTask(train, test, words, label_names, _contexts(test_tokens, test_at), counts)


def _source_files(folder: Path) -> list[str]:
    """List the source files' paths relative to the folder, with '/', sorted."""
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        names += [Path(parent, name).relative_to(folder).as_posix() for name in files if name.endswith(".py")]
    return sorted(names)


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _choose_held_out(names: list[str]) -> list[str]:
    """Choose about a tenth of the files, at least one: the first byte of the path's SHA-1 digest is below 26.

    The choice depends only on the path, so any tool can reproduce the split, and it does not change with the seed.
    """
    paths = {name: name.encode("utf-8", "surrogateescape") for name in names}
    digests = {name: hashlib.sha1(path, usedforsecurity=False).digest() for name, path in paths.items()}
    return [name for name in names if digests[name][0] < 26] or sorted(names, key=digests.__getitem__)[:1]


def _is_name(word: str) -> bool:
    return len(word) > 1 and word.isidentifier() and not keyword.iskeyword(word)


def _tokenise(train: list[str], test: list[str]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], int]:
    """Convert texts to two streams of indices into a list of words whose first part is the vocabulary.

    A stream has `REACH` entries of -1 before, between and after its texts.
    """
    ids: defaultdict[str, int] = defaultdict()
    ids.default_factory = ids.__len__
    gap = np.full(REACH, -1, dtype=np.int32)

    def stream(texts: list[str]) -> np.ndarray:
        parts = [gap]
        for text in texts:
            parts += [np.fromiter(map(ids.__getitem__, TOKEN.findall(text)), dtype=np.int32), gap]
        return np.concatenate(parts)

    train_stream = stream(train)
    often = np.bincount(train_stream + 1, minlength=len(ids) + 1)[1:] >= 2
    test_stream = stream(test)
    often = np.append(often, np.zeros(len(ids) - len(often), dtype=bool))
    order = np.argsort(~often, kind="stable")
    place = np.full(len(ids) + 1, -1, dtype=np.int32)  # the last place is that of token -1
    place[order] = np.arange(len(ids))
    spelled = list(ids)
    return place[train_stream], place[test_stream], tuple(spelled[i] for i in order), int(often.sum())


def _contexts(tokens: np.ndarray, at: np.ndarray) -> np.ndarray:
    offsets = np.array([*range(-REACH, 0), *range(1, REACH + 1)])
    return tokens[at[:, None] + offsets]


def _samples(tokens: np.ndarray, at: np.ndarray, n_vocabulary: int, label_of: np.ndarray) -> Dataset:
    """Return the samples at the given positions of a stream, in canonical form."""
    lengths, indices, values = [], [], []
    for start in range(0, len(at), _BLOCK):
        context = _contexts(tokens, at[start : start + _BLOCK])
        context[context >= n_vocabulary] = -1
        left, right = context[:, REACH - 1], context[:, REACH]
        bag = np.sort(context, axis=1)
        times = (bag[:, :, None] == bag[:, None, :]).sum(axis=2, dtype=np.int8)
        first = np.diff(bag, axis=1, prepend=-1) > 0
        stored = np.column_stack([first, left >= 0, right >= 0])
        ids = np.column_stack([bag, left + n_vocabulary, right + 2 * n_vocabulary])
        lengths.append(stored.sum(axis=1))
        indices.append(ids[stored])
        values.append(np.column_stack([times, np.ones((len(times), 2), dtype=np.int8)])[stored].astype(np.float32))
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    features = SparseRows(indptr, np.concatenate(indices), np.concatenate(values), 3 * n_vocabulary)
    labels = SparseRows(np.arange(len(at) + 1), label_of[tokens[at]], None, int(label_of.max()) + 1)
    return Dataset(features, labels)


def describe(task: DemoTask, row: int) -> str:
    """Put a test sample into words, such as ``for i in ▢ ( len (``."""
    words = [task.words[i] if i >= 0 else "" for i in task.test_contexts[row]]
    return " ".join(filter(None, [*words[:REACH], HIDDEN, *words[REACH:]]))


def pick_examples(task: DemoTask, n: int = 12) -> np.ndarray:
    """Choose at most `n` test rows to show, by key; ascending, int64."""
    return np.sort(permutation(0, Purpose.EVALUATION, 1, n=task.test.n_samples)[:n])


def most_common(task: DemoTask) -> float:
    """Return the test P@1 of always predicting the most common training label (ties: the lower id)."""
    commonest = np.argmax(np.bincount(task.train.labels.indices))
    return float((task.test.labels.indices == commonest).sum() / task.test.n_samples)


def co_occurrence(task: DemoTask, n_samples: int = 5000) -> float:
    """Return the test P@1 of a ranking that only counts which features and labels occur together.

    score(l) = sum over the sample's features f of v_f * c(f, l) / n(f) * ln(1 + 10^6 / n(f)), where c(f, l) is the sum
    of v_f over the training samples with label l and n(f) the number of training samples with f. For each feature only
    the `LABELS_PER_FEATURE` labels with the largest c count. All ties go to the lower label id.

    Parameters
    ----------
    task : DemoTask
        Its samples may have any number of labels.
    n_samples : int
        Size of a keyed subset of the test samples; all are used if there are fewer.

    Returns
    -------
    float
    """
    train = task.train
    test = task.test.take(permutation(0, Purpose.EVALUATION, n=task.test.n_samples)[:n_samples])
    seen_in = np.bincount(train.features.indices, minlength=train.features.n_columns)
    asked = np.unique(test.features.indices)
    asked = asked[seen_in[asked] > 0]
    partners = {}
    pairs = np.cumsum(seen_in[asked] * (train.labels.nnz / train.n_samples))
    for features in np.split(asked, np.flatnonzero(np.diff(pairs // _PAIRS)) + 1):
        partners.update(_partners(train, features))
    weight = np.log1p(1e6 / np.maximum(seen_in, 1)) / np.maximum(seen_in, 1)
    hits = 0
    for row in range(test.n_samples):
        known = [(*partners[f], v * weight[f]) for f, v in zip(*test.features.row(row), strict=True) if f in partners]
        if known:
            labels = np.concatenate([labels for labels, _, _ in known])
            score = np.bincount(labels, np.concatenate([c * w for _, c, w in known]))
            hits += int(np.argmax(score) in test.labels.row(row)[0])
    return hits / test.n_samples


def _partners(train: Dataset, features: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return for each given feature its `LABELS_PER_FEATURE` labels with the largest c(f, l), and these values."""
    rows = train.features
    wanted = np.zeros(rows.n_columns, dtype=bool)
    wanted[features] = True
    stored = np.flatnonzero(wanted[rows.indices])
    row = np.searchsorted(rows.indptr, stored, side="right") - 1
    n_labels = np.diff(train.labels.indptr)[row]
    labels = train.labels.take(row).indices
    keys = np.repeat(rows.indices[stored], n_labels) * np.int64(train.labels.n_columns) + labels
    order = np.argsort(keys)
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    values = np.repeat(values_of(rows, np.float64)[stored], n_labels)[order]
    together = np.add.reduceat(values, starts)
    feature, label = np.divmod(keys[starts], train.labels.n_columns)
    partners = {}
    edges = np.searchsorted(feature, [*features, rows.n_columns])
    for f, start, stop in zip(features.tolist(), edges[:-1], edges[1:], strict=True):
        c = together[start:stop]
        kept = np.sort(np.argsort(-c, kind="stable")[:LABELS_PER_FEATURE])
        partners[f] = label[start:stop][kept], c[kept]
    return partners
