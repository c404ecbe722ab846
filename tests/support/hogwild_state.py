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
    """The same, but between reading a row's moments and writing them each worker waits until the other has read."""

    def run(self, i):
        plain, arrays = optimizers.gather, self.arrays

        def gather(array, ids, scratch, name):
            rows = plain(array, ids, scratch, name)
            if name == "adam_v":
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

    arrays = [np.zeros((0, 1), np.float32) if name == "W" else np.zeros(0, np.float32) for name in ("W", "b")]
    layer = Layer(arrays[0], arrays[1], arrays[0].copy(), arrays[0].copy(), arrays[1].copy(), arrays[1].copy())
    return layer, RowGradient(np.zeros(0, np.int64), arrays[0].copy(), arrays[1].copy())


UNTOUCHED, NOTHING = _empty_first_layer()
