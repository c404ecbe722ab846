"""The ``slide`` program: runs a command, and reports an error as one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from slide_ref.common.errors import ConfigError, SlideError

from ..parallel.streams import Screen, any_text, discard_unwritten, has_output, print_result
from .options import BAD_USE, check_together, parser

FAILURE = 1
INTERRUPTED, CLOSED_PIPE, TERMINATED = 130, 141, 143  # 128 + the number of the signal, as shells count
FAILURES = (SlideError, OSError, MemoryError)  # what users are told of in one line


def main(argv: list[str] | None = None) -> int:
    """Run the ``slide`` program.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; default: those of the process.

    Returns
    -------
    int
        0; 1 for a failure, reported in one line on standard error; 130 after Ctrl-C, 143 after SIGTERM, 141 when the
        reader of the output is gone.

    Raises
    ------
    SystemExit
        With code 2 for invalid arguments, and with 0 after ``--help`` and ``--version``.
    """
    argv = sys.argv[1:] if argv is None else argv
    with any_text(), _terminable() as terminated:
        try:
            options = parser().parse_args(argv)
            check_together(options)
            if not has_output() and (options.json or _answers_only(options)):
                return _told("standard output is closed, so the result cannot be written", FAILURE)
            options.command_line = shlex.join(["slide", *argv])
            return _run(options)
        except BrokenPipeError:  # the reader, such as head, has enough
            return CLOSED_PIPE
        except KeyboardInterrupt as error:
            print(f"slide: {str(error) or 'interrupted'}", file=Screen(), flush=True)
            return TERMINATED if terminated.is_set() else INTERRUPTED
        except FAILURES as error:
            return _told(in_words(error), exit_code(error))
        finally:
            discard_unwritten()


def _run(options: argparse.Namespace) -> int:
    """Run a command, a function in a module, both of the command's name; return the exit code."""
    from .run_folder import json_line  # NumPy and all that; --help does without
    from .session import Session

    module = importlib.import_module(f".{'train_mpi' if options.mpi else options.command}", __package__)
    with Session(options.json) as session:
        figures = getattr(module, options.command)(options, session)
        if options.json:
            print_result(json_line(figures | session.totals()))
    return 0 if figures.get("agree", True) else FAILURE


def _answers_only(options: argparse.Namespace) -> bool:
    """Tell whether the command's only result is what it prints."""
    is_question = options.command in ("bench", "evaluate", "explain", "info", "predict", "verify")
    is_question |= getattr(options, "print_config", False)
    return is_question and getattr(options, "out", None) is None


def exit_code(error: BaseException) -> int:
    """Return the exit code of a command that ends with one of `FAILURES`."""
    return BAD_USE if isinstance(error, ConfigError) else FAILURE


def in_words(error: BaseException) -> str:
    """Return the text of one of `FAILURES`."""
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"{place}{error.strerror or error}"
    return str(error) or "out of memory"


def _told(message: str, code: int) -> int:
    """Print an error in one line on standard error; return the exit code."""
    print(f"slide: error: {' '.join(message.split())}", file=Screen(), flush=True)
    return code


@contextmanager
def _terminable() -> Iterator[threading.Event]:
    """Treat SIGTERM like Ctrl-C, and record that it arrived. Works in the main thread only."""
    terminated = threading.Event()

    def handler(number: int, frame: object) -> None:
        terminated.set()
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in the background of a shell
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGTERM)  # None: not from Python, which could not put it back
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield terminated
        return
    signal.signal(signal.SIGTERM, handler)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before)
