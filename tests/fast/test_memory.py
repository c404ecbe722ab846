"""Memory: what a run takes is told beforehand, what does not fit is refused at once, and /dev/shm does not matter."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from problems import random_dataset

from slide_fast import memory, run, shared_arrays
from slide_fast.generate import generate
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.sparse_rows import Dataset, SparseRows

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_estimate_is_within_a_tenth_of_what_is_used(tmp_path, n_workers):
    """Without test samples: the estimate is of training."""
    generate(tmp_path, "wiki10-31k", n_samples=3000, n_test=1)
    command = f"train {tmp_path}/train.txt --out {tmp_path}/run --epochs 8 --workers {n_workers} --json"
    done = subprocess.run([sys.executable, "-m", "slide_fast", *command.split()], capture_output=True, text=True)
    used = json.loads(done.stdout.splitlines()[-1])["peak_memory_bytes"]
    number, unit = re.search(r"memory +about ([\d.]+) (MB|GB) at the peak: data", done.stderr).groups()
    estimate = float(number) * {"MB": 1e6, "GB": 1e9}[unit]
    print(f"estimate {estimate / 1e6:.0f} MB, used {used / 1e6:.0f} MB")
    assert abs(estimate - used) <= 0.1 * used


def test_what_does_not_fit_is_refused_before_anything_is_allocated(monkeypatch):
    monkeypatch.setattr(memory, "memory_left", lambda: 1000)
    monkeypatch.setattr(run, "SharedArrays", None)
    with pytest.raises(MemoryError, match=r"training needs \d+ kB more than the data, and 1 kB are left; take"):
        fit(Config(hidden=(8,)), random_dataset(0), n_workers=1)


@linux
def test_a_network_that_no_machine_could_hold_is_refused_at_once():
    features, labels = random_dataset(0)
    wide = SparseRows(features.indptr, features.indices, features.data, 2**30)
    with pytest.raises(MemoryError, match=r"needs \d{5}\.\d GB more than the data, and [\d.]+ [GM]B are left"):
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
        "import os, numpy as np; from slide_fast.shared_arrays import SharedArrays\n"
        "s = os.statvfs('/dev/shm'); print(s.f_blocks * s.f_bsize >> 20)\n"
        "block = SharedArrays.create({'W': ((96 << 20,), 'u1')}); block['W'][:] = 1; print(int(block['W'].sum()) >> 20)"
    )
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*alone, f"{mount} && {sys.executable} {tmp_path}/script.py"], capture_output=True, text=True,
                          env=environment, check=True)  # fmt: skip
    assert done.stdout.split() == ["64", "96"]
