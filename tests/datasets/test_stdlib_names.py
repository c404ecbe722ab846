"""The demo's task: what its samples are, and its two baselines."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from slide_fast.datasets import stdlib_names as demo
from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists

LINES = [
    "for index in range(len(names)):",
    "    total = total + names[index]",
    "def rare_%d(value): return value * 2",
    "if not value: total = 'é'",
]


@pytest.fixture
def library(tmp_path):
    """Forty small source files, and files that must not be read."""
    for number in range(40):
        path = tmp_path / f"package{number % 3}" / f"module{number}.py"
        path.parent.mkdir(exist_ok=True)
        lines = [LINES[(number + i) % len(LINES)] for i in range(1 + number % 4)]
        path.write_text("\n".join(lines).replace("%d", str(number // 2)), encoding="utf-8")
    for folder in demo.SKIPPED_FOLDERS:
        (tmp_path / "package0" / folder).mkdir()
        (tmp_path / "package0" / folder / "other.py").write_text("other other other", encoding="utf-8")
    (tmp_path / "latin.py").write_bytes("Löwis = 1".encode("latin-1"))
    (tmp_path / "notes.txt").write_text("notes notes", encoding="utf-8")
    return tmp_path


def tokens_of(path):
    return re.findall(r"[A-Za-z_]\w+|\S", path.read_text(encoding="utf-8"))


def read_plainly(library, held_out):
    """The task once more, sample by sample: (features, label, shown words) of training and of test samples."""
    names = sorted(p.relative_to(library).as_posix() for p in library.glob("package?/*.py"))
    train_files = [tokens_of(library / name) for name in names if name not in held_out]
    test_files = [tokens_of(library / name) for name in names if name in held_out]
    flat = [token for tokens in train_files for token in tokens]
    vocabulary = [token for token in dict.fromkeys(flat) if flat.count(token) >= 2]
    labels = [
        token for token in vocabulary if len(token) > 1 and token not in ("for", "in", "def", "return", "if", "not")
    ]
    sides = []
    for files in (train_files, test_files):
        samples = []
        for tokens in files:
            padded = [None] * 3 + tokens + [None] * 3
            for i in range(3, len(padded) - 3):
                if padded[i] in labels:
                    near = padded[i - 3 : i] + padded[i + 1 : i + 4]
                    features = {}
                    for token in near:
                        if token in vocabulary:
                            f = vocabulary.index(token)
                            features[f] = features.get(f, 0) + 1
                    for block, token in ((1, padded[i - 1]), (2, padded[i + 1])):
                        if token in vocabulary:
                            features[block * len(vocabulary) + vocabulary.index(token)] = 1
                    shown = " ".join(filter(None, [*near[:3], "▢", *near[3:]]))
                    samples.append((features, labels.index(padded[i]), shown))
        sides.append(samples)
    return sides, vocabulary, labels


def test_task_equals_a_plain_reading(library, monkeypatch):
    monkeypatch.setattr(demo, "_BLOCK", 7)
    task = demo.build_task(library)
    names = sorted(p.relative_to(library).as_posix() for p in library.glob("package?/*.py"))
    held_out = demo._choose_held_out([*names, "latin.py"])
    (train, test), vocabulary, labels = read_plainly(library, held_out)
    assert task.words[: len(vocabulary)] == tuple(vocabulary)
    assert task.label_names == tuple(labels)
    assert train and test
    for samples, data in ((train, task.train), (test, task.test)):
        data.features.check("features")
        data.labels.check("labels")
        assert data.features.shape == (len(samples), 3 * len(vocabulary))
        assert data.labels.shape == (len(samples), len(labels))
        for i, (features, label, _) in enumerate(samples):
            ids, values = data.features.row(i)
            assert dict(zip(ids.tolist(), values.tolist(), strict=True)) == features
            assert np.all(np.diff(ids) > 0)
            assert data.labels.row(i)[0].tolist() == [label]
    assert [demo.describe(task, i) for i in range(len(test))] == [shown for _, _, shown in test]


def test_counts_say_what_was_found(library):
    counts = demo.build_task(library).counts
    assert counts["files"] == 41
    assert counts["files_undecodable"] == 1
    assert 1 <= counts["files_held_out"] <= 10


def test_samples_whose_identifier_is_no_label_are_counted(tmp_path):
    names = [f"module{i}.py" for i in range(3)]
    held_out = demo._choose_held_out(names)
    for name in names:
        text = "known unknown while unknown" if name in held_out else "known = known"
        (tmp_path / name).write_text(text, encoding="utf-8")
    counts = demo.build_task(tmp_path).counts
    assert counts["test_samples"] == len(held_out)
    assert counts["test_samples_dropped"] == 2 * len(held_out)


def test_held_out_depends_on_the_path_alone():
    names = [f"package/module{i}.py" for i in range(2000)]
    held_out = set(demo._choose_held_out(names))
    assert 140 < len(held_out) < 260
    assert set(demo._choose_held_out(names[:1000][::-1])) == held_out & set(names[:1000])


def test_few_files_still_hold_one_out():
    for n in range(1, 12):
        assert len(demo._choose_held_out([f"m{i}.py" for i in range(n)])) >= 1


def test_a_library_without_files_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no Python source files"):
        demo.build_task(tmp_path)
    with pytest.raises(DataError, match="no Python source files"):
        demo.build_task(tmp_path / "absent.zip")


@pytest.mark.parametrize("content", [b"word word word", b"\xff"])
def test_too_few_files_are_an_error(tmp_path, content):
    (tmp_path / "one.py").write_bytes(content)
    with pytest.raises(DataError, match="too few"):
        demo.build_task(tmp_path)


def test_examples_are_distinct_and_keyed(library):
    task = demo.build_task(library)
    rows = demo.pick_examples(task, 5)
    assert len(rows) == 5
    assert np.all(np.diff(rows) > 0)
    assert rows.tolist() == demo.pick_examples(task, 5).tolist()
    assert len(demo.pick_examples(task, 10**6)) == task.test.n_samples


def random_data(rng, n_samples):
    n_features, n_labels = 12, 9
    lengths = rng.integers(0, 5, n_samples)
    indices = rng.integers(0, n_features, lengths.sum()).astype(np.int32)
    values = rng.integers(1, 4, len(indices)).astype(np.float32)
    features = SparseRows(np.concatenate([[0], np.cumsum(lengths)]), indices, values, n_features).canonical()
    labels = [rng.integers(0, n_labels, rng.integers(0, 3)).tolist() for _ in range(n_samples)]
    return Dataset(features, rows_from_lists(labels, n_labels))


def score_plainly(train, features, most):
    """The formula of `co_occurrence`, word for word, with exact ties broken by id."""
    score = np.zeros(train.labels.n_columns)
    for f, v in features:
        c, n = np.zeros(train.labels.n_columns), 0
        for i in range(train.n_samples):
            ids, values = train.features.row(i)
            if f in ids:
                n += 1
                c[train.labels.row(i)[0]] += values[ids == f]
        largest = sorted(np.flatnonzero(c), key=lambda label: (-c[label], label))[:most]
        for label in largest:
            score[label] += v * c[label] / n * np.log(1 + 1e6 / n)
    return score


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pairs", [1, 50, 10**6])
def test_co_occurrence_is_the_formula(seed, pairs, monkeypatch):
    monkeypatch.setattr(demo, "LABELS_PER_FEATURE", 3)
    monkeypatch.setattr(demo, "_PAIRS", pairs)
    rng = np.random.default_rng(seed)
    task = SimpleNamespace(train=random_data(rng, 60), test=random_data(rng, 200))
    hits = 0
    for i in range(task.test.n_samples):
        score = score_plainly(task.train, zip(*task.test.features.row(i), strict=True), 3)
        hits += score.any() and np.argmax(np.round(score, 9)) in task.test.labels.row(i)[0]
    assert 0 < hits < 200
    assert demo.co_occurrence(task) == hits / 200


def test_co_occurrence_of_a_keyed_subset(library):
    task = demo.build_task(library)
    assert demo.co_occurrence(task, n_samples=3) == demo.co_occurrence(task, n_samples=3)
    assert demo.co_occurrence(task, n_samples=3) * 3 in (0, 1, 2, 3)


def test_features_never_seen_in_training_score_nothing():
    empty = SparseRows(np.array([0, 0]), np.zeros(0, np.int32), np.zeros(0, np.float32), 2)
    one = SparseRows(np.array([0, 1]), np.ones(1, np.int32), np.ones(1, np.float32), 2)
    train, test = (Dataset(features, rows_from_lists([[0]], 1)) for features in (empty, one))
    assert demo.co_occurrence(SimpleNamespace(train=train, test=test)) == 0


def test_most_common_answers_the_commonest_training_label(library):
    task = demo.build_task(library)
    commonest = np.argmax(np.bincount(task.train.labels.indices))
    answers = [task.label_names[commonest] == task.label_names[label] for label in task.test.labels.indices]
    assert demo.most_common(task) == pytest.approx(np.mean(answers))


@pytest.mark.slow
def test_the_interpreters_own_library():
    task = demo.build_task()
    counts = task.counts
    assert counts["files_held_out"] < 0.2 * counts["files"]
    assert counts["features"] == 3 * (counts["features"] // 3) > 3 * counts["labels"]
    assert counts["training_samples"] == task.train.n_samples > task.test.n_samples
    assert 0.02 < demo.most_common(task) < demo.co_occurrence(task, n_samples=2000) < 0.5
