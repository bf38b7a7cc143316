"""Rows, bits, signs and the Hadamard transform that the codecs are built from."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.compression.packing import (
    hadamard,
    in_rows,
    or_one,
    pack,
    packed_bytes,
    signs,
    split,
    unpack,
)

POWERS_OF_TWO = [2**power for power in range(13)]


def gaussian(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@given(st.integers(1, 8), st.data())
@settings(deadline=None)
def test_unpacking_undoes_packing(bits, data):
    codes = np.array(data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=50)), int)
    packed = pack(codes, bits)
    assert len(packed) == packed_bytes(len(codes), bits) == (len(codes) * bits + 7) // 8
    unpacked = unpack(np.frombuffer(packed, np.uint8), bits, len(codes))
    assert unpacked.tolist() == codes.tolist()


def test_bits_follow_each_other_without_gaps():
    assert pack(np.array([1, 0, 1]), 1) == bytes([0b10100000])
    assert pack(np.array([1, 2, 7]), 3) == bytes([0b10001011, 0b10000000])  # low bit first


@pytest.mark.parametrize(
    ("size", "length", "rows"), [(1, 4, 1), (4, 4, 1), (5, 4, 2), (5, 1, 5), (8, 4, 2)]
)
def test_rows_hold_the_vector_and_then_zeros(size, length, rows):
    vector = gaussian(size)
    cut = in_rows(vector, length)
    assert cut.shape == (rows, length)
    assert cut.dtype == vector.dtype
    assert np.array_equal(cut.ravel()[:size], vector)
    assert not cut.ravel()[size:].any()


def test_only_zeros_become_one():
    assert or_one(np.array([0, -0.0, 2, -3, 1e-40])).tolist() == [1, 1, 2, -3, 1e-40]


@pytest.mark.parametrize("length", POWERS_OF_TWO)
def test_the_transform_is_that_of_scipys_matrix(length):
    rows = gaussian(3, length)
    expected = rows @ scipy.linalg.hadamard(length) / np.sqrt(length)
    assert hadamard(rows) == pytest.approx(expected, abs=1e-5)
    assert hadamard(rows).dtype == np.float32


@pytest.mark.parametrize("length", POWERS_OF_TWO)
def test_the_transform_is_orthonormal_and_its_own_inverse(length):
    rows = gaussian(3, length)
    assert np.linalg.norm(hadamard(rows), axis=1) == pytest.approx(np.linalg.norm(rows, axis=1))
    assert hadamard(hadamard(rows)) == pytest.approx(rows, abs=1e-5)


def test_signs_are_plus_or_minus_one_in_equal_shares():
    drawn = signs(b"8 bytes.", (100, 1000))
    assert drawn.dtype == np.float32
    assert set(np.unique(drawn)) == {-1, 1}
    assert abs(drawn.mean()) < 5 / np.sqrt(drawn.size)  # false alarm: 6e-7, and the seed is fixed


def test_signs_depend_on_the_seed_and_the_row_alone():
    drawn = signs(b"8 bytes.", (3, 64))
    assert np.array_equal(drawn, signs(b"8 bytes.", (3, 64)))
    assert not np.array_equal(drawn, signs(b"8 bytes!", (3, 64)))
    assert not np.array_equal(drawn, signs(b"9 bytes.", (3, 64)))
    assert not np.array_equal(drawn[0], drawn[1])


def test_splitting_takes_the_fields_in_order_and_gives_arrays_of_their_own():
    data = np.array([1, 2], np.float32).tobytes() + bytes([3, 4, 5])
    first, none, last = split(data, (np.float32, 2), (np.uint16, 0), (np.uint8, 3))
    assert (first.tolist(), none.tolist(), last.tolist()) == ([1, 2], [], [3, 4, 5])
    first[0] = 7  # would fail on a view of the bytes


@pytest.mark.parametrize("data", [b"", b"1234", bytes(11), bytes(1000)])
def test_bytes_too_few_or_too_many_are_refused(data):
    with pytest.raises(ValueError, match="10 bytes are needed"):
        split(data, (np.float32, 2), (np.uint8, 2))
