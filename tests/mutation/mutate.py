"""A mutation check: put one fault at a time into a copy of the code and see whether the agreement tests notice.

    python tests/mutation/mutate.py              all faults of faults.txt
    python tests/mutation/mutate.py sampling     those whose file or name holds this word

Ends with exit code 1 if a fault survives, or if the text it replaces is no longer in the file: the fault must then be
written again. A fault that survives asks for a test.

Each fault has a process of its own, forked from one that has NumPy and the testing tools in memory already. A run
without any fault tells which tests come through the lines of the fault: these are first, and the quick before the slow.
That run tries a few examples of each property; that all of them pass is what the suite shows when run with CI=1, as
.ci/run does.
"""

import cProfile
import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import pytest
from hypothesis import is_hypothesis_test
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[2]
SECONDS_TO_HANG = 90
AT_ONCE = 2
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["numpy", "hypothesis.strategies", "threadpoolctl", "pytest"])  # no fast path in it


class Fault(NamedTuple):
    """`new` takes the place of `old` in a file of the fast path, or of what both packages share; the test must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str

    @property
    def lines(self) -> list[int]:
        """The lines of the file where `old` begins or goes on; none if it is not there."""
        text, found = (ROOT / self.file).read_text(encoding="utf-8"), []
        for match in re.finditer(re.escape(self.old), text):
            first = text.count("\n", 0, match.start()) + 1
            found += range(first, first + match[0].count("\n") + 1)
        return found


class Outcome(NamedTuple):
    """How a run of tests ended: pytest's exit code, "hung", or "crashed" before pytest ended; and what it wrote."""

    code: int | str
    text: str


def read_faults() -> list[Fault]:
    """The faults of faults.txt.

    A block ``== FILE TEST`` says where those that follow are made and which file of tests must notice. The block of a
    fault is its name, then the old text in lines that begin with ``-``, then the new text in lines that begin with
    ``+``.
    """
    faults = []
    file = test = ""
    for block in (ROOT / "tests" / "mutation" / "faults.txt").read_text(encoding="utf-8").strip().split("\n\n"):
        name, *lines = block.split("\n")
        if name.startswith("== "):
            _, file, test = name.split()
        else:
            old, new = ("\n".join(line[2:] for line in lines if line[0] == sign) for sign in "-+")
            faults.append(Fault(name, file, old, new, f"tests/{test}"))
    return faults


class Course(NamedTuple):
    """How a test went without any fault: seconds, and the first and last lines of the code that it ran, by file."""

    seconds: float
    ran: dict[str, list[list[int]]]

    def comes_through(self, fault: Fault) -> bool:
        return any(first <= line <= last for first, last in self.ran.get(fault.file, ()) for line in fault.lines)


class Watch:
    """A plugin of pytest: writes down the course of each test. What runs in other processes and threads is not seen."""

    def __init__(self, folder: str):
        self.home, self.courses = os.path.join(folder, ""), {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        profile = cProfile.Profile(subcalls=False, builtins=False)
        started = time.perf_counter()
        profile.enable()
        try:
            return (yield)
        finally:
            profile.disable()
            seconds = (time.perf_counter() - started) * (10 if is_hypothesis_test(item.obj) else 1)  # see `_run`
            ran: dict[str, list[list[int]]] = {}
            for code in (entry.code for entry in profile.getstats() if isinstance(entry.code, CodeType)):
                if code.co_filename.startswith(self.home):
                    lines = [line for _, _, line in code.co_lines() if line is not None]
                    ran.setdefault(code.co_filename.removeprefix(self.home), []).append([min(lines), max(lines)])
            self.courses[item.nodeid] = Course(seconds, ran)


class Order:
    """A plugin of pytest: tests in the order of their ranks, those without a rank first."""

    def __init__(self, ranks: dict[str, int]):
        self.ranks = ranks

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: self.ranks.get(item.nodeid, -1))


def _run(folder: str, tests: list[str], ranks: dict[str, int] | None) -> None:
    """What the forked process does: pytest on tests, with the copy of the code in `folder`."""
    with open(Path(folder, "output"), "w", encoding="utf-8") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    os.chdir(folder)
    sys.path[:0] = [folder]
    sys.dont_write_bytecode = True
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    options += ["--hypothesis-profile", "courses" if ranks is None else "mutation"]  # a tenth of the examples
    options += ["-W", "ignore:Module already imported"]  # plugins, whose assertions stay as they are
    place = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), *(str(ROOT / test) for test in tests)]
    plugin = Watch(folder) if ranks is None else Order(ranks)
    with threadpool_limits(1):
        code = pytest.main([*options, *place], plugins=[plugin])
    if ranks is None:
        Path(folder, "courses.json").write_text(json.dumps(plugin.courses), encoding="utf-8")
    sys.stdout.flush()
    Path(folder, "code").write_text(str(int(code)), encoding="utf-8")
    os._exit(0)


def run_tests(folder: str, tests: list[str], ranks: dict[str, int] | None, limit: float) -> Outcome:
    """Run agreement tests against the copy of the code in `folder`, up to the first failure.

    In the order of `ranks`; if there are none, the course of each test is written down. The exit code comes by a file:
    with several threads, `Process.exitcode` may be 255 whatever it was (https://github.com/python/cpython/issues/130895).
    """
    process = FORKS.Process(target=_run, args=(folder, tests, ranks))
    process.start()
    process.join(limit)
    ending: int | str = "hung"
    if process.is_alive():
        process.kill()
        process.join()
    else:
        code = Path(folder, "code")
        ending = int(code.read_text(encoding="utf-8")) if code.exists() else "crashed"
    return Outcome(ending, Path(folder, "output").read_text(encoding="utf-8"))


def copy_code(folder: str) -> None:
    for package in ("slide_fast", "slide_ref"):
        shutil.copytree(ROOT / package, Path(folder, package), ignore=shutil.ignore_patterns("__pycache__"))


def verdict(fault: Fault, courses: dict[str, Course]) -> tuple[bool, str]:
    """Whether the fault was caught, and by what."""
    if not fault.lines:
        return False, f"STALE: {fault.old!r} is not in the file"
    order = sorted(courses, key=lambda test: (not courses[test].comes_through(fault), courses[test].seconds))
    with tempfile.TemporaryDirectory() as folder:
        copy_code(folder)
        path = Path(folder, fault.file)
        path.write_text(path.read_text(encoding="utf-8").replace(fault.old, fault.new), encoding="utf-8")
        limit = SECONDS_TO_HANG + 3 * sum(course.seconds for course in courses.values())
        outcome = run_tests(folder, [fault.test], {test: rank for rank, test in enumerate(order)}, limit)
    if outcome.code == "hung":
        return True, "caught: the tests hang"
    if outcome.code == 1:
        failed = re.search(r"^FAILED \S*::(\S+)", outcome.text, re.MULTILINE)
        return True, f"caught by {failed[1] if failed else '?'}"
    return False, "SURVIVES" if outcome.code == 0 else f"BROKEN: {outcome.text[-1000:]}"


def without_faults(test: str) -> tuple[Outcome, dict[str, Course]]:
    """How a test file ends without any fault, and the course of each of its tests."""
    with tempfile.TemporaryDirectory() as folder:
        copy_code(folder)
        outcome = run_tests(folder, [test], None, 10 * SECONDS_TO_HANG)
        found = json.loads(Path(folder, "courses.json").read_text(encoding="utf-8")) if outcome.code == 0 else {}
    return outcome, {name: Course(*course) for name, course in found.items()}


def check(word: str = "") -> list[str]:
    """Try all faults whose file or name holds a word; prints a line for each, returns those not caught."""
    faults = [fault for fault in read_faults() if word in fault.file or word in fault.name]
    tests = sorted({fault.test for fault in faults}, key=lambda test: -(ROOT / test).stat().st_size)  # long ones first
    missed = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        clean = {threads.submit(without_faults, test): test for test in tests}
        verdicts = {}
        for done in as_completed(clean):
            outcome, courses = done.result()
            if outcome.code != 0:
                print(outcome.text, flush=True)
                missed.append(f"{clean[done]}: {outcome.code} without any fault")
                continue
            own = [fault for fault in faults if fault.test == clean[done]]
            verdicts |= {threads.submit(verdict, fault, courses): fault for fault in own}
        for done in as_completed(verdicts):
            (caught, how), fault = done.result(), verdicts[done]
            line = f"{fault.file}: {fault.name}: {how}"
            print(line, flush=True)
            missed += [] if caught else [line]
    return missed


if __name__ == "__main__":
    not_caught = check(*sys.argv[1:2])
    print(*not_caught, f"{len(not_caught)} not caught", sep="\n")
    sys.exit(bool(not_caught))
