"""A mutation check: put one fault at a time into a copy of the fast path and see whether the agreement tests notice.

    python tests/mutate.py              all faults of faults.txt
    python tests/mutate.py sampling     those whose file or name holds this word

Ends with exit code 1 if a fault survives, or if the text it replaces is no longer in the file: the fault must then be
written anew. A fault that survives asks for a test.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SECONDS_TO_HANG = 90
AT_ONCE = 2


class Fault(NamedTuple):
    """`new` takes the place of `old` in a file of the fast path; the agreement test must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


def read_faults() -> list[Fault]:
    """The faults of faults.txt.

    A block ``== FILE TEST`` says where those that follow are made and which test file must notice. The block of a
    fault is its name, then the old text in lines that begin with ``-``, then the new text in lines that begin with
    ``+``.
    """
    faults = []
    file = test = ""
    for block in (ROOT / "tests" / "faults.txt").read_text(encoding="utf-8").strip().split("\n\n"):
        name, *lines = block.split("\n")
        if name.startswith("== "):
            _, file, test = name.split()
        else:
            old, new = ("\n".join(line[2:] for line in lines if line[0] == sign) for sign in "-+")
            faults.append(Fault(name, file, old, new, f"tests/agreement/{test}"))
    return faults


def run_tests(folder: str, *tests: str, seconds: float = SECONDS_TO_HANG) -> subprocess.CompletedProcess[str]:
    """Run agreement tests against the copy of the fast path in `folder`, up to the first failure."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--hypothesis-profile=mutation"]
    path = os.pathsep.join([folder, str(ROOT)])  # the fast path of the copy, the reference of this checkout
    place = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), *(str(ROOT / test) for test in tests)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *place],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def copy_of_the_fast_path(folder: str) -> Path:
    copy = Path(folder, "slide_fast")
    shutil.copytree(ROOT / "slide_fast", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def verdict(fault: Fault) -> tuple[bool, str]:
    """Whether the fault was caught, and by what."""
    with tempfile.TemporaryDirectory() as folder:
        path = copy_of_the_fast_path(folder) / fault.file
        text = path.read_text(encoding="utf-8")
        if fault.old not in text:
            return False, f"STALE: {fault.old!r} is not in the file"
        path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        try:
            result = run_tests(folder, fault.test)
        except subprocess.TimeoutExpired:
            return True, "caught: the tests hang"
    if result.returncode == 1:
        failed = re.search(r"^FAILED \S*::(\S+)", result.stdout, re.MULTILINE)
        return True, f"caught by {failed[1] if failed else '?'}"
    return False, "SURVIVES" if result.returncode == 0 else f"BROKEN: {result.stdout[-500:]}{result.stderr[-500:]}"


def check(word: str = "") -> list[str]:
    """Try all faults whose file or name holds a word; prints a line for each, returns those not caught."""
    faults = [fault for fault in read_faults() if word in fault.file or word in fault.name]
    with tempfile.TemporaryDirectory() as folder:
        copy_of_the_fast_path(folder)
        result = run_tests(folder, *sorted({fault.test for fault in faults}), seconds=10 * SECONDS_TO_HANG)
    if result.returncode:
        return [f"the tests fail without any fault:\n{result.stdout[-3000:]}{result.stderr[-3000:]}"]
    missed = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for fault, (caught, how) in zip(faults, threads.map(verdict, faults), strict=True):
            line = f"{fault.file}: {fault.name}: {how}"
            print(line, flush=True)
            missed += [] if caught else [line]
    return missed


if __name__ == "__main__":
    not_caught = check(*sys.argv[1:2])
    print(*not_caught, f"{len(not_caught)} not caught", sep="\n")
    sys.exit(bool(not_caught))
