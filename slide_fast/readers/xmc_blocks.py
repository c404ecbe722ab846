"""XMC text, one block of whole lines at a time (S17).

A block whose lines are all plainly well-formed is parsed by NumPy calls alone. A block with anything unusual is parsed
again line by line, and is then either accepted or rejected with its first error.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from slide_ref.common.diagnosis import advice
from slide_ref.common.errors import DataError
from slide_ref.common.sparse_rows import Dataset, SparseRows
from slide_ref.common.xmc_lines import parse_decimal, parse_sample

# Separators cut a block into pieces. What a piece is follows from the separators on its two sides and from whether
# anything stands between them; a combination that is not listed sends the block to the line-by-line reader.
LINE, SPACE, COMMA, COLON, DOT = 1, 2, 3, 4, 5
LABEL, FEATURE, WHOLE, FRACTION, NOTHING = 1, 2, 3, 4, 5
FULL_PIECES = {
    LABEL: [(LINE, COMMA), (LINE, SPACE), (LINE, LINE), (COMMA, COMMA), (COMMA, SPACE), (COMMA, LINE)],
    FEATURE: [(SPACE, COLON)],
    WHOLE: [(COLON, DOT), (COLON, SPACE), (COLON, LINE)],
    FRACTION: [(DOT, SPACE), (DOT, LINE)],
}
EMPTY_PIECES = {
    NOTHING: [(LINE, SPACE), (SPACE, SPACE), (SPACE, LINE)],
    WHOLE: [(COLON, DOT)],
    FRACTION: [(DOT, SPACE), (DOT, LINE)],
}


def _byte_table(entries: dict[int, int]) -> bytes:
    return bytes(entries.get(i, 0) for i in range(256))


def _piece_code(before: Any, after: Any, is_full: Any) -> Any:
    return before << 4 | after << 1 | is_full


SEPARATOR_OF_BYTE = _byte_table(dict(zip(b"\n \t,:.", (LINE, SPACE, SPACE, COMMA, COLON, DOT), strict=True)))
ROLE_OF_CODE = _byte_table(
    {_piece_code(*pair, 1): role for role, pairs in FULL_PIECES.items() for pair in pairs}
    | {_piece_code(*pair, 0): role for role, pairs in EMPTY_PIECES.items() for pair in pairs}
)
POWERS_OF_TEN = 10 ** np.arange(19, dtype=np.int64)


def parse_block(block: bytes, n_features: int, n_labels: int) -> Dataset:
    """Parse lines that all end in LF into canonical rows.

    Raises
    ------
    DataError
        At the first malformed line; `line` is counted from 1 in the block.
    """
    return _parse_at_once(block, n_features, n_labels) or _parse_lines(block, n_features, n_labels)


def _parse_at_once(block: bytes, n_features: int, n_labels: int) -> Dataset | None:
    """Parse all lines of a block at once; None if any of them holds something unusual."""
    pieces = _cut(block)
    if not pieces.roles.all():
        return None
    label_at, feature_at = np.flatnonzero(pieces.roles == LABEL), np.flatnonzero(pieces.roles == FEATURE)
    labels, labels_good = _parse_digits(pieces, label_at, pieces.lengths[label_at])
    features, features_good = _parse_digits(pieces, feature_at, pieces.lengths[feature_at])
    values = _parse_values(block, pieces, feature_at + 1)
    labels_good &= labels < n_labels
    features_good &= features < n_features
    if values is None or not labels_good.all() or not features_good.all():
        return None
    line_at = np.flatnonzero(pieces.after == LINE)
    try:
        return Dataset(
            SparseRows(_indptr(feature_at, line_at), features, values, n_features).canonical(),
            SparseRows(_indptr(label_at, line_at), labels, None, n_labels).canonical(),
        )
    except DataError:
        return None


def _indptr(piece_at: np.ndarray, line_at: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.searchsorted(piece_at, line_at, side="right")])


class _Pieces(NamedTuple):
    """The pieces of text between separators, in text order. All arrays but the last have one entry per piece.

    Attributes
    ----------
    ends : ndarray of int64
        Position in the block of the separator after a piece.
    lengths : ndarray of int64
    after : ndarray of uint8
        The kind of that separator.
    roles : ndarray of uint8
        Role of the piece; 0 if it does not fit in a plain line.
    words : ndarray of uint64, shape (bytes in the block + 1,)
        ``words[i]`` holds the eight bytes before byte i, the nearest one in the highest place.
    """

    ends: np.ndarray
    lengths: np.ndarray
    after: np.ndarray
    roles: np.ndarray
    words: np.ndarray


def _cut(block: bytes) -> _Pieces:
    separators = np.frombuffer(block.translate(SEPARATOR_OF_BYTE), dtype=np.uint8)
    ends = np.flatnonzero(separators != 0)
    after = separators[ends]
    before = np.concatenate([np.array([LINE], dtype=np.uint8), after[:-1]])
    lengths = ends.copy()
    lengths[1:] -= ends[:-1] + 1
    codes = _piece_code(before, after, lengths > 0)
    roles = np.frombuffer(codes.tobytes().translate(ROLE_OF_CODE), dtype=np.uint8)
    words = np.ndarray(len(block) + 1, dtype="<u8", buffer=bytes(8) + block, strides=(1,))
    return _Pieces(ends, lengths, after, roles, words)


def _parse_digits(pieces: _Pieces, at: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parse the last `lengths` bytes of the given pieces as numbers; flag those of 1 to 16 digits."""
    ends = pieces.ends[at]
    numbers, good = _parse_eight_digits(pieces.words[ends], np.minimum(lengths, 8))
    good &= (lengths > 0) & (lengths <= 16)
    long = np.flatnonzero(lengths > 8)
    if len(long):
        upper, upper_good = _parse_eight_digits(pieces.words[ends[long] - 8], np.minimum(lengths[long] - 8, 8))
        numbers[long] += upper * 10**8
        good[long] &= upper_good
    return numbers, good


def _parse_eight_digits(words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parse the `lengths` upper bytes of words, lowest byte first in the text; flag those that are all digits.

    Adjacent digits are combined into pairs, pairs into fours and fours into eights, in place.
    """
    digits = words ^ np.uint64(0x3030303030303030)
    unused = (8 * (8 - lengths)).astype(np.uint64)
    digits >>= unused
    digits <<= unused
    good = ((digits | (digits + np.uint64(0x7676767676767676))) & np.uint64(0x8080808080808080)) == 0
    digits = (digits * np.uint64(10 << 8 | 1)) >> np.uint64(8) & np.uint64(0x00FF00FF00FF00FF)
    digits = (digits * np.uint64(100 << 16 | 1)) >> np.uint64(16) & np.uint64(0x0000FFFF0000FFFF)
    digits = (digits * np.uint64(10000 << 32 | 1)) >> np.uint64(32)
    return digits.astype(np.int64), good


def _parse_values(block: bytes, pieces: _Pieces, whole_at: np.ndarray) -> np.ndarray | None:
    """Parse values, float64, given the pieces where they begin; None if one is not a decimal number or is too large.

    A whole number below 2**53, divided by a power of ten up to 10**22, is the float64 nearest to the text. Text
    that is longer or has an exponent goes to `float`.
    """
    ends, lengths = pieces.ends[whole_at], pieces.lengths[whole_at]
    starts = ends - lengths
    negative = np.frombuffer(block, dtype=np.uint8)[starts] == ord("-")
    lengths = lengths - negative
    mantissas, good = _parse_digits(pieces, whole_at, lengths)
    places = np.zeros(len(whole_at), dtype=np.int64)
    dotted = np.flatnonzero(pieces.after[whole_at] == DOT)
    fraction_at = whole_at[dotted] + 1
    places[dotted] = pieces.lengths[fraction_at]
    fractions, fractions_good = _parse_digits(pieces, fraction_at, places[dotted])
    good[dotted] &= fractions_good
    good &= lengths + places <= 18
    places[~good] = 0
    mantissas *= POWERS_OF_TEN[places]
    mantissas[dotted] += fractions
    good &= mantissas < 2**53
    values = mantissas / POWERS_OF_TEN[places]
    values[negative] *= -1
    ends[dotted] = pieces.ends[fraction_at]
    for i in np.flatnonzero(~good):
        value = parse_decimal(block[starts[i] : ends[i]])
        if value is None:
            return None
        values[i] = value
    return values


def _parse_lines(block: bytes, n_features: int, n_labels: int) -> Dataset:
    """Parse lines one by one. Raises DataError with a line counted from 1 in the block."""
    labels: list[int] = []
    features: list[int] = []
    values: list[np.float32] = []
    ends = [(0, 0)]
    for number, line in enumerate(block.split(b"\n")[:-1], start=1):
        try:
            sample_labels, sample_features = parse_sample(line, n_features, n_labels)
        except DataError as error:
            raise DataError(error.message + advice(line, error.column), line=number, column=error.column) from None
        labels += sample_labels
        features += [feature for feature, _ in sample_features]
        values += [value for _, value in sample_features]
        ends.append((len(features), len(labels)))
    feature_ends, label_ends = np.array(ends, dtype=np.int64).T
    return Dataset(
        SparseRows(feature_ends, np.array(features, dtype=np.int32), np.array(values, dtype=np.float32), n_features),
        SparseRows(label_ends, np.array(labels, dtype=np.int32), None, n_labels),
    )
