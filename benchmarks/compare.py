"""Compare on your data what one could train in place of SLIDE: accuracy, seconds, memory, and the size of the model.

    python benchmarks/compare.py --data FOLDER                  with train.txt and test.txt in XMC form
    python benchmarks/compare.py --data train.csv --test test.csv --text-column text --label-column tags
    python benchmarks/compare.py --data library_titles --only slide omikuji

Contenders: SLIDE with its defaults and with `--preset fast`, omikuji, XR-Linear of PECOS, scikit-learn with a
LinearSVC for each label (up to 2,000 labels), and networks of 128 neurons in PyTorch, with a sampled softmax (1,000
negatives a batch) and a dense one. Those whose library is not installed are left out, and named. Each runs in a
process of its own, in turn, on as many workers or threads, and is judged on the same test rows, at most 10,000. All
have their defaults. PyTorch has a learning rate of 0.001; it trains until P@1 on the test rows has not grown for
three half epochs or --max-seconds are over, and the seconds to its best count. SLIDE ends after --max-seconds, too.
Memory is the peak of training, data included.
"""

from __future__ import annotations

import argparse
from functools import partial
from importlib.util import find_spec
from typing import Any

from shared import tasks
from shared.contenders import CONTENDERS, MOST_SEPARATE, PECOS, run
from shared.harness import child, in_turn, read_result, require_agreement, spread, table, write_result

from slide_fast.cli.text_options import add_columns
from slide_fast.cli.texts import columns_of
from slide_ref.common.errors import ConfigError

HEADER = ("", "P@1 %", "P@3 %", "P@5 %", "PSP@1 %", "training s", "rows/s", "peak GB", "model MB")


def sizes_of(data: str) -> dict[str, int]:
    """Return the sizes of the data, by which a result of other data of the same name is known."""
    train, test = tasks.load(data)
    sizes = {"features": train.features.n_columns, "labels": train.labels.n_columns}
    return {"train": train.n_samples, "test": test.n_samples, **sizes}


def taking_part(wanted: list[str], n_labels: int, pecos: str | None) -> list[str]:
    """Return the contenders that can run here; print why the others cannot."""
    found = []
    for name in wanted:
        module = CONTENDERS[name][0]
        if name == PECOS and pecos is None:
            print(f"{name} is left out: name a Python that has libpecos, with --pecos; it needs NumPy 1")
        elif find_spec(module) is None:
            print(f"{name} is left out: the Python package {module} is not installed")
        elif module == "sklearn" and n_labels > MOST_SEPARATE:
            print(f"{name} is left out: a classifier for each of {n_labels:,} labels takes too long")
        else:
            found.append(name)
    return found


def tried(name: str, *arguments: Any) -> dict[str, Any] | None:
    """Run a contender; one that fails has said why, and does not end the comparison."""
    try:
        return child(run, name, *arguments)
    except SystemExit as error:
        print(f"{name} is left out: it ended with exit code {error.code}")
        return None


def summary(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of a contender's runs, and their spread."""
    return {"contender": name, **{key: spread([one[key] for one in runs]) for key in runs[0]}}


def cells(row: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    medians = {key: value["median"] for key, value in row.items() if key != "contender"}
    shares = [f"{100 * medians[key]:.1f}" for key in ("precision_at_1", "precision_at_3", "precision_at_5", "psp_at_1")]
    return [row["contender"], *shares, f"{medians['seconds']:.1f}", f"{medians['rows_per_second']:,.0f}",
            f"{medians['peak_memory_bytes'] / 1e9:.2f}", f"{medians['model_bytes'] / 1e6:,.1f}"]  # fmt: skip


def kept_by(before: dict[str, Any] | None, result: dict[str, Any]) -> str:
    """Say why an earlier result stays: it is of other data, or has other contenders; empty if it may be replaced."""
    if before is None:
        return ""
    if before.get("data", result["data"]) != result["data"]:
        return "is of other data"
    names = {row["contender"] for row in result["rows"]}
    others = [row["contender"] for row in before["rows"] if row["contender"] not in names]
    return f"has rows of {', '.join(others)} too" if others else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = "a folder with train.txt and test.txt, a task's name, or with --test a file of texts"
    parser.add_argument("--data", required=True, help=what)
    parser.add_argument("--test", metavar="FILE", help="texts to judge on; --data is then the file of training texts")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--workers", type=int, default=2, help="worker processes or threads (default: 2)")
    parser.add_argument("--max-seconds", type=float, default=600.0, help="of training (default: 600)")
    parser.add_argument("--pecos", metavar="PYTHON", help="a Python that has libpecos")
    parser.add_argument("--rounds", type=int, default=1, help="medians of so many runs (default: 1)")
    add_columns(parser, as_trained=False)
    parser.set_defaults(command="train")  # as messages call it
    options = parser.parse_args()
    if options.test is not None:
        try:
            columns = columns_of(options, needs_labels=True)
        except ConfigError as error:
            parser.error(str(error))
        options.data = tasks.converted(options.data, options.test, columns, options.on_error == "skip")
    elif options.text_column:
        parser.error("texts need a second file to judge on; name it with --test")
    sizes = sizes_of(options.data)
    names = taking_part(options.only, sizes["labels"], options.pecos)
    print("running the agreement tests, which takes a minute or two", flush=True)
    require_agreement()
    given = options.data, options.workers, options.max_seconds
    runs = in_turn(
        [partial(tried, name, *given, {"python": options.pecos} if name == PECOS else {}) for name in names],
        options.rounds,
    )
    rows = [summary(name, own) for name, own in zip(names, runs, strict=True) if None not in own]
    table([HEADER, *map(cells, rows)])
    name, result = f"compare_{tasks.name_of(options.data)}", {"workers": options.workers, "data": sizes, "rows": rows}
    reason = kept_by(read_result(name), result)
    if reason:
        print(f"not written: benchmarks/results/{name}.json {reason}; move it away to write this one")
    else:
        write_result(name, result)


if __name__ == "__main__":
    main()
