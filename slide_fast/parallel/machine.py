"""CPUs and memory available on this machine and in the container around this process."""

from __future__ import annotations

import math
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .units import size

ROOT = Path("/")


def _text(path: Path) -> str:
    """Read a kernel file; "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number_after(path: Path, key: str) -> int | None:
    """Find the number after `key` in a file with one key and value per line."""
    found = re.search(rf"^{key}\s+(\d+)", _text(path), re.MULTILINE)
    return int(found[1]) if found else None


def _cgroup_folders(controller: str, root: Path) -> Iterator[Path]:
    """List the folders of this process's control group and of all its ancestors: a limit at any level applies."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts = ["sys/fs/cgroup", "sys/fs/cgroup/unified"]  # version 2, alone or beside version 1
        else:
            mounts = [f"sys/fs/cgroup/{controller}"] if controller in controllers.split(",") else []
        parts = [part for part in path.split("/") if part]
        for mount in mounts:
            yield from ((root / mount).joinpath(*parts[:n]) for n in range(len(parts), -1, -1))


def available_cpus(root: Path = ROOT) -> int:
    """Count the CPUs that this process may use: by affinity and by control group quota (v1 or v2), rounded up.

    Parameters
    ----------
    root : Path
        Folder that contains ``proc`` and ``sys``.

    Returns
    -------
    int
        At least 1.
    """
    if hasattr(os, "process_cpu_count"):
        cpus = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    for folder in _cgroup_folders("cpu", root):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):  # without a limit: "max" or "-1"
            cpus = min(cpus, math.ceil(int(quota) / int(period)))
    return max(1, cpus)


def memory_left(root: Path = ROOT) -> int | None:
    """Return the bytes this process can allocate before the machine or its control group (v1 or v2) runs out.

    Parameters
    ----------
    root : Path
        Folder that contains ``proc`` and ``sys``.

    Returns
    -------
    int or None
        None if unknown (not Linux).
    """
    available = _number_after(root / "proc/meminfo", "MemAvailable:")
    left = [] if available is None else [available * 1024]
    for folder in _cgroup_folders("memory", root):
        for limit, usage, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, used = _text(folder / limit), _text(folder / usage)
            if most.isdecimal() and used.isdecimal():
                reclaimable = _number_after(folder / "memory.stat", cache) or 0
                left.append(max(0, int(most) - int(used) + reclaimable))
    return min(left, default=None)


def require_memory(n_bytes: int, what: str, advice: str) -> None:
    """Raise MemoryError, with both sizes, if less than `n_bytes` is left; `what` begins the message: "… needs"."""
    left = memory_left()
    if left is not None and n_bytes > left:
        raise MemoryError(f"{what} {size(n_bytes)}, but only {size(left)} are left; {advice}")


def cpu_model() -> str:
    """Return the processor's name, as far as the system knows it."""
    found = re.search(r"^model name\s*:(.*)$", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def proportional_set_size(pid: int | str = "self") -> int:
    """Measure the memory of a process in bytes; a page shared by n processes counts as 1/n (PSS).

    Parameters
    ----------
    pid : int or "self"

    Returns
    -------
    int
        The resident set size if the kernel does not provide the PSS; 0 if the process is gone or the system has no
        ``/proc``.
    """
    pss = _number_after(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")
    if pss is not None:
        return pss * 1024
    pages = _text(Path(f"/proc/{pid}/statm")).split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else 0


class MemoryMeter:
    """Samples the memory of this process and its workers in a background thread; a context manager.

    Sampling a process with many mapped pages takes the kernel milliseconds, so the gap between samples grows with the
    time of the last one: metering costs at most 2 % of one CPU.

    Parameters
    ----------
    pids : callable
        Returns the ids of the current workers; called in the background thread.
    interval : float
        Minimum seconds between two samples.

    Attributes
    ----------
    peak_bytes : int
        Largest sum of `proportional_set_size` seen so far.
    """

    def __init__(self, pids: Callable[[], Iterable[int]] = tuple, interval: float = 0.5):
        self.peak_bytes = 0
        self._pids, self._interval = pids, interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep_sampling, name="memory-meter", daemon=True)

    def sample(self) -> int:
        """Measure now, and return the sum in bytes."""
        total = proportional_set_size() + sum(proportional_set_size(pid) for pid in self._pids())
        self.peak_bytes = max(self.peak_bytes, total)
        return total

    def _keep_sampling(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            start = time.perf_counter()
            self.sample()
            pause = max(self._interval, 50 * (time.perf_counter() - start))

    def start(self) -> MemoryMeter:
        """Begin sampling; a meter can be started once."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Take a last sample and end the thread; a second call does nothing."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._thread.join()
            self.sample()

    def __enter__(self) -> MemoryMeter:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()
