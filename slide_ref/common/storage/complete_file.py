"""A file that takes its name when it is complete; pipes, devices and open descriptors are written to as they are."""

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
    """Open a file that takes the place of `path` once the block ends, and vanishes if it fails.

    What `path` links to is replaced, and the link stays. What is no regular file is written to directly.

    Raises
    ------
    OSError
        If the system refuses; also where a file that may not be written stands there.
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
    """Return the path of a file to write, and None for the names of standard output."""
    return None if path == "-" or _descriptor(path) == 1 else path


def _descriptor(path: str | os.PathLike[str]) -> int | None:
    """Find the open descriptor that a path names. Opening it again would cut off what others wrote to it."""
    found = _DESCRIPTOR.fullmatch(os.path.abspath(path))
    if os.name != "posix" or not found:
        return None
    return {"out": 1, "err": 2}[found[1]] if found[1] else int(found[2] or found[3])


def reason(error: OSError, path: str | os.PathLike[str]) -> str:
    """Say why a file cannot be written."""
    folder = Path(path).parent
    return error.strerror or str(error) if folder.is_dir() else f"there is no folder {folder}"
