"""Memory: what a run takes is told beforehand, what does not fit is refused at once, and /dev/shm does not matter."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from problems import random_dataset

from slide_fast.datasets.synthetic import generate
from slide_fast.engine import local_engine
from slide_fast.engine.memory_estimate import passing
from slide_fast.parallel import shared_arrays
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.parameters import array_shapes, initialise, layers_of
from slide_ref.common.sparse_rows import Dataset, SparseRows

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


WEIGHED = """
import sys
from functools import partial
from pathlib import Path
from slide_fast.cli import demo
from slide_fast.cli.main import main
from slide_fast.cli.training_run import TrainingRun

def add_memory_and_weigh(run, *others, add_memory=TrainingRun._add_memory):
    add_memory(run, *others)
    event = others[-1]
    if event["kind"] in ("epoch", "evaluation"):
        run.session.memory()

TrainingRun._add_memory = add_memory_and_weigh
demo.build_task = partial(demo.build_task, Path(sys.argv[1]))
sys.exit(main(sys.argv[2:]))
"""


def announced_and_used(command, library="unused"):
    """Bytes that a command says it takes at the peak, and took.

    It is weighed after each epoch and evaluation too: a short run on a fast machine may end between two samples of
    the meter. `library` is what the demo reads in place of the standard library.
    """
    arguments = [sys.executable, "-c", WEIGHED, library, *command]
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = json.loads(done.stdout.splitlines()[-1])["peak_memory_bytes"]
    number, unit = re.search(r"memory +about ([\d.]+) (MB|GB) at the peak: data", done.stderr).groups()
    return float(number) * {"MB": 1e6, "GB": 1e9}[unit], used


def test_s40_what_orthonormal_bases_take_is_counted():
    config = Config(hidden=(256,), initial_weights="mirrored")
    shapes = array_shapes(config, 4_000, 9)
    layers = layers_of({name: np.empty(shape, np.float32) for name, shape in shapes.items()})
    tracemalloc.start()
    initialise(layers, config)
    used, told = tracemalloc.get_traced_memory()[1], passing(config, 1, (4_000, 9), 0)
    tracemalloc.stop()
    assert told / 2 < used < told  # LAPACK's copies are not traced


def assert_within_a_tenth(announced, used):
    print(f"announced {announced / 1e6:.0f} MB, used {used / 1e6:.0f} MB")
    assert abs(announced - used) <= 0.1 * used


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generate(folder, "wiki10-31k", n_samples=3000, n_test=500)
    return folder


@linux
@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("options", ["", "--test {0}/test.txt --patience 9"])
def test_the_estimate_is_within_a_tenth_of_what_is_used(files, tmp_path, n_workers, options):
    command = f"train {files}/train.txt --out {tmp_path}/run --workers {n_workers} --json --preset fast"
    command += " --checkpoint-every 1 --epochs"
    given, epochs = options.format(files).split(), 1 + n_workers  # so that each of two workers gets all kinds of work
    assert_within_a_tenth(*announced_and_used([*command.split(), epochs, *given]))
    assert_within_a_tenth(*announced_and_used([*command.split(), epochs + n_workers, *given, "--resume"]))


@linux
@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("sizes", [(30_000, 10_000), (4_000, 60_000)])  # of many labels the index counts most
def test_the_estimate_of_a_wide_network_is_within_a_tenth(tmp_path, sizes, n_workers):
    generate(tmp_path, "wiki10-31k", n_samples=1500, n_test=1, n_features=sizes[0], n_labels=sizes[1])
    command = f"train {tmp_path}/train.txt --out {tmp_path}/run --workers {n_workers} --json --preset wide --epochs"
    assert_within_a_tenth(*announced_and_used([*command.split(), 1 + n_workers]))


@linux
@pytest.mark.slow
def test_the_estimate_of_the_demo_is_within_a_tenth(tmp_path):
    """On a part of the library, to the end: how many pages are touched by a given second depends on the machine."""
    library = tmp_path / "library"
    library.mkdir()
    for path in Path(sysconfig.get_path("stdlib")).glob("[a-h]*.py"):
        shutil.copy(path, library)
    command = ["demo", "--max-seconds", 10**6, "--json", "--out", tmp_path / "run"]
    assert_within_a_tenth(*announced_and_used(command, library))


IN_PYTHON = """
import sys
from slide_fast import SlideClassifier
from slide_fast.data import read_dataset
from slide_fast.parallel.machine import MemoryMeter
from slide_fast.training import fit
from slide_ref.common.config import Config

last = {"start": {"pids": tuple}}
with MemoryMeter(lambda: last["start"]["pids"](), 0.05) as meter:
    data, n_workers = read_dataset(sys.argv[1]), int(sys.argv[3])
    note = lambda event: last.update({event["kind"]: event})
    if sys.argv[2] == "fit":
        fit(Config(epochs=1 + n_workers), data, n_workers=n_workers, callback=note)
    else:
        SlideClassifier(128, epochs=1 + n_workers, n_workers=n_workers).fit(data.features, data.labels, callback=note)
print(last["memory"]["total"], meter.peak_bytes)
"""


@linux
@pytest.mark.slow
@pytest.mark.parametrize("entry", ["fit", "classifier"])
@pytest.mark.parametrize("n_workers", ["1", "2"])
def test_the_estimate_in_python_is_within_a_tenth(files, entry, n_workers):
    command = [sys.executable, "-c", IN_PYTHON, files / "train.txt", entry, n_workers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert_within_a_tenth(*map(int, done.stdout.split()))


def test_what_does_not_fit_is_refused_before_anything_is_allocated(monkeypatch):
    monkeypatch.setattr("slide_fast.parallel.machine.memory_left", lambda: 1000)
    monkeypatch.setattr(local_engine, "SharedArrays", None)
    with pytest.raises(MemoryError, match=r"besides the data, training needs \d+ kB, but only 1 kB are left; use"):
        fit(Config(hidden=(8,)), random_dataset(0), n_workers=1)


@linux
def test_a_network_that_no_machine_could_hold_is_refused_at_once():
    features, labels = random_dataset(0)
    wide = SparseRows(features.indptr, features.indices, features.data, 2**30)
    with pytest.raises(MemoryError, match=r"needs \d{5}\.\d GB, but only [\d.]+ [GM]B are left"):
        fit(Config(hidden=(4096,)), Dataset(wide, labels), n_workers=1)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd")
def test_nothing_is_taken_from_dev_shm():
    before = os.statvfs("/dev/shm").f_bfree
    with shared_arrays.SharedArrays.create({"W": ((96 << 20,), np.uint8)}) as block:
        block["W"][:] = 1
        assert (before - os.statvfs("/dev/shm").f_bfree) * os.statvfs("/dev/shm").f_bsize < 48 << 20


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd")
def test_a_dev_shm_of_64_megabytes_does_no_harm(tmp_path):
    """As in a container; where this system lets one mount it."""
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    if shutil.which("unshare") is None or subprocess.run([*alone, mount], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system of their own")
    script = (
        "import os, numpy as np; from slide_fast.parallel.shared_arrays import SharedArrays\n"
        "s = os.statvfs('/dev/shm'); print(s.f_blocks * s.f_bsize >> 20)\n"
        "block = SharedArrays.create({'W': ((96 << 20,), 'u1')}); block['W'][:] = 1; print(int(block['W'].sum()) >> 20)"
    )
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*alone, f"{mount} && {sys.executable} {tmp_path}/script.py"], capture_output=True, text=True,
                          env=environment, check=True)  # fmt: skip
    assert done.stdout.split() == ["64", "96"]
