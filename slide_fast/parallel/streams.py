"""Standard streams and descriptors, which may be missing, closed, broken, or replaced by the caller."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

_LOCK = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


class Screen:
    """The current standard error, for messages that may get lost: what cannot be written is dropped.

    A failed message must not stop the work. Other stream attributes are those of standard error.
    """

    def write(self, text: str) -> None:
        with suppress(Exception):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(Exception):
            sys.stderr.flush()

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        try:
            return bool(sys.stderr.isatty())
        except Exception:
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


@contextmanager
def any_text() -> Iterator[None]:
    """Make standard output and error accept any text in a block: names of labels and files may hold anything."""
    with ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                before = {"encoding": stream.encoding, "errors": stream.errors}
                with suppress(ValueError):  # closed
                    stream.reconfigure(encoding="utf-8", errors="backslashreplace")
                    stack.callback(_reconfigure, stream, before)
        yield


def _reconfigure(stream: Any, options: dict[str, Any]) -> None:
    with suppress(ValueError, OSError):
        stream.reconfigure(**options)


def has_output() -> bool:
    """Tell whether there is a standard output to print to."""
    return sys.stdout is not None and not getattr(sys.stdout, "closed", False)


@contextmanager
def standard_output() -> Iterator[Any]:
    """Return standard output; an OSError of the block that names no file names it."""
    try:
        yield sys.stdout
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, "standard output") from error


def print_result(text: str, end: str = "\n") -> None:
    """Print to standard output and flush; do nothing if there is none."""
    if has_output():
        with standard_output() as stream:
            print(text, end=end)
            if hasattr(stream, "flush"):
                stream.flush()


def discard_unwritten() -> None:
    """Discard what a standard stream could not write; Python would try again at exit, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(Exception), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
        except Exception:  # missing, closed, or no stream at all
            continue


@contextmanager
def off_standard_descriptors() -> Iterator[None]:
    """Keep files opened in a block off descriptors 0 to 2, if those are closed.

    A child process takes these as its standard streams, and C libraries print to them.
    """
    with _LOCK, ExitStack() as stack:
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            stack.callback(os.close, descriptor)
        os.close(descriptor)
        yield
