"""What the workers of test_races.py run: updates of the same rows, and reads of what another worker writes."""

import numpy as np
from hogwild_state import NOTHING, UNTOUCHED

from slide_fast import optimizers
from slide_fast.kernels.scratch import Scratch
from slide_fast.network import RowGradient
from slide_ref.common.parameters import Layer

OLD, NEW = np.float32(1.0), np.float32(-2.3456e-20)  # no byte of the one is like that of the other
SIDES = 256
WRITES, READS = 0, 1


class Counting:
    """SGD steps that add 1 to every weight, bias included: what is missing in the end are lost updates."""

    def __init__(self, config, arrays):
        self.config, self.arrays, self.scratch = config, arrays, Scratch()

    def run(self, n_updates):
        W, b = self.arrays["W"], self.arrays["b"]
        ids = np.arange(len(b))
        for _ in range(n_updates):
            gradient = RowGradient(ids, np.full(W.shape, -1, np.float32), np.full(len(b), -1, np.float32))
            optimizers.update([UNTOUCHED, Layer(W, b)], [NOTHING, gradient], 1, 1.0, self.config, self.scratch)


class Tearing:
    """One worker writes OLD and NEW in turn into the same rows, another reads them meanwhile.

    Each goes on until both have done enough: on a busy machine one can be through before the other runs.
    """

    def __init__(self, config, arrays):
        self.W, self.done, self.scratch = arrays["W"], arrays["done"], Scratch()

    def run(self, task):
        name, n = task
        return getattr(self, name)(n)

    def write(self, n):
        """In the ways in which the program writes rows."""
        ids, rows = np.arange(len(self.W)), np.empty_like(self.W)
        while self.done.min() < n:
            value = (OLD, NEW)[self.done[WRITES] % 2]
            rows[:] = value
            if self.done[WRITES] % 3:
                self.W[ids] = rows
            else:
                self.W[:] = value
            self.done[WRITES] += 1

    def read(self, n):
        """Copies that held old and new values side by side, and values that were neither."""
        ids, mixed, foreign = np.arange(len(self.W)), 0, 0
        while self.done.min() < n:
            copy = self.W.take(ids, axis=0)
            old, new = (copy.view(np.uint32) == value.view(np.uint32) for value in (OLD, NEW))
            mixed += bool(old.any() and new.any())
            foreign += int((~(old | new)).sum())
            self.done[READS] += 1
        return mixed, foreign
