"""Arrays in a folder: described by config.json, one plain .npy file each. Nothing is ever unpickled.

A folder is written under a temporary name next to its destination and renamed when it is complete, so that a reader
sees either the old folder or the new one, never a mixture. The same content gives the same bytes. config.json holds a
checksum of each file, so that damaged or swapped files are detected.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import numpy as np

from ..checks import true_or_false
from ..errors import ModelError
from .array_files import DTYPES, SAVE_AGAIN, Arrays, bytes_of, read_array, write_array
from .replacing import replacing, standing, synced_file

T = TypeVar("T")
FORMAT_VERSION = 1
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ENTRY_KEYS = ("shape", "dtype", "crc32")
GIVE_MODEL = "give the folder of a model or of a run that training wrote"


def is_count(value: Any) -> TypeGuard[int]:
    """Tell whether a value read from JSON is a whole number of 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def holds_network(folder: Path) -> bool:
    """Tell whether a folder is that of a model or of a checkpoint."""
    return (folder / "config.json").is_file() and (folder / "W0.npy").is_file()


def lies_in_network(path: Path) -> bool:
    """Tell whether a place is in the folder of a model or checkpoint, which is replaced whole."""
    return any(holds_network(folder) for folder in path.resolve().parents)


def _is_shape(value: Any) -> bool:
    counts = isinstance(value, list) and len(value) <= 32 and all(is_count(n) for n in value)
    return counts and math.prod(n or 1 for n in value) < 2**56


def save_arrays(
    folder: str | Path,
    description: Mapping[str, Any],
    arrays: Arrays,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write arrays and their description to a folder, replacing an earlier one as a whole.

    Parameters
    ----------
    folder : path
        Missing parent folders are created. The folder must be absent, empty, or written by this function.
    description : mapping
        JSON values; the keys ``format_version``, ``arrays`` and ``texts`` are reserved.
    arrays : mapping of str to ndarray or Blocks
        Names consist of letters, digits and underscores. Any shape; floats and integers only.
    texts : mapping of str to str, optional
        Further files, by name, written as UTF-8; lone surrogates are encoded as if they were characters.

    Raises
    ------
    ModelError
        If a key, name or dtype cannot be stored, the folder holds something else or lies in that of a model, or writing
        fails. The earlier content of `folder` is then unchanged.
    """
    folder = Path(folder)
    for name, array in arrays.items():
        if not _NAME.fullmatch(name) or array.dtype.name not in DTYPES:
            raise ModelError(f"an array {name!r} of dtype {array.dtype} cannot be stored")
    if {"format_version", "arrays", "texts"} & description.keys():
        raise ModelError("a description cannot contain the keys format_version, arrays and texts")
    try:
        if lies_in_network(folder):
            raise ModelError(f"{folder}: lies in a model folder; choose another place")
        with replacing(folder) as new:
            _check_replaceable(folder)  # here, where no other save is half-way
            entries = {name: write_array(new / f"{name}.npy", array) for name, array in arrays.items()}
            files = {name: text.encode("utf-8", "surrogatepass") for name, text in (texts or {}).items()}
            content = {**description, "format_version": FORMAT_VERSION, "arrays": entries}
            if files:
                content["texts"] = {name: zlib.crc32(raw) for name, raw in files.items()}
            files["config.json"] = (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
            for name, raw in files.items():
                with synced_file(new / name) as file:
                    file.write(raw)
    except OSError as error:
        advice, refused = "choose another folder or free some space", error.filename
        place = refused if isinstance(refused, str) and Path(folder).is_relative_to(refused) else folder
        raise ModelError(f"{place}: cannot be written ({error.strerror or error}); {advice}") from error


def load_arrays(folder: str | Path, mmap: bool = False) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `save_arrays` wrote, checking everything in the files before using it.

    Parameters
    ----------
    folder : path
    mmap : bool
        Memory-map the files, read-only, instead of reading them.

    Returns
    -------
    description : dict
    arrays : dict of str to ndarray

    Raises
    ------
    ModelError
        If the folder or a file is missing, malformed, or does not match config.json. The message names the file.
    """
    mmap = true_or_false("mmap", mmap)
    folder = Path(folder)
    if folder.is_file():
        raise ModelError(f"{folder}: is a file; {GIVE_MODEL}")
    return read_unchanged(folder, lambda place: _read(place, mmap))


def read_unchanged(folder: Path, read: Callable[[Path], T]) -> T:
    """Return the result of `read(place)`, where `place` holds the content of a folder that may be replaced meanwhile.

    It is read again if another process has replaced it, so that all parts of the result belong together.
    """
    while True:
        before = _identity(folder)
        try:
            content = read(before[0] if before else folder)
        except (ModelError, OSError):
            if _identity(folder) == before:
                raise
        else:
            if _identity(folder) == before:
                return content


def check_text(path: Path, description: Mapping[str, Any]) -> None:
    """Raise ModelError if a text file does not match its checksum; folders of earlier releases have none."""
    checksums = description.get("texts")
    wanted = checksums.get(path.name) if isinstance(checksums, dict) else None
    if checksums is not None and wanted != zlib.crc32(path.read_bytes()):
        raise ModelError(f"{path}: does not match its checksum in config.json; {SAVE_AGAIN}")


def _identity(folder: Path) -> tuple[Path, int, int] | None:
    """Identify the folder's content, to detect that it is replaced while it is being read."""
    place = standing(folder)
    try:
        status = place.stat()
    except OSError:
        return None
    return place, status.st_ino, status.st_mtime_ns


def _read(folder: Path, mmap: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    description, arrays = _read_config_json(folder), {}
    for name, entry in description.pop("arrays").items():
        path = folder / f"{name}.npy"
        try:
            with path.open("rb") as file:
                array = read_array(file, path, tuple(entry["shape"]), entry["dtype"], mmap)
                checksum = zlib.crc32(bytes_of(array))
                if mmap:  # pages that the checksum has touched would count as taken as long as they are mapped
                    file.seek(0)
                    array = read_array(file, path, tuple(entry["shape"]), entry["dtype"], mmap)
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror or error}); {SAVE_AGAIN}") from error
        if checksum != entry["crc32"]:
            raise ModelError(f"{path}: does not match its checksum in config.json; {SAVE_AGAIN}")
        arrays[name] = array
    return description, arrays


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        try:
            _read_config_json(folder)
        except ModelError as error:
            raise ModelError(f"{folder}: it exists and is not a model; choose another folder") from error


def _read_config_json(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); {GIVE_MODEL}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON ({error}); {SAVE_AGAIN}") from error
    version = content.pop("format_version", None) if isinstance(content, dict) else None
    if not is_count(version) or version < 1:
        raise ModelError(f"{path}: no format_version; {GIVE_MODEL}")
    if version > FORMAT_VERSION:
        raise ModelError(f"{path}: format {version} is newer than this release reads; upgrade slide-numpy")
    _check_entries(content.get("arrays"), path)
    return content


def _check_entries(entries: Any, path: Path) -> None:
    if not isinstance(entries, dict):
        raise ModelError(f"{path}: no table of arrays; {SAVE_AGAIN}")
    for name, entry in entries.items():
        if not _NAME.fullmatch(name):
            raise ModelError(f"{path}: {name!r} is not an array name; {SAVE_AGAIN}")
        shape, dtype, checksum = (entry.get(key) if isinstance(entry, dict) else None for key in _ENTRY_KEYS)
        if not _is_shape(shape) or dtype not in DTYPES or not is_count(checksum):
            raise ModelError(f"{path}: array {name} needs a shape, a dtype and a checksum; {SAVE_AGAIN}")
