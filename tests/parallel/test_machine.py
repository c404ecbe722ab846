"""CPU counts, memory that is left, and the memory meter; control groups are read from made-up trees of files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slide_fast.parallel import machine

GIB = 2**30


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:  16777216 kB\nMemFree: 1024 kB\nMemAvailable:    8388608 kB\n"}
V2 = {"proc/self/cgroup": "0::/outer/inner\n"}
V1 = {"proc/self/cgroup": "4:memory:/job\n2:cpu,cpuacct:/job\n1:name=systemd:/\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (MEMINFO, 8 * GIB),
        (V2 | MEMINFO, 8 * GIB),
        (V2 | MEMINFO | {"sys/fs/cgroup/outer/memory.max": "max", "sys/fs/cgroup/outer/memory.current": "7"}, 8 * GIB),
        (
            V2 | MEMINFO | {
                "sys/fs/cgroup/outer/memory.max": f"{3 * GIB}\n",  # the limit of a group above counts
                "sys/fs/cgroup/outer/memory.current": f"{2 * GIB}\n",
                "sys/fs/cgroup/outer/memory.stat": f"anon 5\ninactive_file {GIB // 2}\n",
            },
            3 * GIB // 2,
        ),
        (
            V1 | MEMINFO | {
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{2 * GIB}\n",
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{GIB}\n",
                "sys/fs/cgroup/memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 4096\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
            },
            GIB + 4096,
        ),
        (
            V2 | MEMINFO | {"sys/fs/cgroup/memory.max": "100", "sys/fs/cgroup/memory.current": "200"},
            0,
        ),
    ],
)  # fmt: skip
def test_memory_left(tmp_path, files, expected):
    assert machine.memory_left(write_tree(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        (V2 | {"sys/fs/cgroup/outer/inner/cpu.max": "max 100000\n"}, 64),
        (V2 | {"sys/fs/cgroup/outer/inner/cpu.max": "150000 100000\n"}, 2),
        (V2 | {"sys/fs/cgroup/outer/cpu.max": "300000 100000", "sys/fs/cgroup/outer/inner/cpu.max": "max 100000"}, 3),
        (V2 | {"sys/fs/cgroup/outer/cpu.max": "1000 100000\n"}, 1),
        (V1 | {"sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "9"}, 64),
        (V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100\n"}, 4),
    ],
)
def test_available_cpus_honours_quotas(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)
    assert machine.available_cpus(write_tree(tmp_path, files)) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_available_cpus_honours_affinity():
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}}); from slide_fast.parallel.machine import available_cpus as n"
    code += "; print(n())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "1"


def test_this_machine_answers():
    assert machine.available_cpus() >= 1
    assert machine.memory_left() is None or machine.memory_left() > 0
    assert isinstance(machine.cpu_model(), str)


linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@linux
def test_proportional_set_size():
    before = machine.proportional_set_size()
    ballast = bytearray(b"x") * (64 << 20)
    assert machine.proportional_set_size() - before > 0.9 * len(ballast)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert machine.proportional_set_size(child.pid) == 0


@linux
def test_memory_meter_follows_a_changing_list_of_processes():
    pids: list[int] = []
    with machine.MemoryMeter(lambda: pids, interval=0.01) as meter:
        while not meter.peak_bytes:
            time.sleep(0.01)
        alone = meter.peak_bytes
        grow = "import sys; ballast = bytearray(b'x') * (96 << 20); print(flush=True); sys.stdin.read()"
        child = subprocess.Popen([sys.executable, "-c", grow], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        pids.append(child.pid)
        while meter.peak_bytes < alone + (90 << 20):
            time.sleep(0.01)
        child.communicate()
        assert meter.sample() < meter.peak_bytes
    meter.stop()
