"""Sorted class ids in Elias–Fano code: about 2 + log₂(C / k) bits an id, no search needed to read.

N rows · M ids of all rows · B bytes of all rows. Elias 1974 (J. ACM 21), Fano 1971. Of each id the
lowest ⌊log₂(C / k)⌋ bits are written as they are, one id after the other; the rest, which grows
from id to id, follows in unary: the i-th id sets bit (id >> low) + i. Bits run from the lowest up.
"""

import numpy as np
from numpy.typing import NDArray

from potstill.store.codecs.layout import Bytes, Whole, damaged, ragged


def low_bits(counts_N: Whole, num_classes: int) -> Whole:
    """`[N]`, ⌊log₂(C / k)⌋ for rows of k ids (at least one)."""
    quotient = num_classes // np.maximum(counts_N, 1)
    exponent_N: NDArray[np.int32] = np.frexp(quotient.astype(np.float64))[1]
    return np.maximum(exponent_N - 1, 0).astype(np.int64)


def most_bytes(count: int, num_classes: int) -> int:
    """The size of the largest row of `count` ids."""
    low = int(low_bits(np.array([count]), num_classes)[0])
    return (count * (low + 1) + ((num_classes - 1) >> low) + 7) // 8


def sizes(ids_M: Whole, counts_N: Whole, num_classes: int) -> Whole:
    """`[N]`, the bytes of each row."""
    low_N = low_bits(counts_N, num_classes)
    last_N = ids_M[np.cumsum(counts_N) - 1]
    return (counts_N * (low_N + 1) + (last_N >> low_N) + 7) // 8


def write(data: Bytes, begins_N: Whole, ids_M: Whole, counts_N: Whole, num_classes: int) -> None:
    """Write rows of ids into a buffer of zeros.

    Args:
        data: the bytes of all rows.
        begins_N: where the ids of each row begin.
        ids_M: row after row, rising within a row.
        counts_N: ids of each row, at least one.
        num_classes: C.
    """
    row_M, place_M = ragged(counts_N)
    low_M = low_bits(counts_N, num_classes)[row_M]
    first_M = 8 * begins_N[row_M]
    unary_M = first_M + counts_N[row_M] * low_M + (ids_M >> low_M) + place_M
    low_at_M = first_M + place_M * low_M
    low_value_M = (ids_M & ((1 << low_M) - 1)) << (low_at_M & 7)
    where = [unary_M >> 3]
    what = [1 << (unary_M & 7)]
    for plane in range(_planes(low_M)):
        where.append((low_at_M >> 3) + plane)
        what.append((low_value_M >> (8 * plane)) & 255)
    at, value = np.concatenate(where), np.concatenate(what)
    at, value = at[value != 0], value[value != 0]  # planes beyond an id's bits hold nothing
    # No bit is written twice, so adding is setting; sums of up to 255 are exact in float64.
    data += np.bincount(at, weights=value, minlength=len(data)).astype(np.uint8)


def read(
    data: Bytes, begins_N: Whole, ends_N: Whole, counts_N: Whole, num_classes: int, codec: str
) -> Whole:
    """`[M]`, the ids that `write` wrote.

    Args:
        data: the bytes of all rows.
        begins_N: where the ids of each row begin.
        ends_N: where they end.
        counts_N: ids of each row, at least one.
        num_classes: C.
        codec: its name, for the sentence.

    Raises:
        StoreError: bytes that hold another number of ids, or ids out of order or out of range.
    """
    low_N = low_bits(counts_N, num_classes)
    unary_N = 8 * begins_N + counts_N * low_N
    if (unary_N + counts_N > 8 * ends_N).any():
        raise damaged(codec, "it is too short for its classes")
    row_M, place_M = ragged(counts_N)
    high_M = _read_unary(data, unary_N, ends_N, counts_N, codec) - place_M
    low_M = low_N[row_M]
    low_at_M = 8 * begins_N[row_M] + place_M * low_M
    ids_M = (high_M << low_M) | _read_low(data, low_at_M, low_M)
    follows = place_M[1:] > 0
    if (ids_M >= num_classes).any() or (np.diff(ids_M) <= 0)[follows].any():
        raise damaged(codec, "its classes are out of order or out of range")
    return ids_M


def _read_unary(data: Bytes, at_N: Whole, ends_N: Whole, counts_N: Whole, codec: str) -> Whole:
    """`[M]`, the places of the bits that are set from bit `at` of each row to its end."""
    byte_N = at_N >> 3
    row_B, place_B = ragged(ends_N - byte_N)
    bytes_B = data[byte_N[row_B] + place_B]
    bytes_B[place_B == 0] &= (255 << (at_N & 7)).astype(np.uint8)
    bits_B8 = np.unpackbits(bytes_B[:, None], axis=1, bitorder="little")
    byte_M, bit_M = np.nonzero(bits_B8)
    row_M = row_B[byte_M]
    found_N = np.bincount(row_M, minlength=len(counts_N))
    # The last byte of a row holds its last bit: a row is never longer than it must be.
    if (found_N != counts_N).any() or (data[ends_N - 1] == 0).any():
        raise damaged(codec, "it does not hold as many classes as it says")
    places: Whole = 8 * place_B[byte_M] + bit_M - (at_N & 7)[row_M]
    return places


def _read_low(data: Bytes, at_M: Whole, low_M: Whole) -> Whole:
    """`[M]`, the numbers of `low` bits from each place on."""
    planes = _planes(low_M)
    room = np.concatenate([data, np.zeros(planes, dtype=np.uint8)])
    byte_M = at_M >> 3
    value_M = np.zeros(len(at_M), dtype=np.int64)
    for plane in range(planes):
        value_M |= room[byte_M + plane].astype(np.int64) << (8 * plane)
    return (value_M >> (at_M & 7)) & ((1 << low_M) - 1)


def _planes(low_M: Whole) -> int:
    """Over how many bytes the widest number may spread."""
    widest = int(low_M.max(initial=0))
    return (widest + 14) // 8 if widest else 0
