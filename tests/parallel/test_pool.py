"""The pool with a toy state: work, deaths at all moments, stops, and what is left behind (nothing)."""

import gc
import math
import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from slide_fast.parallel.in_process import InProcess
from slide_fast.parallel.pool import Pool
from slide_fast.parallel.shared_arrays import SharedArrays
from slide_ref.common.errors import DataError, WorkerDiedError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

TOY = '''
import os, signal, struct, sys, time
import numpy as np

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__("odd")

class State:
    def __init__(self, setup, arrays):
        self.setup, self.arrays = setup, arrays

    def run(self, task):
        name, *arguments = task
        return getattr(self, name)(*arguments)

    def add(self, i, seconds=0.0):
        time.sleep(seconds)
        self.arrays["counts"][i] += 1
        return i * 10

    def first_time(self, action, *arguments):
        """Do something deadly once; the next worker that gets this task returns."""
        if self.arrays["flags"][0]:
            return "survived"
        self.arrays["flags"][0] = 1
        return getattr(self, action)(*arguments)

    def kill(self, number):
        os.kill(os.getpid(), number)
        time.sleep(10)

    def exit(self, code):
        sys.exit(code)

    def half_a_message(self):
        os.write(int(sys.argv[1]), struct.pack("!i", 1000) + b"half")
        self.kill(signal.SIGKILL)

    def spin(self):
        a = np.ones((300, 300))
        while True:
            a @ a

    def evaluate(self, text):
        return eval(text)

    def fail(self, error, *arguments):
        raise error(*arguments)

    def fail_oddly(self):
        raise Odd(1, 2)

def broken(setup, arrays):
    raise ValueError("cannot build this state")

def deadly(setup, arrays):
    os._exit(7)
'''


@pytest.fixture(autouse=True, scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy_state.py").write_text(TOY)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def block():
    with SharedArrays.create({"counts": ((100,), np.int64), "flags": ((4,), np.int64)}) as block:
        yield block


@pytest.fixture
def shared(block):
    for array in block.arrays.values():
        array[:] = 0
    return block


@pytest.fixture(scope="module")
def lasting_pool(block, toy):
    with Pool("toy_state:State", "the setup", [block], 2) as pool:
        yield pool


@pytest.fixture
def pool(lasting_pool, shared):
    """For tests in which no worker comes to harm."""
    yield lasting_pool
    assert lasting_pool.restarts == 0


@pytest.fixture
def fresh_pool(shared):
    with Pool("toy_state:State", "the setup", [shared], 2) as pool:
        yield pool


def results(pool, *tasks, **options):
    return [result for _, result in pool.run(tasks, **options)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")


def wait_for(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def impatient_with(pool, pid: int):
    """For `should_stop`: never stops, but the pool has waited long enough for this worker, whatever the clock says."""

    def should_stop() -> bool:
        for worker in pool._workers:
            if worker.process.pid == pid:
                worker.waited = math.inf
        return False

    return should_stop


def shared_names() -> list[str]:
    return [name for name in os.listdir("/dev/shm") if name.startswith(f"slide-{os.getpid()}-")]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> str:
    """Process ids of all children, those that nobody waited for included."""
    return Path("/proc/self/task", str(os.getpid()), "children").read_text()


# Work.


def test_every_task_is_done_once_and_its_result_comes_with_it(pool, shared):
    done = dict(pool.run(("add", i) for i in range(100)))
    assert done == {("add", i): 10 * i for i in range(100)}
    assert (shared["counts"] == 1).all()
    assert (pool.restarts, len(set(pool.pids))) == (0, 2)


def test_both_workers_work(pool):
    assert set(results(pool, *[("evaluate", "time.sleep(0.2) or os.getpid()")] * 2)) == set(pool.pids)


def test_one_worker_keeps_the_order(shared):
    with Pool("toy_state:State", None, [shared], 1) as pool:
        assert results(pool, *[("add", i) for i in range(50)]) == list(range(0, 500, 10))


def test_tasks_are_drawn_when_a_worker_is_free(pool):
    drawn = 0

    def tasks():
        nonlocal drawn
        for i in range(10):
            drawn += 1
            yield ("add", i)

    for n_done, _ in enumerate(pool.run(tasks()), start=1):
        assert drawn <= n_done + 3  # two under way, and one result that came together with this one


@pytest.mark.parametrize("ahead", [0, 1, 3, 50])
def test_tasks_can_be_drawn_while_all_workers_are_busy(pool, ahead):
    drawn, most = [], 0

    def tasks():
        for i in range(12):
            drawn.append(i)
            yield ("add", i, 0.05)

    for n_done, (task, result) in enumerate(pool.run(tasks(), ahead=ahead), start=1):
        assert result == 10 * task[1]
        most = max(most, len(drawn) - n_done)
    assert sorted(drawn) == list(range(12)) and n_done == 12
    assert min(ahead, 9) <= most <= 3 + ahead  # two under way, and one result that came together with this one


def test_no_task_that_was_drawn_is_lost_when_its_worker_dies(fresh_pool):
    tasks = [("first_time", "kill", signal.SIGKILL), *(("add", i, 0.01) for i in range(20))]
    done = dict(fresh_pool.run(iter(tasks), ahead=5))
    assert done == dict(zip(tasks, ["survived", *(10 * i for i in range(20))], strict=True))


def test_a_run_is_a_barrier(pool, shared):
    for n in range(1, 4):
        for _ in pool.run(("add", i, 0.001 * (i % 3)) for i in range(10)):
            pass
        assert (shared["counts"][:10] == n).all()


def test_no_tasks(pool):
    assert results(pool) == []


def test_workers_get_setup_and_environment_and_not_the_main_module(pool):
    assert "OPENBLAS_NUM_THREADS" not in os.environ or os.environ["OPENBLAS_NUM_THREADS"]
    facts = results(pool, ("evaluate", "(self.setup, os.environ['OPENBLAS_NUM_THREADS'], 'pytest' in sys.modules)"))
    assert facts == [("the setup", "1", False)]


def test_all_blocks_and_large_messages_reach_the_workers(shared):
    with (
        SharedArrays.create({"more": ((5,), np.int8)}, kind="shm") as more,
        Pool("toy_state:State", b"s" * 3_000_000, [shared, more], 2) as pool,
    ):
        more["more"][:] = 3
        assert results(pool, ("evaluate", "(sorted(self.arrays), self.arrays['more'].sum())")) == [
            (["counts", "flags", "more"], 15)
        ]
        assert results(pool, ("evaluate", "self.setup")) == [b"s" * 3_000_000]


# Errors in tasks.


@pytest.mark.parametrize("error", [ValueError, MemoryError, FloatingPointError, OSError, EOFError, DataError])
def test_an_error_in_a_task_is_raised_here_with_the_workers_traceback(pool, error):
    with pytest.raises(error, match="what went wrong") as caught:
        results(pool, ("fail", error, "what went wrong"))
    (note,) = caught.value.__notes__
    assert "toy_state.py" in note and "in fail" in note
    assert str(pool.pids[0]) in note or str(pool.pids[1]) in note
    assert results(pool, ("add", 3)) == [30]
    assert pool.restarts == 0


def test_an_error_that_cannot_be_pickled_keeps_its_text(pool):
    with pytest.raises(RuntimeError, match="Odd: odd"):
        results(pool, ("fail_oddly",))


def test_a_result_that_cannot_be_pickled_is_an_error(pool):
    with pytest.raises(Exception, match="pickle"):
        results(pool, ("evaluate", "lambda: 0"))
    assert results(pool, ("add", 3)) == [30]


def test_an_error_in_the_factory_is_raised_by_run(shared):
    with Pool("toy_state:broken", None, [shared], 2) as pool, pytest.raises(ValueError, match="cannot build"):
        results(pool, ("add", 1))
    with Pool("no_such_module:State", None, [shared], 2) as pool, pytest.raises(ModuleNotFoundError):
        results(pool, ("add", 1))


# Deaths.


@pytest.mark.parametrize("deadly", [("kill", signal.SIGKILL), ("exit", 3), ("half_a_message",)])
def test_the_task_of_a_dead_worker_goes_to_another(fresh_pool, deadly):
    before, tasks = fresh_pool.pids, [("add", 1), ("first_time", *deadly), ("add", 2)]
    assert dict(fresh_pool.run(tasks)) == dict(zip(tasks, [10, "survived", 20], strict=True))
    assert fresh_pool.restarts == 1
    results(fresh_pool, ("add", 3))
    assert len(set(before) & set(fresh_pool.pids)) == 1


def test_all_workers_killed_twice_in_a_row(shared):
    with Pool("toy_state:State", None, [shared], 2, max_restarts=4) as pool:
        for n_killed in (2, 4):
            run = pool.run(("add", i, 0.02) for i in range(10))
            done = [next(run)]
            for pid in pool.pids:
                os.kill(pid, signal.SIGKILL)
            done += run
            assert sorted(result for _, result in done) == list(range(0, 100, 10))
            assert pool.restarts == n_killed


def test_kills_at_random_moments_lose_no_task(shared):
    moments, ended = random.Random(5), threading.Event()

    def keep_killing():
        done = 0
        while not ended.wait(moments.uniform(0, 0.15)):
            victims, before, done = pool.pids, done, shared["counts"].sum()
            if victims and done > before:  # someone has got to work since the last death
                os.kill(moments.choice(victims), signal.SIGKILL)  # not reaped by others: at worst a zombie

    with Pool("toy_state:State", None, [shared], 2, max_restarts=1000) as pool:
        killer = threading.Thread(target=keep_killing)
        killer.start()
        try:
            done = dict(pool.run(("add", i, 0.01) for i in range(60)))
        finally:
            ended.set()
            killer.join()
        assert done == {("add", i, 0.01): 10 * i for i in range(60)}
    assert (shared["counts"][:60] >= 1).all()


def test_workers_killed_while_they_start(shared):
    with Pool("toy_state:State", None, [shared], 2) as pool:
        for pid in pool.pids:
            os.kill(pid, signal.SIGKILL)
        assert sorted(results(pool, *[("add", i) for i in range(20)])) == list(range(0, 200, 10))
        assert pool.restarts == 2


@pytest.mark.parametrize(
    ("deadly", "words"),
    [
        (("kill", signal.SIGKILL), r"max_restarts \(0\) is exhausted\. The last one, .*: SIGKILL: .*; try fewer"),
        (("kill", signal.SIGSEGV), "SIGSEGV: it crashed in compiled code"),
        (("kill", signal.SIGTERM), "SIGTERM: it was asked to end"),
        (("exit", 3), "by itself with exit code 3"),
    ],
)  # fmt: skip
def test_more_deaths_than_max_restarts(shared, deadly, words):
    with Pool("toy_state:State", None, [shared], 1, max_restarts=0) as pool:
        with pytest.raises(WorkerDiedError, match=words):
            results(pool, deadly)
        with pytest.raises(WorkerDiedError):
            results(pool, ("add", 1))
    assert pool.pids == []


def test_a_factory_that_dies_ends_in_an_error(shared):
    with Pool("toy_state:deadly", None, [shared], 2, max_restarts=2) as pool, pytest.raises(WorkerDiedError, match="7"):
        results(pool, ("add", 1))
    assert pool.restarts == 3


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_stopped_worker_is_replaced(shared, n_workers):
    with Pool("toy_state:State", None, [shared], n_workers) as pool:
        stopped = pool.pids[0]
        results(pool, *[("add", i, 0.01) for i in range(10)])
        stop(stopped)
        assert sorted(results(pool, ("add", 1), ("add", 2), should_stop=impatient_with(pool, stopped))) == [10, 20]
        assert pool.restarts == 1
        assert not is_alive(stopped)


def test_silence_beyond_max_restarts_says_so(shared):
    with (
        Pool("toy_state:State", None, [shared], 1, max_restarts=0, worker_timeout=0.3) as pool,
        pytest.raises(WorkerDiedError, match=r"no answer for 0\.3 s"),
    ):
        results(pool, ("spin",))


# Stops.


def test_a_stop_hands_out_nothing_more_and_awaits_what_is_under_way(pool, shared):
    done = []
    for task, _ in pool.run((("add", i, 0.05) for i in range(100)), lambda: len(done) >= 3):
        done.append(task)
    assert 3 <= len(done) <= 6
    assert shared["counts"].sum() == len(done)
    assert pool.restarts == 0


def test_a_stop_does_not_wait_for_a_long_task(pool):
    before, done = pool.pids, []
    for _, result in pool.run([("spin",), ("add", 1), ("spin",)], lambda: done and len(pool._busy()) == 2):
        done.append(result)
    assert done == [10]
    assert not any(is_alive(pid) for pid in before)
    assert sorted(results(pool, ("add", 2), ("add", 3))) == [20, 30]
    assert pool.restarts == 0


def test_stopped_before_the_first_task(pool):
    assert results(pool, ("add", 1), should_stop=lambda: True) == []


def test_a_caller_that_gives_up_leaves_nothing_under_way(pool, shared):
    before, run = pool.pids, pool.run(("add", i, 3600.0 * (i > 0)) for i in range(3))
    next(run)
    with pytest.raises(RuntimeError, match="another run"):
        results(pool, ("add", 9))
    run.close()
    assert not any(is_alive(pid) for pid in before)
    assert shared["counts"].sum() == 1
    assert results(pool, ("add", 9)) == [90]


def test_workers_ignore_the_terminals_interrupt(pool):
    results(pool, *[("add", i, 0.05) for i in range(4)])
    for pid in pool.pids:
        assert os.getpgid(pid) != os.getpgid(0)
        os.kill(pid, signal.SIGINT)
    assert sorted(results(pool, ("add", 1, 0.05), ("add", 2, 0.05))) == [10, 20]
    assert pool.restarts == 0


# What is left behind.


@pytest.mark.parametrize("how", ["busy", "dead", *(
    pytest.param(how, marks=pytest.mark.slow) for how in ("idle", "starting", "stopped")
)])  # fmt: skip
def test_close_leaves_no_process_and_no_file(shared, how):
    gc.collect()
    before = children(), open_files(), shared_names()
    pool = Pool("toy_state:State", None, [shared], 2)
    pids = pool.pids
    if how != "starting":
        results(pool, *[("add", i, 0.02) for i in range(6)])
    if how == "busy":
        run = pool.run([("spin",), ("add", 1)])
        next(run)
    elif how == "stopped":
        stop(pids[0])
    elif how == "dead":
        os.kill(pids[0], signal.SIGKILL)
    pool.close()
    pool.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert (children(), open_files(), shared_names()) == before
    assert pool.pids == []
    with pytest.raises(RuntimeError, match="closed"):
        results(pool, ("add", 1))


def test_a_pool_that_nobody_closes_ends_with_its_last_reference(shared):
    before = children()
    pool = Pool("toy_state:State", None, [shared], 2)
    assert children() != before
    del pool
    gc.collect()
    assert children() == before


SCRIPT = """
import os, sys, time
sys.path.insert(0, {folder!r})
from slide_fast.parallel.pool import Pool
from slide_fast.parallel.shared_arrays import SharedArrays
print("main module", flush=True)
shared = SharedArrays.create({{"counts": ((10,), "i8"), "flags": ((4,), "i8")}})
pool = Pool("toy_state:State", None, [shared], 2)
print("answers", sum(result for _, result in pool.run(("add", i) for i in range(10))), flush=True)
"""


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_a_script_without_a_guard_and_without_close(toy, tmp_path, way):
    script = SCRIPT.format(folder=str(toy))
    (tmp_path / "script.py").write_text(script)
    command, given = ([sys.executable, "script.py"], "") if way == "file" else ([sys.executable, "-"], script)
    done = subprocess.run(command, input=given, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("main module\nanswers 450\n", "")


def test_an_interactive_interpreter(toy):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-q"]
    environment = {**os.environ, "TERM": "dumb", "PYTHON_BASIC_REPL": "1"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=toy) as python:
        os.close(theirs)
        os.write(ours, SCRIPT.format(folder=str(toy)).encode() + b"exit()\n")
        seen = b""
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:  # how a pseudo-terminal ends
            pass
        assert python.wait(60) == 0
    os.close(ours)
    assert b"answers 450\r\n" in seen
    assert b"Traceback" not in seen


@pytest.mark.parametrize(
    ("task", "extra"),
    [("('spin',)", ""), ("('add', 1, 60.0)", "os.fork() or (time.sleep(30), os._exit(0))")],
    ids=["computing", "sleeping, and a fork of the parent holds the pipes open"],
)
def test_workers_end_when_the_parent_is_killed(toy, task, extra):
    script = SCRIPT.format(folder=str(toy)) + f"{extra}\nprint(*pool.pids, flush=True)\nlist(pool.run([{task}] * 2))\n"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(word) for word in [parent.stdout.readline() for _ in range(3)][-1].split()]
        time.sleep(0.2)
        assert len(pids) == 2 and all(is_alive(pid) for pid in pids)
        parent.kill()
        parent.wait()
        wait_for(lambda: not any(is_alive(pid) for pid in pids), seconds=20.0)


def test_the_end_of_a_fork_of_the_parent_harms_no_worker(toy):
    script = SCRIPT.format(folder=str(toy)) + (
        "if os.fork() == 0:\n    pool.close(); sys.exit()\n"
        "os.wait(); print(sum(result for _, result in pool.run([('add', 1), ('add', 2)])), pool.restarts)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "main module\nanswers 450\n30 0\n"


def test_no_more_workers_have_a_task_than_may(pool):
    under_way = []

    def tasks():
        for _ in range(8):
            under_way.append(len(pool._busy()) + 1)
            yield ("evaluate", "1")

    assert len(list(pool.run(tasks(), at_most=lambda: 1 if len(under_way) < 4 else 2))) == 8
    assert under_way[:5] == [1, 1, 1, 1, 2] and max(under_way) == 2


# One worker: in the calling process.


class Doubling:
    def run(self, task):
        if task < 0:
            raise ValueError("negative")
        return 2 * task


def test_in_process_has_the_interface_of_the_pool():
    with InProcess(Doubling()) as pool:
        assert list(pool.run(iter([1, 2, 3]))) == [(1, 2), (2, 4), (3, 6)]
        assert (pool.pids, pool.n_workers, pool.restarts) == ([], 1, 0)
        with pytest.raises(ValueError, match="negative"):
            list(pool.run([-1]))


def test_in_process_stops_before_it_draws_the_next_task():
    done = []
    tasks = iter(range(100))
    for task, _ in InProcess(Doubling()).run(tasks, lambda: len(done) >= 3):
        done.append(task)
    assert done == [0, 1, 2]
    assert next(tasks) == 3


def test_after_a_stop_no_further_task_is_drawn(pool):
    drawn, done = [], []

    def tasks():
        for i in range(40):
            drawn.append(i)
            time.sleep(0.02)  # so that not as many as may are drawn before the stop
            yield ("add", i, 0.6 if i == 1 else 0.1)

    stopped_at = []

    def should_stop():
        if done and not stopped_at:
            stopped_at.append(len(drawn))
        return bool(stopped_at)

    for result in pool.run(tasks(), should_stop, ahead=30):
        done.append(result)
    assert stopped_at == [len(drawn)] and len(drawn) < 40
