"""What the workers of test_faults.py run: the usual work, with a count of the samples and deaths in chosen places."""

import fcntl
import os
import signal
import sys

import numpy as np

from slide_fast.engine import learner, worker

PLACES = ("start", "update", "hash_neurons", "sort_table", "predict")
CALLS_INTO_UPDATE = 7


def layout(n_samples):
    """Arrays besides those of the run.

    How often each sample was trained, predictions made, deaths that are still to come in each of `PLACES`, and ids of
    processes that are to stop there.
    """
    counts = {"trained": ((n_samples,), np.int64), "answered": ((1,), np.int64)}
    return counts | {name: ((len(PLACES),), np.int64) for name in ("deaths", "stops")}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class State(worker.Worker):
    """The worker's state; it dies as often as ``deaths`` says, in each of `PLACES`."""

    def __init__(self, setup, arrays):
        super().__init__(setup, arrays)
        self._train_step, self.learner.train_step = self.learner.train_step, self.train_step
        if self.is_due("start"):
            die()

    def is_due(self, place):
        deaths, i = self.arrays["deaths"], PLACES.index(place)
        with open(__file__) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed: no two workers take the same death
            is_due = deaths[i] > 0
            deaths[i] -= is_due
        return is_due

    def stop_if_asked(self, place):
        if self.arrays["stops"][PLACES.index(place)] == os.getpid():
            os.kill(os.getpid(), signal.SIGSTOP)

    def train_step(self, batch):
        self.stop_if_asked("update")
        if self.is_due("update"):
            plain, learner.update = learner.update, half_an_update(learner.update)
            try:
                self._train_step(batch)
            finally:
                learner.update = plain
        report = self._train_step(batch)
        np.add.at(self.arrays["trained"], batch.samples, 1)
        return report

    def hash_neurons(self, *arguments):
        self.learner.hash_neurons(*arguments)
        if self.is_due("hash_neurons"):
            die()

    def sort_table(self, l, table, rebuild):
        if self.is_due("sort_table"):
            self.learner.tables[l].ids[table, ::2] = -1
            die()
        self.learner.sort_table(l, table, rebuild)

    def predict(self, *arguments):
        self.stop_if_asked("predict")
        if self.is_due("predict"):
            die()
        ids = super().predict(*arguments)
        self.arrays["answered"] += 1
        return ids


def half_an_update(update):
    """The update, which dies after some of the calls that it makes."""

    def call(*arguments):
        calls = 0

        def count(frame, event, argument):
            nonlocal calls
            calls += event in ("call", "c_call")
            if calls > CALLS_INTO_UPDATE:
                die()

        sys.setprofile(count)
        update(*arguments)

    return call
