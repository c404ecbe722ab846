"""A file that gets its name only when it is complete; pipes, devices and open descriptors are written directly."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_DESCRIPTOR = re.compile(r"/dev/(?:std(out|err)|fd/(\d+))|/proc/self/fd/(\d+)")


@contextmanager
def complete_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` when the block ends, and is removed if the block fails.

    If `path` is a link, its target is replaced and the link stays. Anything but a regular file is written directly.

    Raises
    ------
    OSError
        If the system refuses, or an existing file is not writable.
    """
    descriptor = _descriptor(path)
    if descriptor is not None or (os.path.exists(path) and not os.path.isfile(path)):
        with open(path if descriptor is None else os.dup(descriptor), "wb") as file:
            yield file
        return
    target = Path(path).resolve()
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def unless_standard(path: str) -> str | None:
    """Return the path of a file to write, or None if it names standard output."""
    return None if path == "-" or _descriptor(path) == 1 else path


def _descriptor(path: str | os.PathLike[str]) -> int | None:
    """Find the open descriptor that a path names; opening it again would truncate what others wrote to it."""
    found = _DESCRIPTOR.fullmatch(os.path.abspath(path))
    if os.name != "posix" or not found:
        return None
    return {"out": 1, "err": 2}[found[1]] if found[1] else int(found[2] or found[3])


def reason(error: OSError, path: str | os.PathLike[str]) -> str:
    """Say why a file cannot be written."""
    folder = Path(path).parent
    return error.strerror or str(error) if folder.is_dir() else f"there is no folder {folder}"
