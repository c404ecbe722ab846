"""A mutation check: put one fault at a time into a copy of the fast path and see whether the agreement tests notice.

    python tests/mutate.py              all faults of faults.txt
    python tests/mutate.py sampling     those whose file or name holds this word

Ends with exit code 1 if a fault survives, or if the text it replaces is no longer in the file: the fault must then be
written anew. A fault that survives asks for a test.

Each fault has a process of its own, forked from one that has NumPy and the testing tools in memory already. Its tests
are run in the order of the time that they take without any fault, the quickest first.
"""

import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SECONDS_TO_HANG = 90
AT_ONCE = 2
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["numpy", "hypothesis.strategies", "threadpoolctl", "pytest"])  # no fast path in it


class Fault(NamedTuple):
    """`new` takes the place of `old` in a file of the fast path; the agreement test must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


class Outcome(NamedTuple):
    """How a run of tests ended: pytest's exit code, None where it hung; and what it wrote."""

    code: int | None
    text: str


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


class Quickest:
    """A plugin of pytest: keeps the seconds that each test takes, and runs the tests in the order of those given."""

    def __init__(self, seconds: dict[str, float]):
        self.known, self.found = seconds, {}

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: self.known.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report):
        self.found[report.nodeid] = self.found.get(report.nodeid, 0.0) + report.duration


def _run(folder: str, tests: list[str], seconds: dict[str, float]) -> None:
    """What the forked process does: pytest on tests, with the copy of the fast path in `folder`."""
    import pytest
    from threadpoolctl import threadpool_limits

    with open(Path(folder, "output"), "w", encoding="utf-8") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    os.chdir(folder)
    sys.path[:0] = [folder, str(ROOT)]  # the fast path of the copy, the reference of this checkout
    sys.dont_write_bytecode = True
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--hypothesis-profile=mutation"]
    options += ["-W", "ignore:Module already imported"]  # plugins, whose assertions stay as they are
    place = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), *(str(ROOT / test) for test in tests)]
    plugin = Quickest(seconds)
    with threadpool_limits(1):
        code = pytest.main([*options, *place], plugins=[plugin])
    Path(folder, "seconds.json").write_text(json.dumps(plugin.found))
    sys.stdout.flush()
    os._exit(code)


def run_tests(folder: str, tests: list[str], seconds: dict[str, float], limit: float = SECONDS_TO_HANG) -> Outcome:
    """Run agreement tests against the copy of the fast path in `folder`, up to the first failure."""
    process = FORKS.Process(target=_run, args=(folder, tests, seconds))
    process.start()
    process.join(limit)
    hangs = process.is_alive()
    if hangs:
        process.kill()
        process.join()
    return Outcome(None if hangs else process.exitcode, Path(folder, "output").read_text(encoding="utf-8"))


def copy_of_the_fast_path(folder: str) -> Path:
    copy = Path(folder, "slide_fast")
    shutil.copytree(ROOT / "slide_fast", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def verdict(fault: Fault, seconds: dict[str, float]) -> tuple[bool, str]:
    """Whether the fault was caught, and by what."""
    with tempfile.TemporaryDirectory() as folder:
        path = copy_of_the_fast_path(folder) / fault.file
        text = path.read_text(encoding="utf-8")
        if fault.old not in text:
            return False, f"STALE: {fault.old!r} is not in the file"
        path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        outcome = run_tests(folder, [fault.test], seconds)
    if outcome.code is None:
        return True, "caught: the tests hang"
    if outcome.code == 1:
        failed = re.search(r"^FAILED \S*::(\S+)", outcome.text, re.MULTILINE)
        return True, f"caught by {failed[1] if failed else '?'}"
    return False, "SURVIVES" if outcome.code == 0 else f"BROKEN: {outcome.text[-1000:]}"


def without_faults(test: str) -> tuple[Outcome, dict[str, float]]:
    """How a test file ends without any fault, and the seconds that each of its tests takes."""
    with tempfile.TemporaryDirectory() as folder:
        copy_of_the_fast_path(folder)
        outcome = run_tests(folder, [test], {}, limit=10 * SECONDS_TO_HANG)
        return outcome, json.loads(Path(folder, "seconds.json").read_text()) if outcome.code == 0 else {}


def check(word: str = "") -> list[str]:
    """Try all faults whose file or name holds a word; prints a line for each, returns those not caught."""
    faults = [fault for fault in read_faults() if word in fault.file or word in fault.name]
    tests = sorted({fault.test for fault in faults})
    seconds: dict[str, float] = {}
    missed = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for outcome, found in threads.map(without_faults, tests):
            seconds |= found
            missed += [] if outcome.code == 0 else [f"the tests fail without any fault:\n{outcome.text[-3000:]}"]
        if missed:
            return missed
        verdicts = threads.map(verdict, faults, [seconds] * len(faults))
        for fault, (caught, how) in zip(faults, verdicts, strict=True):
            line = f"{fault.file}: {fault.name}: {how}"
            print(line, flush=True)
            missed += [] if caught else [line]
    return missed


if __name__ == "__main__":
    not_caught = check(*sys.argv[1:2])
    print(*not_caught, f"{len(not_caught)} not caught", sep="\n")
    sys.exit(bool(not_caught))
