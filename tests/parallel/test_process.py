"""What a process is, it stays: with odd standard streams, at its end, and after all that may happen in a run."""

import atexit
import gc
import io
import locale
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from problems import random_dataset
from threadpoolctl import threadpool_info
from tqdm import tqdm

from slide_fast.cli.main import main
from slide_fast.data import write_xmc
from slide_fast.estimator.classifier import SlideClassifier
from slide_fast.parallel.streams import off_standard_descriptors

POSIX = pytest.mark.skipif(os.name != "posix", reason="descriptors of POSIX")
DATA = random_dataset(0, n_samples=60, n_labels=20)
ROOT = Path(__file__).parents[2]
SMALL = ["--workers", "1", "--epochs", "1", "--hidden", "4"]


def classifier(n_workers=1, **options):
    return SlideClassifier(hidden=(4,), epochs=2, micro_batch=16, n_workers=n_workers, **options)


class OnlyWrite:
    """What people put in the place of a stream, to have it in a log."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Broken(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = [lambda: None, io.StringIO, io.BytesIO, OnlyWrite, Terminal, Broken, closed, object]


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("notebook", [False, True], ids=["lines", "bar"])
def test_training_needs_no_screen(stream, verbose, notebook, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", None)
    classifier(verbose=verbose).fit(*DATA).predict(DATA.features)
    if isinstance(sys.stderr, OnlyWrite) and not notebook:
        assert ("epoch" in sys.stderr.text) == verbose


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with samples and a run."""
    folder = tmp_path_factory.mktemp("place")
    write_xmc(folder / "train.txt", DATA)
    assert main(["train", f"{folder}/train.txt", "--out", f"{folder}/run", *SMALL]) == 0
    return folder


@pytest.mark.parametrize("stream", [lambda: None, OnlyWrite, Broken])
def test_commands_need_no_screen(stream, place, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    run = str(tmp_path / "run")
    assert main(["train", f"{place}/train.txt", "--out", run, *SMALL]) == 0
    assert main(["info", run]) == 0
    assert main(["info", f"{run}-absent"]) == 1


@pytest.mark.parametrize("stream", [lambda: None, io.StringIO, OnlyWrite, closed])
def test_training_by_command_needs_no_standard_output(stream, place, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream())
    assert main(["train", f"{place}/train.txt", "--out", str(tmp_path / "run"), *SMALL]) == 0
    assert (tmp_path / "run/model").is_dir()


@pytest.mark.parametrize("stream", [lambda: None, closed])
@pytest.mark.parametrize(
    "command",
    ["info {0}/run", "predict {0}/run {0}/train.txt", "train --print-config", "train {0}/train.txt --out {0}/no --json",
     "predict {0}/run {0}/train.txt --out {0}/no --json", "index {0}/run {0}/train.txt --json"],
)  # fmt: skip
def test_answers_need_standard_output(stream, command, place, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", stream())
    assert main(command.format(place).split()) == 1 and not (place / "no").exists()
    assert capsys.readouterr().err == "slide: error: standard output is closed, so the result cannot be written\n"


@pytest.mark.parametrize("stream", [None, io.StringIO("")])
def test_samples_need_a_standard_input_of_bytes(stream, place, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", stream)
    assert main(["predict", f"{place}/run", "-"]) == 1
    assert "standard input is closed, or is not a stream of bytes" in capsys.readouterr().err


def shell(line, folder):
    """The exit code, output and errors of a line of Bash in which `slide` and `python` are ours."""
    slide = f'slide() {{ "{sys.executable}" -m slide_fast "$@"; }}; python() {{ "{sys.executable}" "$@"; }}\n'
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(["bash", "-c", slide + line], cwd=folder, env=environment, capture_output=True, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


TRAIN = f"slide train train.txt --out new {' '.join(SMALL)} "


@POSIX
@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        (TRAIN + "<&-", 0, None),
        (TRAIN + ">&-", 0, None),
        (TRAIN + "2>&-", 0, None),
        (TRAIN + "--workers 2 <&- >&- 2>&-", 0, ""),
        pytest.param(TRAIN + "2> >(exec true)", 0, "", marks=pytest.mark.slow),
        (TRAIN + "2> /dev/full", 0, ""),
        ("slide predict run train.txt >&-", 1, "slide: error: standard output is closed"),
        pytest.param(
            "slide predict run train.txt > /dev/full",
            1,
            "slide: error: standard output: No space left on device",
            marks=pytest.mark.slow,
        ),
        ("slide --help > /dev/full", 1, "slide: error: standard output: No space left on device"),
        pytest.param("slide train --help > /dev/full", 1, "slide: error: standard output: ", marks=pytest.mark.slow),
        ("slide --version > /dev/full", 1, "slide: error: standard output: No space left on device"),
        ("slide predict run - <&-", 1, "slide: error: -: standard input is closed"),
        pytest.param("slide predict run absent 2>&-", 1, "", marks=pytest.mark.slow),
    ],
)
def test_closed_and_broken_streams(line, code, error, place):
    found, _, errors = shell(f"rm -rf new; {line}", place)
    assert found == code
    assert "Traceback" not in errors and "Exception ignored" not in errors
    assert error is None or (errors.startswith(error) and errors.count("\n") == bool(error))
    assert "new" not in line or (place / "new/model/config.json").is_file()


SCRIPT = """
import sys
from slide_fast import SlideClassifier
from slide_fast.data import read_dataset
data = read_dataset("train.txt")
classifier = SlideClassifier(hidden=(4,), epochs=2, micro_batch=16, n_workers=2, verbose=True).fit(*data)
classifier.save("saved")
"""


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "2>&-"])
def test_a_script_trains_with_closed_streams(streams, place):
    (place / "script.py").write_text(SCRIPT)
    assert shell(f"rm -rf saved; python script.py {streams}", place)[0] == 0
    assert SlideClassifier.load(place / "saved").predict(DATA.features)


@POSIX
def test_descriptors_keep_off_the_standard_ones(place):
    script = """
import os
from slide_fast.parallel.streams import off_standard_descriptors
with off_standard_descriptors():
    assert os.open(os.devnull, os.O_RDONLY) > 2
assert os.open(os.devnull, os.O_RDONLY) == 0
"""
    assert shell(f"python -c '{script}' <&- >&-", place)[0] == 0
    with off_standard_descriptors():  # changes nothing where they are there
        os.fstat(0)


DAEMON = """
import sys, threading
from slide_fast import SlideClassifier
from slide_fast.data import read_dataset
data, n_workers, begun = read_dataset("train.txt"), int(sys.argv[1]), threading.Event()

def train():
    classifier = SlideClassifier(hidden=(4,), epochs=10**6, micro_batch=16, n_workers=n_workers)
    classifier.fit(*data, callback=lambda event: event["kind"] == sys.argv[2] and begun.set())

threading.Thread(target=train, daemon=True).start()
begun.wait()
"""


@pytest.mark.parametrize("n_workers, kind", [
    (2, "start"),
    *(pytest.param(n, kind, marks=pytest.mark.slow) for n in (1, 2) for kind in ("memory", "start", "progress")
      if (n, kind) != (2, "start")),
])  # fmt: skip
def test_a_daemon_thread_that_trains_ends_in_silence(n_workers, kind, place):
    (place / "daemon.py").write_text(DAEMON)
    assert shell(f"python -X dev -W error daemon.py {n_workers} {kind}", place) == (0, "", "")


AT_EXIT = """
import atexit
from slide_fast.data import read_dataset
from slide_fast.prediction import predict_topk
from slide_ref.common.storage.model_folder import load_model
from slide_ref.common.parameters import layers_of
model, data = load_model("run/model"), read_dataset("train.txt")
atexit.register(lambda: print(predict_topk(layers_of(model.arrays), data.features, 3, 2)[0].shape))
"""


def test_prediction_works_while_the_interpreter_ends(place):
    (place / "at_exit.py").write_text(AT_EXIT)
    assert shell("python at_exit.py", place) == (0, "(60, 3)\n", "")


def holdings():
    """All that a process has, by name."""
    gc.collect()
    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGPIPE, signal.SIGCHLD] if os.name == "posix" else [])]
    found = {
        "handlers": [signal.getsignal(number) for number in numbers],
        "filters": (list(warnings.filters), warnings.showwarning),
        "errors": (np.geterr(), np.geterrcall(), np.get_printoptions()),
        "random": (random.getstate(), str(np.random.get_state())),  # noqa: NPY002
        "start": multiprocessing.get_start_method(allow_none=True),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "logging": [(logger.level, list(logger.handlers)) for logger in map(logging.getLogger, (None, "slide_fast"))],
        "bars": (getattr(tqdm, "_lock", None), tqdm.monitor, tqdm.monitor_interval, len(tqdm._instances)),
        "garbage": (gc.isenabled(), gc.get_threshold()),
        "path": list(sys.path),
        "streams": [(stream, stream.encoding, stream.errors) for stream in (sys.stdout, sys.stderr)],
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.getrecursionlimit()),
        "switching": sys.getswitchinterval(),
        "threads": threading.enumerate(),
        "exit": atexit._ncallbacks(),
        "blas": [library["num_threads"] for library in threadpool_info()],
    }
    if sys.platform == "linux":
        found["descriptors"] = sorted(os.listdir("/proc/self/fd"))
        found["children"] = Path("/proc/self/task", str(os.getpid()), "children").read_text()
        found["affinity"] = os.sched_getaffinity(0)
        found["umask"] = [line for line in Path("/proc/self/status").read_text().splitlines() if "Umask" in line]
        found["limits"] = Path("/proc/self/limits").read_text()
    return found


def fails(kind, error):
    def callback(event):
        if event["kind"] == kind:
            raise error

    return callback


def press_ctrl_c(event):
    if event["kind"] == "progress":
        signal.raise_signal(signal.SIGINT)


ACTIONS = {
    "fit": lambda place: classifier().fit(*DATA, eval_set=DATA),
    "fit, 2 workers": lambda place: classifier(2).fit(*DATA, eval_set=DATA),
    "fit, on a screen": lambda place: classifier(verbose=True).fit(*DATA),
    "predict": lambda place: [
        SlideClassifier.load(place / "run/model").predict_topk(DATA.features, mode=mode) for mode in ("exact", "lsh")
    ],
    "predict_proba": lambda place: SlideClassifier.load(place / "run/model").predict_proba(DATA.features),
    "save": lambda place: SlideClassifier.load(place / "run/model", mmap=True).save(place / "again"),
    "error, before": lambda place: classifier(settings={"decay": "no such"}).fit(*DATA),
    "error": lambda place: classifier().fit(*DATA, callback=fails("progress", OSError())),
    "error, 2 workers": lambda place: classifier(2).fit(*DATA, callback=fails("progress", OSError())),
    "interrupt": lambda place: classifier().fit(*DATA, callback=fails("start", KeyboardInterrupt())),
    "Ctrl-C": lambda place: classifier().fit(*DATA, callback=press_ctrl_c),
    "Ctrl-C, 2 workers": lambda place: classifier(2).fit(*DATA, callback=press_ctrl_c),
    "train": lambda place: main(["train", f"{place}/train.txt", "--out", f"{place}/other", *SMALL]),
    "evaluate": lambda place: main(["evaluate", f"{place}/run", f"{place}/train.txt", "--mode", "index"]),
    "predict by command": lambda place: main(["predict", f"{place}/run", f"{place}/train.txt"]),
    "plot, which fails": lambda place: main(["plot", f"{place}/run"]),
    "no such file": lambda place: main(["predict", f"{place}/run", f"{place}/absent"]),
    "bad use": lambda place: main(["predict"]),
}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow if number % 2 else []) for number, name in enumerate(ACTIONS)
])  # fmt: skip
def test_a_process_is_left_as_it_was_found(name, place, monkeypatch):
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(io.BytesIO(), "latin-1", "strict"))
    monkeypatch.setitem(sys.modules, "ipykernel", None)  # so that there is a bar
    with suppress(Exception, KeyboardInterrupt, SystemExit):
        ACTIONS[name](place)  # modules are imported, and threads of BLAS started, once
    before = holdings()
    with np.errstate(all="warn"), suppress(Exception, KeyboardInterrupt, SystemExit):
        ACTIONS[name](place)
    after = holdings()
    assert {key: value for key, value in after.items() if value != before[key]} == {}


BARS = """
import sys, tqdm
from slide_fast import SlideClassifier
from slide_fast.data import read_dataset
sys.modules["ipykernel"] = None
lock = vars(tqdm.tqdm).get("_lock")
SlideClassifier(hidden=(4,), epochs=2, n_workers=1, verbose=True).fit(*read_dataset("train.txt"))
assert vars(tqdm.tqdm).get("_lock") is lock and tqdm.tqdm.monitor is None
"""


def test_the_first_run_leaves_the_callers_bars_alone(place):
    (place / "bars.py").write_text(BARS)
    assert shell("python bars.py", place)[0] == 0


def test_text_that_streams_refuse_is_shown_while_a_command_runs(place, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii", "strict"))
    assert main(["info", f"{place}/run"]) == 0
    assert "→" in written.getvalue().decode("utf-8")
    assert (sys.stdout.encoding, sys.stdout.errors) == ("ascii", "strict")
