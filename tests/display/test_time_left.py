"""The time left that training tells, against what follows, with a clock that the test moves."""

import math

import pytest

from slide_fast.display.time_left import SLOWDOWN, TimeLeft
from slide_fast.engine.callbacks import steps_apart
from slide_ref.common.config import Config
from slide_ref.common.lsh_config import LshConfig
from slide_ref.common.schedule import in_batch_steps, n_epochs, rebuild_steps, steps_per_epoch, total_steps

N_SAMPLES, N_LABELS, N_TEST = 50_000, 20_000, 9_000
CONFIG = Config(epochs=5)
MACHINE = {"step": 0.05, "slower": SLOWDOWN, "rebuild": 3.0, "row": 1e-3}  # seconds, and a factor


class Run:
    """A run in which each thing takes as long as `MACHINE` says, and what was estimated on the way."""

    def __init__(self, config=CONFIG, *, first_step=0, n_test=N_TEST, machine=MACHINE, **options):
        self.now, self.seconds, self.step = 1000.0, 7.0 * first_step, first_step
        self.config, self.n_test, self.machine, self.options = config, n_test, machine, options
        self.display = TimeLeft(config, N_LABELS, n_test, clock=lambda: self.now, **options)
        self.samples, self.rebuilds, self.estimates = min(first_step * config.micro_batch, N_SAMPLES), 0, []

    def tell(self, kind, **facts):
        place = {"step": self.step, "seconds": self.seconds, "samples": self.samples, "rebuilds": self.rebuilds}
        self.display.tell({"kind": kind, **place, **facts})
        self.estimates.append((self.now, self.display.left(), self.step, kind, self.display.fraction()))

    def spend(self, seconds):
        self.now, self.seconds = self.now + seconds, self.seconds + seconds

    def evaluate(self, n_rows, is_last):
        for done in range(1, 11):
            self.now += self.machine["row"] * n_rows / 10
            self.tell("evaluating", done=done, of=10, rows=n_rows, is_last=is_last)
        self.tell("evaluation", precision_at_1=0.5)

    def carry_out(self):
        total, per_epoch = total_steps(self.config, N_SAMPLES), steps_per_epoch(N_SAMPLES, self.config.micro_batch)
        alone = in_batch_steps(self.config, total)
        rebuilds = set(rebuild_steps(self.config, total))
        gap = self.options.get("eval_every", 1.0) * per_epoch
        evaluations = {step for step, _ in zip(steps_apart(gap), range(100), strict=False)} - {total}
        self.tell("start", n_samples=N_SAMPLES)
        while self.step < total and self.seconds < self.options.get("max_seconds", math.inf):
            if self.step in rebuilds or not self.rebuilds:
                self.spend(self.machine["rebuild"] if self.step >= alone else 0.0)
                self.rebuilds += 1
            self.step += 1
            n_new = self.config.micro_batch if self.step % per_epoch else N_SAMPLES % self.config.micro_batch
            self.samples += n_new
            self.spend(self.machine["step"] * n_new / 256 * (self.machine["slower"] if self.step > alone else 1.0))
            self.tell("progress", n_new=n_new)
            if self.step in evaluations and self.n_test:
                self.evaluate(min(self.n_test, self.options.get("eval_samples", 10_000)), is_last=False)
        if self.n_test:
            self.evaluate(self.n_test, is_last=True)
        return [(left, self.now - then, step, kind) for then, left, step, kind, _ in self.estimates]


def after(step, told):
    return [(left, truth) for left, truth, at, kind in told if at >= step and truth > 0.5]


@pytest.mark.parametrize("options", [{}, {"eval_every": 0.3, "eval_samples": 2000}, {"n_test": 0}])
@pytest.mark.parametrize("slower", [1.5, SLOWDOWN, 3.0])
def test_what_is_told_is_what_follows(options, slower):
    told = Run(machine=MACHINE | {"slower": slower}, **options).carry_out()
    alone = in_batch_steps(CONFIG, total_steps(CONFIG, N_SAMPLES))
    for left, truth in after(alone + 2, told):  # all was met once
        assert left == pytest.approx(truth, rel=0.1, abs=0.5)
    for left, truth in after(200, told):  # an evaluation was
        assert truth / 2 < left < truth * 2


def test_the_last_evaluation_is_told_of_before_it_begins_and_while_it_goes_on():
    run = Run(eval_samples=1000)
    told = run.carry_out()
    last = [(left, truth) for left, truth, _, kind in told if kind == "evaluating"][-10:]
    assert [left for left, _ in last] == pytest.approx([truth for _, truth in last], abs=1e-6)
    assert last[0][0] == pytest.approx(8.1)
    before = [left for left, _, _, kind in told if kind == "progress"][-1]
    assert before == pytest.approx(9.0, rel=0.01)
    assert told[-1][0] == 0 and run.estimates[-1][-1] == 1.0


def test_the_end_by_the_clock_is_told():
    run = Run(max_seconds=20.0)
    told = run.carry_out()
    assert run.seconds == pytest.approx(20.0, abs=0.1)
    for left, truth in after(200, told):
        assert left == pytest.approx(truth, rel=0.1)


def test_a_resumed_run_counts_what_is_left_of_it():
    told = Run(first_step=150).carry_out()
    assert math.isnan(told[0][0])
    for left, truth in after(200, told):
        assert truth / 1.5 < left < truth * 1.5


@pytest.mark.parametrize("config", [CONFIG.replace(in_batch=0.0), CONFIG.replace(scope="sample")])
def test_rebuilds_to_come_are_counted_one_by_one(config):
    for left, truth in after(3, Run(config, n_test=0).carry_out()):
        assert left == pytest.approx(truth, rel=0.05, abs=0.5)


def test_a_dense_network_has_one_pace():
    config = Config(epochs=5, lsh=LshConfig(min_active=N_LABELS))
    machine = MACHINE | {"slower": 1.0, "rebuild": 0.0}
    for left, truth in after(1 + n_epochs(config, N_SAMPLES), Run(config, n_test=0, machine=machine).carry_out()):
        assert left == pytest.approx(truth, rel=0.01, abs=0.1)
