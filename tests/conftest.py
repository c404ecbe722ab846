"""What holds for all tests: hypothesis profiles, and garbage in memory that nobody has written yet."""

import os
import signal
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

from slide_fast.parallel import shared_arrays

SHARED_MACHINE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("usual", max_examples=30, **SHARED_MACHINE)  # others every time
settings.register_profile("ci", derandomize=True, **SHARED_MACHINE)
MUTATION = {"derandomize": True, "phases": [Phase.explicit, Phase.generate], **SHARED_MACHINE}  # without shrinking
settings.register_profile("mutation", **MUTATION)  # the examples of "ci"
settings.register_profile("few examples", max_examples=10, **MUTATION)
settings.load_profile("ci" if os.environ.get("CI") else "usual")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start jobs in the background without Ctrl-C

if os.environ.get("SLIDE_ELSEWHERE") == "windows":  # see tests/support/elsewhere
    shared_arrays.KIND = "tagged"


def _filling(new_array):
    def wrapped(*args, **options):
        array = new_array(*args, **options)
        if array.dtype.kind == "f":
            array.fill(np.nan)
        elif array.dtype.kind in "iu":
            array.fill(np.iinfo(array.dtype).max // 3 * 2)
        elif array.dtype.kind == "b":
            array.fill(True)
        return array

    return wrapped


@pytest.fixture(scope="session", autouse=True)
def garbage_in_new_arrays():
    """`np.empty` gives NaN, and large whole numbers, so that a value that is read before it is written shows."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("empty", "empty_like"):
            patch.setattr(np, name, _filling(getattr(np, name)))
        yield
