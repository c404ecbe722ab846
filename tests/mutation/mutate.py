"""A mutation check: put one fault at a time into a copy of the code and see whether the agreement tests notice.

    python tests/mutation/mutate.py              all faults of faults.txt
    python tests/mutation/mutate.py sampling     those whose file or name holds this word

Ends with exit code 1 if a fault survives, or if the text it replaces is no longer in the file: the fault must then be
written again. A fault that survives asks for a test.

faults.txt names the test by which each fault is caught. This test runs first; the others of its file run only if it
does not notice. Once it runs without any fault too, with a few examples of each property: that all of them pass is
what the suite shows when run with CI=1, as .ci/run does. Each fault has a process of its own, forked from one that has
NumPy and the testing tools in memory already.
"""

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import pytest
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[2]
SECONDS_TO_HANG = 90
AT_ONCE = 2
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["numpy", "hypothesis.strategies", "threadpoolctl", "pytest"])  # no fast path in it


class Fault(NamedTuple):
    """`new` takes the place of `old` in a file of the fast path, or of what both packages share.

    The tests of the file `test` must fail, `by` among them.
    """

    name: str
    file: str
    old: str
    new: str
    test: str
    by: str

    @property
    def is_stale(self) -> bool:
        """Whether the file does not have `old` in it."""
        return self.old not in (ROOT / self.file).read_text(encoding="utf-8")


class Outcome(NamedTuple):
    """How a run of tests ended.

    `code` is pytest's exit code, "hung", or "crashed" before pytest ended; `failed` the first test that failed.
    """

    code: int | str
    failed: str
    text: str


def read_faults() -> list[Fault]:
    """The faults of faults.txt.

    A block ``== FILE TEST`` says where those that follow are made and which file of tests must notice. The block of a
    fault is its name, then the old text in lines that begin with ``-``, the new text in lines that begin with ``+``,
    and ``by`` with the name of a test.
    """
    faults = []
    file = test = ""
    for block in (ROOT / "tests" / "mutation" / "faults.txt").read_text(encoding="utf-8").strip().split("\n\n"):
        name, *lines = block.split("\n")
        if name.startswith("== "):
            _, file, test = name.split()
        else:
            old, new = ("\n".join(line[2:] for line in lines if line[0] == sign) for sign in "-+")
            by = "".join(line.removeprefix("by ") for line in lines if line.startswith("by "))
            faults.append(Fault(name, file, old, new, f"tests/{test}", by))
    return faults


class Failure:
    """A plugin of pytest: the first test that fails, by its name in its file."""

    name = ""

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.name = self.name or report.nodeid.partition("::")[2]


def _run(folder: str, tests: list[str], profile: str) -> None:
    """What the forked process does: pytest on tests, with the copy of the code in `folder`."""
    with open(Path(folder, "output"), "w", encoding="utf-8") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    os.chdir(folder)
    sys.path[:0] = [folder]
    sys.dont_write_bytecode = True
    options = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-m", "not slow"]
    options += ["--hypothesis-profile", profile, "--tb=native", "-p", "no:unraisableexception"]  # saves time
    place = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), *(str(ROOT / test) for test in tests)]
    failure = Failure()
    with threadpool_limits(1):
        code = pytest.main([*options, *place], plugins=[failure])
    sys.stdout.flush()
    Path(folder, "ending").write_text(json.dumps([int(code), failure.name]), encoding="utf-8")
    os._exit(0)


def run_tests(folder: str, tests: list[str], seconds: float, profile: str = "mutation") -> Outcome:
    """Run agreement tests against the copy of the code in `folder`, up to the first failure, for so many seconds.

    The exit code comes by a file: with several threads, `Process.exitcode` may be 255 whatever it was
    (https://github.com/python/cpython/issues/130895).
    """
    process = FORKS.Process(target=_run, args=(folder, tests, profile))
    process.start()
    process.join(seconds)
    code, failed = "hung", ""
    if process.is_alive():
        process.kill()
        process.join()
    else:
        path = Path(folder, "ending")
        code, failed = json.loads(path.read_text(encoding="utf-8")) if path.exists() else ("crashed", "")
    return Outcome(code, failed, Path(folder, "output").read_text(encoding="utf-8"))


def copy_code(folder: str) -> None:
    for package in ("slide_fast", "slide_ref"):
        shutil.copytree(ROOT / package, Path(folder, package), ignore=shutil.ignore_patterns("__pycache__"))


def with_fault(fault: Fault, test: str, seconds: float = SECONDS_TO_HANG) -> Outcome:
    """How tests end against code with a fault."""
    with tempfile.TemporaryDirectory() as folder:
        copy_code(folder)
        path = Path(folder, fault.file)
        path.write_text(path.read_text(encoding="utf-8").replace(fault.old, fault.new), encoding="utf-8")
        return run_tests(folder, [test], seconds)


def verdict(fault: Fault) -> tuple[bool, str]:
    """Whether the fault was caught, and by what."""
    if fault.is_stale:
        return False, f"STALE: {fault.old!r} is not in the file"
    outcome = with_fault(fault, f"{fault.test}::{fault.by}") if fault.by else None
    if outcome is not None and outcome.code in (1, "hung"):
        return True, f"caught by {fault.by}" + (", which hung" if outcome.code == "hung" else "")
    outcome = with_fault(fault, fault.test, 10 * SECONDS_TO_HANG)
    if outcome.code == "hung":
        return True, "caught: the tests hang"
    if outcome.code == 1:
        return True, f"caught by {outcome.failed}, though not by the test that faults.txt names, {fault.by or 'none'}"
    return False, "SURVIVES" if outcome.code == 0 else f"BROKEN: {outcome.text[-1000:]}"


def without_faults(tests: list[str]) -> Outcome:
    """How tests end without any fault."""
    with tempfile.TemporaryDirectory() as folder:
        copy_code(folder)
        return run_tests(folder, tests, 10 * SECONDS_TO_HANG, "few examples")


def named(faults: list[Fault], file: str) -> list[str]:
    """The tests of a file that catch some of the faults; the file itself where one names no test."""
    own = [fault for fault in faults if fault.test == file]
    return sorted({f"{file}::{fault.by}" for fault in own}) if all(fault.by for fault in own) else [file]


def check(word: str = "") -> list[str]:
    """Try all faults whose file or name holds a word; prints a line for each, returns those not caught."""
    faults = [fault for fault in read_faults() if word in fault.file or word in fault.name]
    missed = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        clean = {threads.submit(without_faults, named(faults, file)): file for file in sorted({f.test for f in faults})}
        verdicts = {threads.submit(verdict, fault): fault for fault in faults}
        for done in as_completed(clean):
            outcome = done.result()
            if outcome.code != 0:
                print(outcome.text, flush=True)
                missed.append(f"{clean[done]}: {outcome.code} without any fault")
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
