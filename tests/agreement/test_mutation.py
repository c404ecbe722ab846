"""The agreement tests are seen failing: each known fault, put into a copy of the fast path, must be noticed."""

import mutate
import pytest


@pytest.mark.slow
def test_every_known_fault_is_caught():
    assert mutate.check() == []
