"""What the workers of test_hogwild.py run: prepared updates of one layer, applied one by one."""

import time

from slide_fast import optimizers
from slide_fast.kernels.scratch import Scratch
from slide_fast.network import RowGradient
from slide_ref.common.parameters import Layer

PATIENCE = 20.0


class State:
    """Applies update `i`: the gradient prepared in the shared arrays, with its own step number."""

    def __init__(self, config, arrays):
        self.config, self.arrays, self.scratch = config, arrays, Scratch()
        self.layer = Layer(*(arrays[name] for name in ("W", "b", "W_m", "W_v", "b_m", "b_v")))

    def run(self, i):
        arrays = self.arrays
        ids = arrays["ids"][arrays["indptr"][i] : arrays["indptr"][i + 1]]
        rows = slice(arrays["indptr"][i], arrays["indptr"][i + 1])
        gradient = RowGradient(ids, arrays["gW"][rows].copy(), arrays["gb"][rows].copy())
        optimizers.update([UNTOUCHED, self.layer], [NOTHING, gradient], i + 1, 0.01, self.config, self.scratch)


class RacingState(State):
    """The same, but between reading a row and writing them each worker waits until the other has read."""

    def run(self, i):
        plain, arrays = optimizers.gather, self.arrays

        def gather(array, ids, scratch, name):
            rows = plain(array, ids, scratch, name)
            if name == "adam_w":
                arrays["has_read"][i] = 1
                deadline = time.monotonic() + PATIENCE
                while not arrays["has_read"].all() and time.monotonic() < deadline:
                    time.sleep(0.001)
            return rows

        optimizers.gather = gather
        try:
            super().run(i)
        finally:
            optimizers.gather = plain


def _empty_first_layer():
    import numpy as np

    W, b = np.zeros((0, 1), np.float32), np.zeros(0, np.float32)
    layer = Layer(W, b, W.copy(), b.copy(), b.copy(), b.copy())
    return layer, RowGradient(np.zeros(0, np.int64), W.copy(), b.copy())


UNTOUCHED, NOTHING = _empty_first_layer()
