"""``slide train --mpi``: as users start it, what it says when something is amiss, and what a death leaves behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mpi_run
import numpy as np
import pytest
from problems import counted

from slide_fast.cli.main import main
from slide_fast.engine.checkpoints import Checkpoints
from slide_ref.common.storage.model_folder import load_model

ROOT = Path(__file__).parents[2]
SETTINGS = "--hidden 16 --micro-batch 64 --set lsh.min_active=20 --set lsh.K=4 --set rebuild_gap=3 --set shards=6"
LOOK = """
import pkgutil, sys
import slide_fast, slide_ref
for package in (slide_fast, slide_ref):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            __import__(module.name)
sys.exit("mpi4py" in sys.modules)
"""


def slide_on(ranks, data, out, *more):
    """Run the command in so many processes."""
    files = ("train", data / "train.txt", "--test", data / "test.txt", "--out", out)
    return mpi_run.python("-m", "slide_fast", *files, "--mpi", *SETTINGS.split(), *more, ranks=ranks)


def test_without_the_extra_the_command_says_what_to_install(data, tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError\n")
    done = mpi_run.python("-m", "slide_fast", "train", data / "train.txt", "--out", tmp_path / "run", "--mpi",
                          first=tmp_path)  # fmt: skip
    wanted = 'several ranks need mpi4py and an MPI library; install both with: pip install "slide-numpy[mpi]"'
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"slide: error: {wanted}\n")
    assert not (tmp_path / "run").exists()


def test_no_module_imports_mpi_before_it_is_asked_for():
    assert mpi_run.python("-c", LOOK).returncode == 0


@mpi_run.needs_mpi
def test_ranks_train_on_texts(tmp_path, capsys):
    rows = "".join(f"a {word} thing\t{word}\n" for word in ("red", "blue", "green") * 40)
    (tmp_path / "train.tsv").write_text(f"text\tcolour\n{rows}")
    columns = ("--text-column", "text", "--label-column", "colour")
    done = mpi_run.python("-m", "slide_fast", "train", tmp_path / "train.tsv", *columns, "--mpi", "--hidden", "8",
                          "--micro-batch", "16", "--epochs", "20", "--out", tmp_path / "run", ranks=2)  # fmt: skip
    assert done.returncode == 0, done.stderr
    (tmp_path / "texts").write_text("green\nred\n")
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "texts"), "-k", "1"]) == 0
    assert [line.rpartition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["green", "red"]


@mpi_run.needs_mpi
@pytest.mark.parametrize("chosen", [("--set", "lsh.family=simhash"), ("--seed", "1")], ids=["simhash", "centroids"])
def test_two_ranks_train_a_model_that_one_machine_uses(data, tmp_path, capsys, chosen):
    """Of so few samples some are clustered twice, and with seed 0 rounding says which of two centroids is nearer."""
    done = slide_on(2, data, tmp_path / "run", "--epochs", 2, "--json", "--checkpoint-every", 1, *chosen)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["ranks"] == figures["workers"] == len(figures["rank_peak_memory_bytes"]) == 2
    assert figures["n_train_samples"] == 300 and figures["epochs"] == 2
    assert figures["messages_per_step"]["allreduce"] == 4
    assert done.stderr.count("epoch     loss") == 1  # one table, that of rank 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), str(data / "test.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["precision_at_1"] == figures["precision_at_1"]
    arguments = ["train", data / "train.txt", "--out", tmp_path / "alone", "--workers", 1, "--epochs", 2]
    assert main([*map(str, arguments), *SETTINGS.split(), *chosen]) == 0
    ours, alone = (load_model(tmp_path / name / "model") for name in ("run", "alone"))
    assert counted(ours.facts) == counted(alone.facts)
    for name, array in alone.arrays.items():
        assert np.allclose(array, ours.arrays[name], rtol=0, atol=1e-6)


def printed(page, file):
    """The commands under mpiexec that a page prints on lines of their own, as they stand, to train on a file."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^mpiexec .*train {file} .*$", text, re.MULTILINE)


COMMANDS = [(command, "README.md") for command in printed("README.md", "data/train.txt")]
COMMANDS += [(command, "docs/many-machines.md") for command in printed("docs/many-machines.md", "train.txt")]


def test_the_documentation_prints_commands_to_try():
    assert [page for _, page in COMMANDS] == ["README.md", *["docs/many-machines.md"] * 3]


@mpi_run.needs_mpi
@pytest.mark.parametrize(("command", "page"), COMMANDS)
def test_commands_run_as_printed_and_shards_are_as_many_as_ranks(command, page, data, tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("train.txt", "test.txt"):
        shutil.copy(data / name, tmp_path)
        shutil.copy(data / name, tmp_path / "data")
    environment = mpi_run.environment() | {"PATH": mpi_run.PLACES}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shards = 4 if "shards=4" in command else 2
    (run,) = (path for path in tmp_path.iterdir() if path.is_dir() and path.name != "data")
    assert load_model(run / "model").config.shards == shards and f", {shards} shards" in done.stderr
    assert f"\nshards = {shards}\n" in (run / "config.toml").read_text(encoding="utf-8")


@mpi_run.needs_mpi
def test_shards_that_are_given_are_kept(data, tmp_path):
    files = ("train", data / "train.txt", "--out", tmp_path / "run", "--mpi", "--epochs", 1)
    (tmp_path / "settings.toml").write_text("shards = 6\nmicro_batch = 64\nhidden = [8]\n", encoding="utf-8")
    for more, shards in ((["--config", tmp_path / "settings.toml"], 6), (["--preset", "wide"], 2)):
        done = mpi_run.python("-m", "slide_fast", *files, "--print-config", *more, ranks=2)
        assert done.returncode == 0 and f"\nshards = {shards}\n" in done.stdout, done.stderr
    done = mpi_run.python("-m", "slide_fast", *files, *more, "--checkpoint-every", 1, "--hidden", 8, ranks=2)
    assert done.returncode == 0, done.stderr
    done = mpi_run.python("-m", "slide_fast", *files, "--resume", "--epochs", 2, ranks=1)
    assert done.returncode == 0 and load_model(tmp_path / "run" / "model").config.shards == 2, done.stderr


@mpi_run.needs_mpi
def test_two_ranks_of_two_workers_train_a_model_and_keep_the_best(data, tmp_path, capsys):
    run = tmp_path / "run"
    done = slide_on(4, data, run, "--workers", 2, "--epochs", 40, "--learning-rate", 0.3, "--patience", 2, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["ranks"], figures["workers"], len(figures["rank_peak_memory_bytes"])) == (2, 4, 2)
    assert figures["n_train_samples"] == 300 and figures["n_test_samples"] == 80 and figures["epochs"] < 40
    named = re.findall(r"(\d), worker (\d): process", done.stderr)
    assert named == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = [event["precision_at_1"] for event in events if event["kind"] == "evaluation"]
    assert figures["precision_at_1"] == max(scores) == scores[-1]
    assert [event["samples"] for event in events if event["kind"] == "epoch"][0] == 300
    capsys.readouterr()
    assert main(["evaluate", str(run), str(data / "test.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["precision_at_1"] == figures["precision_at_1"]


@mpi_run.needs_mpi
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_model_and_other_ranks_and_workers_resume(data, tmp_path, number, code):
    files = [
        "train",
        data / "train.txt",
        "--test",
        data / "test.txt",
        "--out",
        tmp_path / "run",
        "--mpi",
        "--workers",
        2,
    ]
    command = [mpi_run.MPIEXEC, "-n", 4, sys.executable, "-m", "slide_fast", *files, *SETTINGS.split()]
    log, metrics = tmp_path / "log", tmp_path / "run" / "metrics.jsonl"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*map(str, command), "--epochs", "100000"], stdout=file, stderr=subprocess.STDOUT, env=mpi_run.environment()
        )
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.05)
        pids = re.findall(r"\d, worker \d: process (\d+) on", log.read_text())
        assert len(pids) == 4
        for pid in pids if number == signal.SIGTERM else pids[:1]:  # as mpiexec passes it on
            os.kill(int(pid), number)
        assert process.wait(60) == code, log.read_text()
    assert "slide: interrupted after" in log.read_text() and "train with --resume to continue" in log.read_text()
    epochs = Checkpoints(tmp_path / "run" / "checkpoints").last().progress.step // 5 + 1
    done = slide_on(3, data, tmp_path / "run", "--resume", "--epochs", epochs)
    assert done.returncode == 0, done.stderr
    assert load_model(tmp_path / "run" / "model").facts["epochs"] == epochs


@mpi_run.needs_mpi
@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--set", "shards=5"], 2, "shards is 5, and 2 ranks cannot share them equally"),
        (["--workers", "3"], 2, "2 processes cannot be ranks of 3 workers each; start a multiple of 3"),
        (["--workers", "3", "--print-config"], 2, "2 processes cannot be ranks of 3 workers each"),
        (["--auto"], 2, "does not support --auto"),
        (["--label-names", "none.txt"], 1, "none.txt: cannot be read"),
        (["--learning-rate", "1e30"], 1, "training diverged: at step"),
        (["--resume"], 1, "no checkpoint to resume from"),
    ],
)
def test_what_cannot_be_trained_is_told_once(data, tmp_path, more, code, message):
    done = slide_on(2, data, tmp_path / "run", *more)
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == code and len(errors) == 1 and message in errors[0], done.stderr
    assert not (tmp_path / "run").exists()


@mpi_run.needs_mpi
@pytest.mark.parametrize(("n", "workers", "name"), [(3, 1, "2"), (4, 2, "1, worker 1")])
def test_a_process_that_is_killed_ends_the_run_and_fewer_resume_it(n, workers, name, data, tmp_path):
    files = ["train", data / "train.txt", "--test", data / "test.txt", "--out", tmp_path / "run", "--mpi"]
    files += ["--workers", workers]
    command = [mpi_run.MPIEXEC, "-n", n, sys.executable, "-m", "slide_fast", *files, *SETTINGS.split()]
    log, checkpoints = tmp_path / "log", Checkpoints(tmp_path / "run" / "checkpoints")
    with log.open("w") as file:
        process = subprocess.Popen(
            [*map(str, command), "--epochs", "100000", "--checkpoint-every", "1"],
            stdout=file, stderr=subprocess.STDOUT, env=mpi_run.environment(),
        )  # fmt: skip
        while not checkpoints.saved() and process.poll() is None:
            time.sleep(0.05)
        victim = re.search(rf"{name}: process (\d+) on", log.read_text())
        os.kill(int(victim[1]), signal.SIGKILL)
        assert process.wait(60) != 0
    assert "Killed (signal 9)" in log.read_text()  # the launcher's words; it may name another process of the run
    epochs = checkpoints.last().progress.step // 5 + 1
    done = slide_on(1, data, tmp_path / "run", "--resume", "--epochs", epochs)
    assert done.returncode == 0, done.stderr
    assert load_model(tmp_path / "run" / "model").facts["epochs"] == epochs


@mpi_run.needs_mpi
@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_fails_alone_says_so_and_ends_the_others(workers, data, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from slide_fast import cli\n"
        "from slide_fast.mpi.rank_worker import RankWorker\n"
        "micro_batch = RankWorker.micro_batch\n"
        "def failing(self, epoch, step):\n"
        "    if self.everyone.rank == self.everyone.size - 1 and step > 2:\n"
        "        raise MemoryError('no room')\n"
        "    return micro_batch(self, epoch, step)\n"
        "RankWorker.micro_batch = failing\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    files = ["train", data / "train.txt", "--out", tmp_path / "run", "--mpi", "--workers", workers, *SETTINGS.split()]
    done = mpi_run.python(program, *files, ranks=2 * workers)
    name = {1: "rank 1", 2: "rank 1, worker 1"}[workers]
    assert done.returncode != 0
    assert re.search(rf"slide: error: {name}, process \d+ on \S+, ends the run: MemoryError: no room\n", done.stderr)


@mpi_run.needs_mpi
@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("train.txt --test {data}/test.txt", "train.txt", "arguments of the first process (--test)"),
        ("train.txt --seed 1", "train.txt --seed 2", "arguments of the first process (--seed)"),
        ("train.txt --print-config", "train.txt", "arguments of the first process (--print-config)"),
        ("train.txt --workers 3", "train.txt", "arguments of the first process (--workers)"),
        (
            "train.txt --config {out}/a.toml",
            "train.txt --config {out}/b.toml",
            "settings of the first process (epochs)",
        ),
        ("train.txt", "test.txt", "data of the first process (number of samples in TRAIN)"),
        (
            "train.txt --test {data}/test.txt",
            "train.txt --test {data}/train.txt",
            "data of the first process (number of samples in --test)",
        ),
    ],
)
def test_processes_with_other_arguments_are_refused(data, tmp_path, first, second, told):
    (tmp_path / "a.toml").write_text("epochs = 1")
    (tmp_path / "b.toml").write_text("epochs = 2")
    common = f"-m slide_fast train --out {tmp_path}/run --mpi".split()
    own = [f"{{data}}/{some}".format(data=data, out=tmp_path).split() for some in (first, second)]
    parts = [["-n", "1", sys.executable, *common, *some] for some in own]
    command = [mpi_run.MPIEXEC, *parts[0], ":", *parts[1]]
    done = subprocess.run(command, capture_output=True, text=True, env=mpi_run.environment(), timeout=60)
    assert done.returncode and f"rank 1: not the {told}; start all processes with the same" in done.stderr
    assert done.stderr.count("slide: error") == 1


SLOW = """
import os, sys, time
import slide_fast.cli.train_mpi as command
from slide_fast.cli.main import main

def read_files(*arguments):
    os.write(1, f"reading {os.getpid()} {command.mpi_ranks().rank}\\n".encode())  # at once, beside other processes
    time.sleep(50)

command.read_files = read_files
sys.exit(main(sys.argv[1:]))
"""


@mpi_run.needs_mpi
@pytest.mark.parametrize(
    ("number", "to_all"), [(signal.SIGINT, False), (signal.SIGTERM, True), (signal.SIGTERM, False)]
)
def test_a_signal_before_training_ends_all_processes(data, tmp_path, number, to_all):
    log = tmp_path / "log"
    command = [mpi_run.MPIEXEC, "-n", "2", sys.executable, "-c", SLOW, "train", data / "train.txt", "--mpi", "--out"]
    with log.open("w") as file:
        own = [*map(str, command), str(tmp_path / "run")]
        process = subprocess.Popen(own, stdout=file, stderr=subprocess.STDOUT, env=mpi_run.environment())
        while process.poll() is None and log.read_text().count("reading") < 2:
            time.sleep(0.05)
        for pid, rank in re.findall(r"reading (\d+) (\d)", log.read_text()):
            if to_all or rank == "0":
                os.kill(int(pid), number)
        assert process.wait(20) in (130, 143)
    assert "slide: interrupted" in log.read_text()


@mpi_run.needs_mpi
def test_a_preset_keeps_the_shards_of_the_run_to_resume(data, tmp_path):
    options = ["train", data / "train.txt", "--out", tmp_path / "run", "--mpi", "--preset", "fast"]
    options += ["--checkpoint-every", 1, "--epochs"]
    assert mpi_run.python("-m", "slide_fast", *options, 2, ranks=2).returncode == 0
    done = mpi_run.python("-m", "slide_fast", *options, 3, "--resume", ranks=1)
    assert done.returncode == 0, done.stderr
    assert load_model(tmp_path / "run" / "model").config.shards == 2
