"""How commands fail: one line on standard error, an exit code, and nothing half-written."""

import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentTypeError

import numpy as np
import pytest

from slide_fast.cli import train as train_command
from slide_fast.cli import training_run
from slide_fast.cli.argument_types import whole
from slide_fast.cli.main import main
from slide_fast.cli.options import parser
from slide_fast.cli.run_folder import RunFolder
from slide_fast.training import TrainingInterrupted
from slide_ref.common.config import Config
from slide_ref.common.storage.model_folder import load_model


def start(*arguments, **options):
    return subprocess.Popen([sys.executable, "-m", "slide_fast", *map(str, arguments)], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # fmt: skip


def ignore_ctrl_c():
    """Do what a shell does before it starts a job in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("train {data}/short", "{data}/short, line 3: "),
        ("train {data}/nan", "{data}/nan, line 3, column 5: "),
        ("train {data}/infinite", "{data}/infinite, line 2, column 5: "),
        ("train {data}/range", "{data}/range, line 2, column 3: "),
        ("train {data}/empty", "{data}/empty, line 1: "),
        ("train {data}/missing", "{data}/missing: "),
        ("train {data}/no-samples", "{data}/no-samples, line 1: there are no samples"),
        ("train {data}/no-labels", "{data}/no-labels: no sample has a label"),
        ("train {data}/train.txt --test {data}/wide", "{data}/wide, line 1: 151 features, but "),
        ("train {data}/train.txt --test {data}/many-labels", "{data}/many-labels, line 1: 61 labels, but "),
        ("train {data}/train.txt --test {data}/missing", "{data}/missing: "),
        ("train {data}/train.txt --label-names {data}/few-names", "{data}/few-names, line 2: 1 names, but "),
        ("train {data}/train.txt --config {data}/bad.toml", "{data}/bad.toml, line 2, column 9: "),
        ("train {data}/train.txt --config {data}/missing", "{data}/missing: cannot be read"),
        ("evaluate {run} {data}/wide", "{data}/wide, line 1: 151 features, but the model has 150"),
        ("evaluate {run} {data}/many-labels", "{data}/many-labels, line 1: 61 labels, but the model has 60"),
        ("evaluate {run} {data}/no-samples", "{data}/no-samples, line 1: there are no samples"),
        ("evaluate {data} {data}/test.txt", "{data}/config.json: cannot be read"),
        ("predict {run} {data}/wide", "{data}/wide, line 1: 151 features, but the model has 150"),
        ("predict {run} {data}/nan --out {data}/out", "{data}/nan, line 3, column 5: "),
        ("predict {run} {data}/test.txt --out {data}/no/out", "{data}/no/out: cannot be written"),
        ("predict {run} {data}/test.txt --out {data}", "{data}: cannot be written"),
        ("verify {data}/missing", "{data}/missing: "),
        ("bench {data}/missing", "{data}/missing: "),
        ("bench {data}/train.txt --test {data}/missing", "{data}/missing: "),
        (
            "bench {data}/train.txt --test {data}/many-labels",
            "{data}/many-labels, line 1: 61 labels, but the training data has 60",
        ),
        ("bench {data}/no-labels", "{data}/no-labels: no sample has a label"),
        ("verify {data}/no-labels", "{data}/no-labels: none of the first 1 samples has a label"),
        ("info {data}/missing", "{data}/missing/config.json: cannot be read"),
        ("plot {data}", "{data}/metrics.jsonl: cannot be read"),
        ("generate {data}/tiny --shape wiki10-31k --samples 9", "{data}/tiny: "),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(slide, data, trained, tmp_path, command, wanted):
    before = sorted(data.iterdir())
    code, stdout, stderr = slide(command, *(["--out", tmp_path / "new" / "run"] if command.startswith("train") else []))
    assert code == 1 and stdout == ""
    assert stderr.splitlines()[-1].startswith("slide: error: " + wanted.format(data=data, run=trained))
    assert len(stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [] and sorted(data.iterdir()) == before


def test_a_folder_that_cannot_be_written_is_found_before_data_are_read(slide, data):
    code, _, stderr = slide("train {data}/missing --out {data}/tiny")
    assert code == 1 and stderr.startswith(f"slide: error: {data}/tiny: cannot be written (")
    code, _, stderr = slide("train {data}/missing --out {data}")
    assert code == 1 and stderr.startswith(f"slide: error: {data}: contains files other than those of a run")


@pytest.mark.parametrize("option", ["--test", "--label-names", "--labels", "--test-labels"])
def test_files_that_are_missing_are_found_before_data_are_read(slide, monkeypatch, tmp_path, option):
    monkeypatch.setattr(train_command, "read_samples", lambda *arguments, **options: pytest.fail("data are read"))
    test = "--test {data}/train.txt" if option == "--test-labels" else ""
    code, _, stderr = slide(f"train {{data}}/train.txt {test} --out {tmp_path}/run {option} {tmp_path}/missing")
    assert code == 1 and stderr == f"slide: error: {tmp_path}/missing: cannot be read (No such file or directory)\n"


def test_a_damaged_model_is_named(slide, tmp_path):
    slide("train {data}/tiny {small} --out", tmp_path / "run")
    np.save(tmp_path / "run" / "model" / "b1.npy", np.zeros(4, dtype=np.float32))
    for command in ("evaluate", "predict", "info"):
        rest = [] if command == "info" else ["{data}/tiny"]
        code, _, stderr = slide(" ".join([command, f"{tmp_path}/run", *rest]))
        assert code == 1 and len(stderr.splitlines()) == 1 and f"{tmp_path}/run/model/b1.npy: " in stderr
    (tmp_path / "run" / "model" / "W0.npy").unlink()
    assert f"{tmp_path}/run/model/W0.npy: cannot be read" in slide(f"info {tmp_path}/run")[2]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("--set lsh.Q=3", "unknown setting lsh.Q; known are"),
        ("--set lsh.K=99", "lsh.K is 99; it must be from 1 to 64"),
        ("--set scope=none", "scope is 'none'; it must be one of batch, sample"),
        ("--set epochs=x.y", "'x.y' is not a value"),
        (f"--set seed={2**63}", f"seed is {2**63}; it must be from 0"),
        ("--set lsh.k=8", "did you mean lsh.K?"),
        ("--set K=8", "did you mean lsh.K?"),
        ("--set learning_rat=0.1", "did you mean learning_rate?"),
        ("--set lsh.learning-rate=0.1", "did you mean learning_rate?"),
        ("--set lhs.K=8", "did you mean lsh?"),
        ("--hidden 8,8 --set hidden_lsh.1.k=8", "did you mean hidden_lsh.1.K?"),
        (
            "--set lsh.family=simhsh",
            "lsh.family is 'simhsh'; it must be one of simhash, wta, dwta, doph, centroid; did you mean",
        ),
        ("--set decay=Linear", "decay is 'Linear'; it must be one of constant, linear, cosine; did you mean linear?"),
    ],
)
def test_bad_settings_are_bad_use(slide, tmp_path, options, wanted):
    code, stdout, stderr = slide(f"train {{data}}/train.txt {options} --out", tmp_path / "run")
    assert code == 2 and stdout == "" and stderr.startswith("slide: error: ") and wanted in stderr
    assert len(stderr.splitlines()) == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    ["", "fly", "train x", "train x --out y --epochs 1.5", "train x --out y --hidden 0", "train x --out y --set K",
     "train x --out y --workers 0", "train x --out y --workers 5000", "predict x y --workers 99999999999999999999",
     "index x y --workers 1000000", "bench --workers -1", "train x --out y --eval-samples 99999999999999999999999",
     "train x --out y --eval-every 0", "train x --out y --max-seconds nan", "predict x y -k 0", "predict x y --json",
     "predict x y --mode fast", "train x --out y --auto --resume",
     "evaluate x y --recall 0.5", "evaluate x y --mode index --recall 2", "verify x --steps 0",
     "generate x --samples many"],
)  # fmt: skip
def test_bad_use_is_one_line(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main(command.split())
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("slide: error: ") and len(error.splitlines()) == 1


@pytest.mark.parametrize("command", ["train x --out y", "verify", "demo"])
def test_the_largest_seed_that_is_told_is_one(capsys, command):
    assert parser().parse_args([*command.split(), "--seed", str(Config(seed=2**63 - 1).seed)]).seed == 2**63 - 1
    with pytest.raises(SystemExit, match="2"):
        main([*command.split(), "--seed", str(2**63)])
    assert f"--seed: {2**63} is too large; the most is {2**63 - 1}" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--labels", "--test-labels", "--label-names", "--config"])
def test_standard_input_is_for_samples(capsys, option):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "x", "--test", "x", "--out", "y", option, "-"])
    assert f"{option}: standard input is for samples; give the name of a file" in capsys.readouterr().err


def test_an_unknown_option_leads_to_the_help_of_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["predict", "run", "new.txt", "--top", "3"])
    assert capsys.readouterr().err == "slide: error: unrecognized arguments: --top 3; see slide predict --help\n"


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("0" * 5000 + "12", 12), (str(2**64 - 1), 2**64 - 1), ("4", None), ("0" * 30, None),
                        ("", None), ("-7", None), (str(2**64), None), ("9" * 5000, None)],
)  # fmt: skip
def test_whole_numbers_of_any_length_are_read_or_refused(text, value):
    if value is None:
        with pytest.raises(ArgumentTypeError, match="is not a whole number of 5 or more|is too large; the most is"):
            whole(5)(text)
    else:
        assert whole(5)(text) == value


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("trian", "did you mean train? See slide --help"),
        ("train x --out y --lerning-rate 0.1", "did you mean --learning-rate? See slide train --help"),
        ("train x --out y --preset wid", "did you mean wide? See slide train --help"),
        ("evaluate x y --mode indx", "did you mean index? See slide evaluate --help"),
        ("train x", "train needs TRAIN and --out RUN; see slide train --help"),
        ("train x --out y --patience 3", "see slide train --help"),
        ("train x --out y --auto --resume", "see slide train --help"),
        (
            "train x --out y --print-config --resume",
            "RUN/config.toml has the settings of that run; see slide train --help",
        ),
        ("predict x y --json", "see slide predict --help"),
        ("evaluate x y --recall 0.5", "see slide evaluate --help"),
    ],
)
def test_bad_use_tells_what_was_meant_and_names_the_help_of_the_command(capsys, command, wanted):
    with pytest.raises(SystemExit, match="2"):
        main(command.split())
    error = capsys.readouterr().err
    assert error.endswith(f"{wanted}\n") and len(error.splitlines()) == 1


@pytest.mark.parametrize("command", ["generate {new}", "bench"])
def test_a_shape_is_looked_at_before_anything_is_said(slide, tmp_path, command):
    code, stdout, stderr = slide(command.format(new=tmp_path / "new"), "--shape", "amazon-67k")
    known = "it must be one of amazon-670k, delicious-200k, wiki10-31k"
    assert (code, stdout) == (2, "") and not (tmp_path / "new").exists()
    assert stderr == f"slide: error: shape is 'amazon-67k'; {known}; did you mean amazon-670k?\n"


@pytest.mark.parametrize(
    ("failure", "wanted"),
    [
        (MemoryError("too little"), "too little"),
        (MemoryError(), "out of memory"),
        (OSError(28, "full", "f"), "f: full"),
    ],
)
def test_a_run_that_fails_half_way_leaves_nothing(slide, monkeypatch, tmp_path, failure, wanted):
    def fit(config, train, *, callback, **options):
        callback({"kind": "start", "pids": tuple, "n_samples": 3, "n_workers": 1})
        callback({"kind": "epoch", "epoch": 1.0, "step": 1, "loss": 1, "active_neurons": 2, "samples_per_second": 3})
        raise failure

    monkeypatch.setattr(training_run, "fit", fit)
    code, _, stderr = slide("train {data}/tiny --out", tmp_path / "run")
    assert code == 1 and stderr.splitlines()[-1] == f"slide: error: {wanted}" and list(tmp_path.iterdir()) == []


def test_an_interrupted_run_keeps_its_model(slide, monkeypatch, data, trained, tmp_path):
    def fit(config, train, *, callback, **options):
        callback({"kind": "start", "pids": tuple, "n_samples": 3, "n_workers": 1})
        raise TrainingInterrupted(load_model(trained / "model"))

    monkeypatch.setattr(training_run, "fit", fit)
    code, stdout, stderr = slide("train {data}/train.txt --out", tmp_path / "run")
    last = f"slide: interrupted after 2.00 epochs; the model is in {tmp_path / 'run' / 'model'}"
    assert code == 130 and stdout == "" and stderr.splitlines()[-1] == last
    assert slide(f"evaluate {tmp_path}/run {data}/test.txt")[0] == 0


@pytest.mark.skipif(
    os.name != "posix" or signal.getsignal(signal.SIGINT) is signal.SIG_IGN, reason="Ctrl-C is out of use here"
)
@pytest.mark.parametrize(
    ("number", "code", "in_background"),
    [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, False), (signal.SIGTERM, 143, True)],
)
def test_signals_end_training_with_a_model(slide, data, tmp_path, number, code, in_background):
    run = tmp_path / "run"
    arguments = ["--test", data / "test.txt", "--out", run, "--epochs", 10**6, "--workers", 2, "--hidden", 8]
    process = start("train", data / "train.txt", *arguments, preexec_fn=ignore_ctrl_c if in_background else None)
    try:
        deadline = time.monotonic() + 60
        while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code and stdout == ""
    assert stderr.splitlines()[-1].startswith("slide: interrupted after ") and "Traceback" not in stderr
    assert slide(f"evaluate {run} {data}/test.txt")[0] == 0


INTERRUPTED_IMPORT = """
import sys
class Pressed:
    def find_spec(self, name, *rest):
        if name == sys.argv[1]:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Pressed())
from slide_fast.cli import main
sys.exit(main(["info", "absent"]))
"""


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("slide_fast.cli.options", ""),
        ("slide_ref.common.config", ""),
        ("slide_fast.cli.session", "slide: interrupted\n"),
    ],
)
def test_ctrl_c_while_the_command_is_imported_leaves_no_traceback(module, told):
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_IMPORT, module], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", told)


def test_a_closed_pipe_ends_predict_quietly(data, trained, tmp_path):
    rows = 20_000
    (tmp_path / "long.txt").write_text(f"{rows} 150 60\n" + "1 0:1\n" * rows)
    process = start("predict", trained, tmp_path / "long.txt", "-k", 50)
    assert process.stdout.readline().count(":") == 50
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(60) == 141
    process.stderr.close()


def test_s29_training_that_diverges_is_one_line_and_the_last_good_model_stands(slide, data, tmp_path):
    run = tmp_path / "run"
    assert slide("train {data}/train.txt {small} --out", run)[0] == 0
    before = {file.name: file.read_bytes() for file in (run / "model").iterdir()}
    for workers in (1, 2):
        more = ["--learning-rate", "1e20", "--workers", workers, "--overwrite", "--out", run]
        code, stdout, stderr = slide("train {data}/train.txt {small}", *more)
        assert code == 1 and stdout == "" and "Warning" not in stderr and "Traceback" not in stderr
        assert stderr.splitlines()[-1].startswith("slide: error: training diverged: at step ")
        assert {file.name: file.read_bytes() for file in (run / "model").iterdir()} == before


@pytest.mark.parametrize("where", ["index", "save"])
def test_ctrl_c_after_the_last_epoch_keeps_the_model(slide, monkeypatch, data, tmp_path, where):
    def pressed(*arguments):
        signal.raise_signal(signal.SIGINT)
        return original(*arguments)

    owner, name = (training_run, "with_index") if where == "index" else (RunFolder, "save")
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, pressed)
    code, stdout, stderr = slide("train {data}/train.txt --epochs 1 --workers 1 --out", tmp_path / "run")
    assert code == 130 and stdout == ""
    assert stderr.splitlines()[-1].endswith(f"; the model is in {tmp_path / 'run' / 'model'}")
    assert slide(f"evaluate {tmp_path}/run {data}/test.txt")[0] == 0


def test_settings_nested_without_end_are_told_in_one_line(slide, tmp_path):
    (tmp_path / "deep.toml").write_text("x = " + "[" * 5000 + "]" * 5000)
    code, _, stderr = slide(f"train {{data}}/train.txt --out {tmp_path}/run --config", tmp_path / "deep.toml")
    assert code == 1 and stderr.splitlines()[-1].endswith("deep.toml: values are nested too deeply")
