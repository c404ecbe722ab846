"""The agreement tests are seen failing: each known fault, put into a copy of the fast path, must be noticed."""

import mutate
import pytest


def test_every_fault_replaces_text_that_is_there():
    assert [fault.name for fault in mutate.read_faults() if fault.is_stale] == []


@pytest.mark.slow
def test_every_known_fault_is_caught():
    assert mutate.check() == []


def test_every_fault_names_the_test_that_catches_it():
    assert [fault.name for fault in mutate.read_faults() if not fault.by] == []
