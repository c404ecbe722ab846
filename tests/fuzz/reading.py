"""What every input must lead to, whoever made it up: data or a DataError that says where, the same on both sides."""

import tracemalloc
from pathlib import Path

from slide_fast.data import read_npz, read_xmc
from slide_ref.common.errors import DataError
from slide_ref.data import read_xmc as read_line_by_line

SCAFFOLD = 4 << 20  # bytes that reading takes whatever the input: buffers, tables of the parser
PER_BYTE = 200


def outcome(read, path):
    """The data, or the error's text and place."""
    try:
        return read(path)
    except DataError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return error


def check_text(content, path):
    """Both readers give the same data or the same error, with its line and, in the line, its column.

    Returns
    -------
    bool
        Whether the input was accepted.
    """
    Path(path).write_bytes(content)
    fast, line_by_line = outcome(read_xmc, path), outcome(read_line_by_line, path)
    if isinstance(fast, DataError):
        assert str(fast) == str(line_by_line)
        lines = content.split(b"\n")
        assert 1 <= fast.line <= len(lines) + 1
        assert fast.column is None or 1 <= fast.column <= len(lines[fast.line - 1]) + 1
        return False
    assert not isinstance(line_by_line, DataError), f"only one side accepts: {line_by_line}"
    for one, two in zip(fast, line_by_line, strict=True):
        one.check("read")
        assert one.n_columns == two.n_columns
        for name in ("indptr", "indices", "data"):
            ours, theirs = getattr(one, name), getattr(two, name)
            assert (ours is None) == (theirs is None) and (ours is None or ours.tobytes() == theirs.tobytes())
    return True


def check_memory(read, content, path):
    """Reading takes no more than a multiple of the input, whatever the input says of itself."""
    Path(path).write_bytes(content)
    tracemalloc.start()
    try:
        outcome(read, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= SCAFFOLD + PER_BYTE * len(content), f"{peak} bytes for {len(content)}"


def check_npz(content, path):
    """As `check_text`, for the reader of ``.npz``."""
    Path(path).write_bytes(content)
    data = outcome(read_npz, path)
    if isinstance(data, DataError):
        return False
    for rows in data:
        rows.check("read")
    return True
