"""Small data, a finished run, and a way to give commands."""

import pytest

from slide_fast.cli.main import main
from slide_fast.datasets.synthetic import generate

SMALL = "--workers 1 --epochs 2 --micro-batch 64 --hidden 16 --set lsh.min_active=20 --set lsh.K=4 --set rebuild_gap=3"


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with small data sets, good and bad."""
    folder = tmp_path_factory.mktemp("data")
    generate(folder, "wiki10-31k", n_samples=300, n_test=80, n_features=150, n_labels=60, nonzeros=9,
             labels_per_sample=2)  # fmt: skip
    files = {
        "tiny": "3 4 5\n0,1 0:1\n4 1:1\n 2:1\n",
        "wide": "1 151 5\n0 8:1\n",
        "many-labels": "1 4 61\n0 1:1\n",
        "short": "3 4 5\n0 0:1\n1 1:1\n",
        "nan": "2 4 5\n0 0:1\n1 1:nan\n",
        "infinite": "1 4 5\n0 0:1e99\n",
        "range": "1 4 5\n0 4:1\n",
        "empty": "",
        "no-samples": "0 4 5\n",
        "no-labels": "1 4 5\n 0:1\n",
        "tiny-names": "a:b\nc\td\ne f\né\ng\n",
        "few-names": "a\n",
        "bad.toml": "epochs = 1\nlsh.K = = 3\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(f"train {data}/train.txt --test {data}/test.txt --out {folder} {SMALL}".split()) == 0
    return folder


@pytest.fixture
def slide(capsys, data, trained):
    """Give a command; returns its exit code, output and errors.

    In it {data} and {run} stand for the folders, {small} for the options of a short training run.
    """

    def run(command, *more):
        arguments = command.format(data=data, run=trained, small=SMALL).split()
        code = main([*arguments, *map(str, more)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
