"""Diagnosis of a file that cannot be read: it has another format, or a line has a common mistake."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import DataError

EMPTY = "the file is empty; give one that holds samples"
UNPACK = "unpack it first"
NAME_NPZ = "give it a name that ends in .npz"
CONVERT = "save its samples as XMC text, as svmlight text (named .svm) or as .npz"
TEXTS = f"if it holds texts, train a model of texts with slide train --text-column; else {CONVERT}"
RESAVE = "save it as UTF-8 without one"
ANOTHER = "give the file that holds the samples"

# How a file begins that is no text, what it is, and what to do.
BINARY = (
    (rb"\xef\xbb\xbf", "begins with a byte order mark", RESAVE),
    (rb"\xff\xfe|\xfe\xff", "begins with a byte order mark of UTF-16", RESAVE),
    (rb"\x1f\x8b", "is compressed with gzip", UNPACK),
    (rb"BZh", "is compressed with bzip2", UNPACK),
    (rb"\xfd7zXZ", "is compressed with xz", UNPACK),
    (rb"\x5d\x00\x00", "is compressed with lzma", UNPACK),
    (rb"\x28\xb5\x2f\xfd", "is compressed with zstd", UNPACK),
    (rb"\x04\x22\x4d\x18", "is compressed with lz4", UNPACK),
    (rb"\x1f\x9d", "is compressed with Unix compress", UNPACK),
    (rb"7z\xbc\xaf", "is a 7z archive", UNPACK),
    (rb"Rar!\x1a", "is a RAR archive", UNPACK),
    (rb"(?s:.{257}ustar)", "is a tar archive", UNPACK),
    (rb"(?s:PK\x03\x04.*(\[Content_Types\]|xl/))", "is an Excel workbook", CONVERT),
    (rb"(?s:PK\x03\x04.{26}[\w.-]+\.npy)", "is an .npz archive", NAME_NPZ),
    (rb"(?s:PK\x03\x04.{26}mimetypeapplication/vnd\.oasis)", "is an OpenDocument file", CONVERT),
    (rb"PK(\x03\x04|\x05\x06)", "is a zip archive", f"{UNPACK}, or if it is .npz, name it so"),
    (rb"\xd0\xcf\x11\xe0", "is an Excel workbook or another Office document", CONVERT),
    (rb"\x93NUMPY", "is a NumPy array (.npy)", CONVERT),
    (rb"PAR1[^ -~\s]", "is a Parquet file", CONVERT),
    (rb"ARROW1\x00|FEA1\x00|\xff\xff\xff\xff", "is an Arrow file", CONVERT),
    (rb"\x89HDF", "is an HDF5 file", CONVERT),
    (rb"\x80[\x02-\x05]", "is a pickle", CONVERT),
    (rb"SQLite format 3\x00", "is an SQLite database", CONVERT),
    (rb"MATLAB \d\.\d MAT-file", "is a MATLAB file", CONVERT),
    (rb"%PDF-", "is a PDF document", ANOTHER),
    (rb"\x89PNG|\xff\xd8\xff|GIF8[79]a", "is a picture", ANOTHER),
)
# How the first line of other text looks.
TEXT = (
    (rb"[^\x00]*\x00", "is not UTF-8 text: it contains NUL bytes", "save it as UTF-8, or copy it again"),
    (rb"[^\r]*\r", "has lines that end in CR alone", "save it with LF or CR LF at the ends of lines"),
    (rb"[^\x00-\x08\x0e-\x1f]*[\x00-\x08\x0e-\x1f]", "is not text", ANOTHER),
    (rb"version https://git-lfs", "is a pointer of Git LFS", "fetch the file itself: git lfs pull"),
    (rb"[ \t]*<", "looks like HTML or XML", "if it is the error page of a download, fetch the file again"),
    (rb"[ \t]*[{\[]", "looks like JSON", TEXTS),
    (rb"%%MatrixMarket", "is a Matrix Market file", CONVERT),
    (rb"(?i:@relation)", "is an ARFF file", CONVERT),
    (rb"__label__", "is text for fastText", CONVERT),
    (rb"[^\t:]*\t[^:]*$|[^\t]*[^\d\t:][^\t]*\t", "looks like tab-separated values (TSV)", TEXTS),
    (rb"[^,:]*,[^:]*$|[^,]*[^\d,: -][^,]*,", "looks like comma-separated values (CSV)", TEXTS),
    (rb"[^;:]*;[^:]*$", "looks like values separated by ';'", TEXTS),
    (rb"(?i:.*[a-z]{4})", "looks like plain text", TEXTS),
)
SAMPLE = re.compile(rb"([+-]?[\d.]+(,\d+)*[ \t]+)?(qid:\d+[ \t]+)*\d+:[+-]?[\d.]")
HEADER = re.compile(rb"\d+[ \t]+\d+[ \t]+\d+[ \t]*")
PAIRS = re.compile(
    rb"([\d.,+-]+[ \t]+)?(qid:\d+[ \t]+)*\d+:[+-]?[\d.]+([eE][+-]?\d+)?([ \t]+\d+:[+-]?[\d.]+([eE][+-]?\d+)?)*"
)

# How the rest of a line looks from a malformed word on, and what to do.
LABELS_APART = "labels are separated by ',' without spaces"
FEATURES_APART = "features are separated by spaces only"
NO_SPACE = "put no space next to ':'"
WORDS = (
    (rb"[^ \t]*\x00", "it contains NUL bytes: save the file as UTF-8 text, or copy it again"),
    (rb"[^ \t]*\r", "it contains a carriage return: end all lines in LF or CR LF"),
    (rb"[^ \t]*\xef\xbb\xbf", "it contains a byte order mark: save the files that were joined as UTF-8 without one"),
    (rb"[^ \t]*\xc2\xa0", "it contains a no-break space: use plain spaces between words"),
)
LABELS = ((rb"[ \t]+\d+([ \t,]|$)|\d+[;|/]", LABELS_APART),)
SECOND_WORDS = ((rb"\d+[ \t]+:", NO_SPACE), (rb"[,;|]*\d+([ \t,;|]|$)|[,;|]", LABELS_APART))
FEATURES = ((rb"\d+[ \t]+:", NO_SPACE), (rb"[,;|]", FEATURES_APART))
VALUES = (
    (rb"[ \t]+[+-]?[\d.]+([ \t]|$)", NO_SPACE),
    (rb"[+-]?\d*,\d+([eE][+-]?\d+)?([ \t]|$)", "write a decimal point instead of the comma"),
    (rb"[+-]?[\d.]+[,;|]", FEATURES_APART),
)
LOOKED_AT = 1024


def unreadable(path: str | os.PathLike[str], error: OSError) -> DataError:
    """Return the reason why a file of samples cannot be read."""
    reason = error.strerror or str(error)
    if Path(path).is_dir():
        is_model = any(Path(path, name).is_file() for name in ("config.json", "model/config.json"))
        reason = "it is the folder of a model; give samples" if is_model else "it is a folder; give a file"
    return DataError(f"the file cannot be read: {reason}", path)


def not_text(head: bytes, of_texts: str | None = None) -> str | None:
    """Identify a file that is not UTF-8 text, and say what to do; None if its first bytes do not reveal it.

    `of_texts` is the advice on a file of another format where texts are expected.
    """
    kind = _kind(BINARY, head)
    return kind if kind is None or of_texts is None else kind.replace(CONVERT, of_texts).replace(NAME_NPZ, of_texts)


def not_texts(lines: list[bytes]) -> str | None:
    """Identify samples of numbers, where texts are expected, by the first lines that are not blank; None if unknown."""
    first, *samples = [*filter(None, (line.partition(b"#")[0].strip() for line in lines)), b""][:3]
    is_xmc = HEADER.fullmatch(first) is not None
    samples = list(filter(None, samples if is_xmc else [first, *samples[:1]]))
    if samples and all(map(PAIRS.fullmatch, samples)):
        return f"{'XMC' if is_xmc else 'svmlight'} text, which holds numbers"
    return None


def not_xmc(line: bytes) -> str | None:
    """Identify a file by its first line, which is not an XMC header; None if that is not possible."""
    if _begins_with_sample(line):
        header = "'n_samples n_features n_labels'"
        return f"the file begins with a sample; put the header {header} before it, or name svmlight text .svm"
    return _kind(BINARY + TEXT, line)


def not_svmlight(line: bytes) -> str | None:
    """Identify a file by its first line, which is malformed as svmlight text; None if that is not possible."""
    if HEADER.fullmatch(line[:LOOKED_AT].lstrip()):
        return "the file begins with the header of XMC text; give it a name that ends in .txt"
    return None if _begins_with_sample(line) else _kind(BINARY + TEXT, line)


def not_npz(head: bytes) -> str | None:
    """Identify a file that is not an .npz archive; None if its first bytes do not reveal it."""
    if not head:
        return EMPTY
    if head.startswith(b"PK"):
        return None
    text = "the file is text, not .npz; samples in text need a name that ends in .txt, svmlight text in .svm"
    return not_text(head) or (text if re.match(rb"[\t\n\r -~]*$", head) else None)


def advice(line: bytes, column: int | None) -> str:
    """Return advice on a malformed word of a sample, to append to the error message; often empty."""
    if column is None:
        return ""
    before, rest = line[max(column - 2, 0) : column - 1], line[column - 1 : column - 1 + LOOKED_AT]
    if before == b":":
        mistakes: tuple[tuple[bytes, str], ...] = VALUES
    elif before in (b"", b","):
        mistakes = LABELS
    else:
        mistakes = FEATURES if b":" in line[:column] else SECOND_WORDS
    return next((f"; {remedy}" for pattern, remedy in (*WORDS, *mistakes) if re.match(pattern, rest)), "")


def _begins_with_sample(line: bytes) -> bool:
    return b"\r" not in line and SAMPLE.match(line[:LOOKED_AT].lstrip()) is not None


def _kind(kinds: tuple[tuple[bytes, str, str], ...], head: bytes) -> str | None:
    head = head[:LOOKED_AT]
    return next((f"the file {what}; {remedy}" for start, what, remedy in kinds if re.match(start, head)), None)
