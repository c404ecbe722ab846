"""fastText on a table of titles: files for it, and runs by another Python that has its module."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

RATES = (0.1, 0.5, 1.0)
LIMIT = 600.0  # seconds of a run
EPOCHS = {"hs": (5, 15), "ns": (5, 15), "softmax": (1, 5), "ova": (1, 5)}  # what the limit allows, more or less
WORD = re.compile(r"\w+")
CODE = """
import json, sys, time, fasttext
train, test, options = json.loads(sys.argv[1])
started = time.perf_counter()
model = fasttext.train_supervised(input=train, verbose=0, **options)
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, **{f"precision_at_{k}": model.test(test, k)[1] for k in (1, 5)}}))
"""


def write(table: Path, target: Path) -> None:
    """Write a TSV of titles and subjects in fastText's format, as it wants texts: in lower case, words apart."""
    with open(table, encoding="utf-8") as source, open(target, "w", encoding="utf-8") as file:
        next(source)
        for line in source:
            title, subjects = line.rstrip("\n").split("\t")
            labels = [f"__label__{'_'.join(subject.split())}" for subject in subjects.split("|")]
            file.write(" ".join([*labels, *WORD.findall(title.lower())]) + "\n")


def runs_of(python: str, folder: Path, losses: Sequence[str], rates: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Train with word bigrams, two threads and each loss and rate; yield the measures, None where time was up."""
    with tempfile.TemporaryDirectory() as place:
        files = [str(Path(place, name)) for name in ("train.txt", "test.txt")]
        for name, file in zip(("train.tsv", "test.tsv"), files, strict=True):
            write(folder / name, Path(file))
        for loss in losses:
            for rate, epoch in product(rates, EPOCHS[loss]):
                options = {"loss": loss, "lr": rate, "epoch": epoch, "dim": 128, "wordNgrams": 2, "thread": 2}
                command = [python, "-c", CODE, json.dumps([*files, options])]
                try:
                    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT)
                    found = json.loads(done.stdout)
                except subprocess.TimeoutExpired:
                    found = {"seconds": LIMIT, "precision_at_1": None, "precision_at_5": None}
                yield {"name": f"fastText, {loss}, rate {rate:g}, {epoch} epochs", **options, **found}
