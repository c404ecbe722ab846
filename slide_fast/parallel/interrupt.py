"""Ctrl-C that lets the current work finish."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag; a second one raises KeyboardInterrupt at once.

    Where Ctrl-C is ignored, as in jobs that a shell runs in the background, the same goes for a SIGTERM that a handler
    in Python turns into KeyboardInterrupt. Applies only in the main thread, and only if Python's default handler of
    Ctrl-C is installed.
    """
    pressed = threading.Event()
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    deferred = signal.SIGTERM if is_ignored else signal.SIGINT
    before = signal.getsignal(deferred)
    is_ours = callable(before) if is_ignored else before is signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or not is_ours:
        yield pressed
        return
    assert callable(before)

    def handler(number: int, frame: FrameType | None) -> None:
        try:
            before(number, frame)
        except KeyboardInterrupt:
            signal.signal(deferred, before)
            pressed.set()

    signal.signal(deferred, handler)
    try:
        yield pressed
    finally:
        signal.signal(deferred, before)
