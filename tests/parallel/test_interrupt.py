"""Ctrl-C that lets the current work finish."""

import os
import signal

import pytest

from slide_fast.parallel.interrupt import deferred_interrupt


def stop(number, frame):
    raise KeyboardInterrupt


@pytest.fixture
def handlers():
    """Put the handlers of signals back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("ctrl_c", "number"), [(signal.default_int_handler, signal.SIGINT), (signal.SIG_IGN, signal.SIGTERM)]
)
def test_the_first_signal_is_noted_and_the_second_interrupts(handlers, ctrl_c, number):
    signal.signal(signal.SIGINT, ctrl_c)
    signal.signal(signal.SIGTERM, stop)
    with deferred_interrupt() as pressed:
        assert not pressed.is_set()
        signal.raise_signal(number)
        assert pressed.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(signal.SIGINT) is ctrl_c and signal.getsignal(signal.SIGTERM) is stop


def test_a_handler_that_only_takes_note_goes_on_doing_so(handlers):
    told = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    with deferred_interrupt() as pressed:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert told == [signal.SIGTERM] * 2 and not pressed.is_set()


@pytest.mark.skipif(os.name != "posix", reason="elsewhere SIGTERM ends the process")
def test_a_program_that_handles_ctrl_c_itself_is_left_alone(handlers):
    signal.signal(signal.SIGINT, stop)
    with deferred_interrupt() as pressed:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not pressed.is_set() and signal.getsignal(signal.SIGINT) is stop
