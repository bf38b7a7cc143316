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


@given(st.integers(1, 60), st.integers(1, 20))
def test_rows_hold_the_vector_and_then_fewer_zeros_than_a_row(size, length):
    rows = in_rows(np.arange(1, size + 1, dtype=np.float32), length)
    assert rows.ravel().tolist() == [*range(1, size + 1), *[0] * (rows.size - size)]
    assert rows.shape[1] == length
    assert rows.size - size < length
    assert rows.dtype == np.float32


def test_only_zeros_become_one():
    assert or_one(np.array([0, -0.0, 2, -3, 1e-40])).tolist() == [1, 1, 2, -3, 1e-40]


def test_the_transform_is_that_of_scipys_matrix_for_every_power_of_two():
    for power in range(13):
        rows = np.random.default_rng(power).standard_normal((3, 2**power)).astype(np.float32)
        expected = rows @ scipy.linalg.hadamard(2**power) / np.sqrt(2**power)
        assert hadamard(rows) == pytest.approx(expected, abs=1e-5)
        assert hadamard(rows).dtype == np.float32


def test_signs_come_in_equal_shares_and_depend_on_seed_and_place_alone():
    drawn = signs(b"8 bytes.", (99, 1001))
    assert drawn.dtype == np.float32
    assert set(np.unique(drawn)) == {-1, 1}
    assert abs(drawn.mean()) < 5 / np.sqrt(drawn.size)  # false alarm: 6e-7, and the seed is fixed
    assert np.array_equal(drawn, signs(b"8 bytes.", (99, 1001)))
    for seed in (b"8 bytes!", b"9 bytes."):
        assert abs((drawn * signs(seed, drawn.shape)).mean()) < 5 / np.sqrt(drawn.size)
    assert abs((drawn[1:] * drawn[:-1]).mean()) < 5 / np.sqrt(drawn.size)


def test_splitting_takes_the_fields_in_order_and_gives_arrays_of_their_own():
    data = np.array([1, 2], np.float32).tobytes() + bytes([3, 4, 5])
    first, none, last = split(data, (np.float32, 2), (np.uint16, 0), (np.uint8, 3))
    assert (first.tolist(), none.tolist(), last.tolist()) == ([1, 2], [], [3, 4, 5])
    first[0] = 7  # would fail on a view of the bytes
    for bad in (b"", data[:-1], data + b"1"):
        with pytest.raises(ValueError, match="11 bytes are needed"):
            split(bad, (np.float32, 2), (np.uint16, 0), (np.uint8, 3))
