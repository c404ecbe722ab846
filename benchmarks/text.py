"""Texts: vectorising against scikit-learn's, answers through a pipe, and accuracy over seconds against fastText.

python benchmarks/text.py vectorising
python benchmarks/text.py pipe
python benchmarks/text.py accuracy --fasttext /path/to/python-with-fasttext

The texts are library_titles, in the folder that the environment variable SLIDE_DATA names or that --data gives.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from shared.fasttext_peer import RATES, runs_of
from shared.harness import child, in_turn, require_agreement, spread, table, write_result
from shared.tasks import TITLE_COLUMNS as COLUMNS

from slide_fast.cli.settings import PRESETS
from slide_fast.estimator.feature_coding import rows_of_sparse
from slide_fast.parallel.machine import available_cpus
from slide_fast.prediction import predict_topk
from slide_fast.text.reading import read_known, read_training
from slide_fast.text.settings import TextSettings
from slide_fast.text.sources import TextFile
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.metrics import evaluate
from slide_ref.common.parameters import layers_of
from slide_ref.common.sparse_rows import Dataset

LABELS, PIPED = 64_000, 10_000
WORDS = r"\w+"
OURS: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {  # settings of texts, None: TF-IDF of scikit-learn
    "words": ({}, {}),
    "words, wide": ({}, PRESETS["wide"]),
    "characters 4": ({"char_ngrams": [4, 4]}, {}),
    "TfidfVectorizer": (None, {}),
    "TfidfVectorizer, wide": (None, PRESETS["wide"]),
}


def texts_of(path: str) -> list[str]:
    return [row.text or "" for rows in TextFile(path, COLUMNS) for row in rows]


def read_ours(path: str, word_ngrams: int, n_workers: int) -> dict[str, Any]:
    """Read texts and labels, and vectorise."""
    started = time.perf_counter()
    data = read_training(TextFile(path, COLUMNS), TextSettings.checked(word_ngrams=word_ngrams), n_workers).data
    return {"seconds": time.perf_counter() - started, "columns": data.features.n_columns}


def sklearn_vectorizer(kind: str, word_ngrams: int) -> Any:
    from sklearn.feature_extraction import text

    counts = {"ngram_range": (1, word_ngrams), "token_pattern": WORDS, "dtype": np.float32}
    if kind == "tfidf":
        return text.TfidfVectorizer(min_df=2, sublinear_tf=True, **counts)
    return text.HashingVectorizer(n_features=2**20, **counts)


def vectorise_sklearn(path: str, word_ngrams: int, kind: str) -> dict[str, Any]:
    """Vectorise texts that lie in memory; reading them is not counted."""
    texts, made = texts_of(path), sklearn_vectorizer(kind, word_ngrams)
    started = time.perf_counter()
    found = made.fit_transform(texts)
    return {"seconds": time.perf_counter() - started, "columns": found.shape[1]}


def vectorising(folder: Path, rounds: int) -> dict[str, Any]:
    path = str(folder / "train.tsv")
    n_bytes = sum(len(text.encode("utf-8")) for text in texts_of(path))
    rows = []
    for word_ngrams in (1, 2):
        contenders = {
            **{f"slide, {n} workers": partial(child, read_ours, path, word_ngrams, n) for n in (1, 2)},
            "TfidfVectorizer": partial(child, vectorise_sklearn, path, word_ngrams, "tfidf"),
            "HashingVectorizer": partial(child, vectorise_sklearn, path, word_ngrams, "hashing"),
        }
        for name, runs in zip(contenders, in_turn(list(contenders.values()), rounds), strict=True):
            seconds = spread([run["seconds"] for run in runs])
            rows.append({"name": name, "word_ngrams": word_ngrams, "seconds": seconds, "columns": runs[0]["columns"],
                         "megabytes_per_second": n_bytes / 1e6 / seconds["median"]})  # fmt: skip
    table([["", "n-grams", "seconds", "MB/s", "columns"], *(
        [row["name"], str(row["word_ngrams"]), f"{row['seconds']['median']:.2f}", f"{row['megabytes_per_second']:.1f}",
         f"{row['columns']:,}"] for row in rows)])  # fmt: skip
    return {"bytes_of_text": n_bytes, "rows": rows}


def write_rare_words(path: str, target: Path) -> int:
    """Write texts whose labels are their three rarest words, which are taken out; return how many labels there are.

    Only the `LABELS` commonest of these labels are kept.
    """
    titles = [text.lower().split() for text in texts_of(path)]
    counts = Counter(word for words in titles for word in set(words))
    rare = [sorted(dict.fromkeys(words), key=counts.__getitem__)[:3] for words in titles]
    kept = {word for word, _ in Counter(word for words in rare for word in words).most_common(LABELS)}
    labels = set()
    with open(target, "w", encoding="utf-8") as file:
        for words, own in zip(titles, rare, strict=True):
            own = [word for word in own if word in kept]
            rest = [word for word in words if word not in own]
            if own and rest:
                labels |= set(own)
                file.write(" ".join([f"__label__{word}" for word in own] + rest) + "\n")
    return len(labels)


def slide(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "slide_fast", *arguments], check=True, **options)


def pipe(folder: Path, rounds: int) -> dict[str, Any]:
    """Time ``slide predict MODEL -`` from its start to its end, for `PIPED` texts, by the small network."""
    with tempfile.TemporaryDirectory() as place:
        train, run = Path(place, "train.txt"), str(Path(place, "run"))
        n_labels = write_rare_words(str(folder / "train.tsv"), train)
        slide("train", str(train), "--out", run, "--preset", "fast", "--epochs", "3")
        given = "".join(f"{text}\n" for text in texts_of(str(folder / "test.tsv"))[:PIPED]).encode("utf-8")
        seconds: dict[str, list[float]] = {"index": [], "exact": []}
        for _ in range(rounds):
            for mode, own in seconds.items():
                started = time.perf_counter()
                done = slide("predict", run, "-", "--mode", mode, input=given, stdout=subprocess.PIPE)
                own.append(time.perf_counter() - started)
                assert done.stdout.count(b"\n") == PIPED
    rows = [{"mode": mode, "seconds": spread(own), "texts_per_second": PIPED / spread(own)["median"]}
            for mode, own in seconds.items()]  # fmt: skip
    shown = [[row["mode"], f"{row['seconds']['median']:.2f}", f"{row['texts_per_second']:,.0f}"] for row in rows]
    table([["", "seconds", "texts/s"], *shown])
    return {"labels": n_labels, "texts": PIPED, "rows": rows}


def read_data(folder: str, texts: dict[str, Any]) -> tuple[Dataset, Dataset]:
    """Read and vectorise training and test texts."""
    train = read_training(TextFile(f"{folder}/train.tsv", COLUMNS), TextSettings.checked(**texts), 2)
    return train.data, read_known(TextFile(f"{folder}/test.tsv", COLUMNS), train.vectorizer, train.names, 2)[0]


def with_tfidf(folder: str, data: Iterable[Dataset]) -> tuple[Dataset, ...]:
    """Replace the features of training and test samples by those that scikit-learn's vectoriser makes."""
    texts, vectorizer = [texts_of(f"{folder}/{name}.tsv") for name in ("train", "test")], sklearn_vectorizer("tfidf", 1)
    features = vectorizer.fit_transform(texts[0]), vectorizer.transform(texts[1])
    return tuple(Dataset(rows_of_sparse(X, "X").canonical(), own.labels) for X, own in zip(features, data, strict=True))


def train_ours(folder: str, texts: dict[str, Any] | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Read, train and test; seconds of all but the test, and of training alone."""
    started = time.perf_counter()
    train, test = read_data(folder, texts or {})
    if texts is None:
        started = time.perf_counter()  # so that the labels' names are not counted, which were read with the texts
        train, test = with_tfidf(folder, (train, test))
    curve: list[tuple[float, float]] = []

    def note(event: dict[str, Any]) -> None:
        if event["kind"] == "evaluation":
            curve.append((event["seconds"], event["precision_at_1"]))

    before = time.perf_counter() - started
    model = fit(Config.from_dict(settings), train, n_workers=2, test=test, callback=note)
    ids, _ = predict_topk(layers_of(model.arrays), test.features, 5, available_cpus())
    scores = evaluate(ids, test.labels, None)
    return {"seconds": before + model.facts["seconds"], "training_seconds": model.facts["seconds"],
            "precision_at_1": scores["precision_at_1"], "precision_at_5": scores["precision_at_5"],
            "curve": [(before + seconds, precision) for seconds, precision in curve]}  # fmt: skip


def accuracy(folder: Path, options: argparse.Namespace) -> None:
    """Train and test everyone; what is known is written after each."""
    rows: list[dict[str, Any]] = []

    def tell(row: dict[str, Any]) -> None:
        rows.append(row)
        write_result("text_accuracy", {"rows": rows})
        precisions = [row.get(f"precision_at_{k}") for k in (1, 5)]
        shown = ["-" if p is None else f"{100 * p:.2f}" for p in precisions]
        table([["", "P@1", "P@5", "seconds"], [row["name"], *shown, f"{row['seconds']:.0f}"]])

    for name, (texts, settings) in OURS.items():
        tell({"name": f"slide, {name}", **child(train_ours, str(folder), texts, settings)})
    if options.fasttext is not None:
        for row in runs_of(options.fasttext, folder, options.losses.split(","), options.rates):
            tell(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("vectorising", "pipe", "accuracy"))
    parser.add_argument("--data", default=os.environ.get("SLIDE_DATA", "."), help="folder that holds library_titles")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fasttext", metavar="PYTHON", help="Python that has the module fasttext")
    parser.add_argument("--losses", default="hs,ns,softmax,ova")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    options = parser.parse_args()
    require_agreement("tests/text")
    folder = Path(options.data, "library_titles")
    if options.what == "accuracy":
        accuracy(folder, options)
        return
    measure = {"vectorising": vectorising, "pipe": pipe}[options.what]
    write_result(f"text_{options.what}", measure(folder, options.rounds))


if __name__ == "__main__":
    main()
