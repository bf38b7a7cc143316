"""What each codec loses, what it costs, that it is unbiased where it says so, what it refuses."""

import json
import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy.stats import norm

from utils.compression import Cast, CompressionError, Rotation, TopK, Uniform
from utils.compression.codecs import _LLOYD_MAX
from utils.randomness import random_stream

CODECS = [
    Cast(),
    Cast("bfloat16"),
    Uniform(),
    Uniform(bits=3, bucket=10),
    TopK(),
    TopK(0.3),
    Rotation(),
    Rotation(bits=3, unbiased=False, block=16),
]
vectors = st_numpy.arrays(
    np.float32, st.integers(1, 60), elements=st.floats(-1000, 1000, width=32, allow_subnormal=False)
)


@pytest.fixture(autouse=True)
def a_fixed_seed():
    with random_stream("codecs"):
        yield


def gaussian(size):
    return np.random.default_rng(0).standard_normal(size).astype(np.float32)


def through(codec, values):
    return codec.decode(codec.encode(values), values.size)


# What is lost ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        (Rotation(1), 0.5706),  # pi/2 - 1, and so on: table 1 of the EDEN paper
        (Rotation(1, unbiased=False), 0.3633),
        (Rotation(2), 0.1329),
        (Rotation(3), 0.0358),
        (Rotation(4), 0.0096),
        (Uniform(8, bucket=512), 0.00011),
        (Uniform(4, bucket=512), 0.037),
        (TopK(0.1), 0.56),
        (TopK(0.01), 0.92),
    ],
    ids=str,
)
def test_the_squared_error_on_a_gaussian_vector_is_the_known_one(codec, expected):
    values = gaussian(2**20)
    error = np.square(through(codec, values) - values).sum() / np.square(values).sum()
    assert error == pytest.approx(expected, rel=0.05)


@given(st.sampled_from(CODECS), vectors)
@settings(max_examples=200, deadline=None)
def test_what_comes_back_is_finite_float32_of_the_same_length_and_zeros_stay_zeros(codec, values):
    before = values.copy()
    decoded = through(codec, values)
    assert decoded.dtype == np.float32
    assert decoded.shape == values.shape
    assert np.isfinite(decoded).all()
    assert np.array_equal(values, before)  # the vector itself is left alone
    assert not through(codec, values * 0).any()


def test_a_cast_keeps_the_relative_error_and_the_range_of_its_format():
    values = np.concatenate([gaussian(2**16), [6e4, -6e4, 1e-4]]).astype(np.float32)
    values = values[np.abs(values) > 2**-14]  # the smallest number that float16 holds in full
    for dtype, bound in (("float16", 2**-11), ("bfloat16", 2**-8)):
        relative = np.abs(through(Cast(dtype), values) / values - 1)
        assert bound / 1.1 < relative.max() <= bound
    large = np.array([1e-30, 65_520, 3e38], np.float32)
    assert through(Cast("bfloat16"), large) == pytest.approx(large, rel=2**-8)
    assert through(Cast(), np.array([65_504, -65_504], np.float32)).tolist() == [65_504, -65_504]
    for value in (65_520, -1e6, 3e38):
        with pytest.raises(CompressionError, match=r"too large for float16; Cast\('bf") as raised:
            Cast().encode(np.array([0, value, 1], np.float32))
        assert str(raised.value).startswith(f"{abs(np.float32(value)):g} is")


@given(vectors)
@settings(deadline=None)
def test_uniform_errs_by_less_than_a_level_of_the_numbers_own_bucket(values):
    decoded = through(Uniform(bits=4, bucket=7), values)
    for start in range(0, values.size, 7):
        bucket, got = values[start : start + 7], decoded[start : start + 7]
        level = np.abs(bucket).max() / 7  # 4 bits: 7 levels on each side of zero
        assert np.abs(got - bucket).max() <= level * (1 + 1e-5)
        assert np.abs(got).max() <= np.abs(bucket).max() * (1 + 1e-6)
        assert np.abs(got / (level or 1) - np.round(got / (level or 1))).max() < 1e-3


def test_uniform_never_rounds_past_the_largest_number(monkeypatch):
    monkeypatch.setattr(np.random, "random", lambda shape: np.full(shape, np.nextafter(1, 0)))
    values = np.array([127, -127, 5], np.float32)  # 127 levels: a sum of floats reaches the 128th
    assert through(Uniform(8), values)[:2].tolist() == [127, -126]


def test_a_bucket_larger_than_the_vector_is_shortened_to_it():
    def two_encodings(codec):  # the second shows how many random numbers the first one drew
        np.random.seed(0)
        return codec.encode(gaussian(5)), codec.encode(gaussian(5))

    assert two_encodings(Uniform(8, 2**24)) == two_encodings(Uniform(8, bucket=5))


@given(vectors, st.floats(0.01, 1))
@settings(deadline=None)
def test_topk_keeps_the_largest_exactly_and_nothing_else(values, share):
    decoded = through(TopK(share), values)
    kept = max(1, round(share * values.size))
    assert np.all((decoded == values) | (decoded == 0))
    assert sorted(np.abs(decoded))[-kept:] == sorted(np.abs(values))[-kept:]
    assert np.count_nonzero(decoded) <= kept


def test_topk_finds_the_largest_and_the_last_position_of_a_long_vector():
    values = gaussian(5000)
    for kept in (1, 2, 50, 500):
        found = np.flatnonzero(through(TopK(kept / 5000), values))
        assert set(found) == set(np.argsort(np.abs(values))[-kept:])
    for size in (65_536, 65_537, 70_000):
        values = np.zeros(size, np.float32)
        values[-1] = 5
        assert np.array_equal(through(TopK(1e-9), values), values)


def test_each_level_is_the_mean_of_a_normal_variable_where_it_is_nearest():
    for bits, levels in _LLOYD_MAX.items():
        edges = np.array([-np.inf, *np.add(levels[1:], levels[:-1]) / 2, np.inf])
        means = -np.diff(norm.pdf(edges)) / np.diff(norm.cdf(edges))
        assert len(levels) == 2**bits
        assert levels == pytest.approx(means, abs=1e-6)


def test_a_rotation_errs_alike_on_numbers_whose_squares_leave_float32():
    def relative_error(codec, values):
        np.random.seed(0)
        wanted = values.astype(float)
        return np.square(through(codec, values) - wanted).sum() / np.square(wanted).sum()

    for codec in (Rotation(1), Rotation(1, unbiased=False), Rotation(4)):
        usual = relative_error(codec, gaussian(10_000))
        for size in (1e20, 1e-25):
            got = relative_error(codec, gaussian(10_000) * np.float32(size))
            assert got == pytest.approx(usual, rel=0.01)


def test_a_biased_rotation_has_the_scales_of_least_squared_error():
    values = gaussian(3 * 1024)
    decoded = through(Rotation(bits=2, unbiased=False, block=1024), values).reshape(3, 1024)
    best = (decoded * values.reshape(3, 1024)).sum(1) / np.square(decoded).sum(1)
    assert best == pytest.approx(np.ones(3), abs=1e-5)


@given(vectors, st.integers(1, 4))
@settings(deadline=None)
def test_an_unbiased_rotation_keeps_the_product_with_the_vector_itself(values, bits):
    squares = np.square(values, dtype=float).sum()
    decoded = through(Rotation(bits, block=16), values)
    assert values @ decoded == pytest.approx(squares, rel=1e-4, abs=1e-30)


def test_a_block_of_zeros_among_others_comes_back_as_zeros():
    for codec in (Uniform(8, bucket=16), Rotation(2, block=16)):
        values = gaussian(48)
        values[16:32] = 0
        assert through(codec, values).reshape(3, 16).any(axis=1).tolist() == [True, False, True]


# What is right on average ------------------------------------------------------------------------
#
# The mean of many encodings is compared with the vector along 20 directions: the vector
# itself, all ones, and 18 of random signs. The largest deviation, in standard errors, stays
# below 6 for an unbiased codec; along one direction it exceeds 6 with probability 2e-9, hence
# somewhere among the cases below with less than 2e-6. The seeds are fixed.


def largest_deviation(codec, values, times=300):
    random_signs = np.random.default_rng(1).choice([-1, 1], (18, values.size))
    directions = np.vstack([values, np.ones(values.size), random_signs])
    errors = np.array([directions @ (through(codec, values) - values) for _ in range(times)])
    rounding = 1e-5 * np.linalg.norm(directions, axis=1) * np.linalg.norm(values)
    return np.max(np.abs(errors.mean(0)) / (errors.std(0) / np.sqrt(times) + rounding))


VECTORS = {
    "gaussian": gaussian(1000),
    "shorter than a block": gaussian(100),
    "sparse": gaussian(1000) * (np.arange(1000) % 10 == 3),
    "one only": 3 * (np.arange(1000) == 700).astype(np.float32),
}


@pytest.mark.parametrize("name", VECTORS)
def test_uniform_and_rotation_are_unbiased(name):
    """Rotation nearly so: a Hadamard matrix only comes close to a uniformly random rotation."""
    for codec in (Uniform(2), Uniform(4, bucket=100), Rotation(1), Rotation(3)):
        assert largest_deviation(codec, VECTORS[name]) < 6, codec


def test_the_same_statistic_finds_biased_codecs_and_wrong_rounding(monkeypatch):
    for codec in (Rotation(1, unbiased=False), Rotation(4, unbiased=False), TopK(0.01)):
        assert largest_deviation(codec, VECTORS["gaussian"], times=100) > 30
    for draw in (np.zeros, lambda shape: np.full(shape, 0.5), lambda s: np.random.rand(*s) * 0.9):
        monkeypatch.setattr(np.random, "random", draw)
        assert largest_deviation(Uniform(4), VECTORS["gaussian"]) > 30


def test_each_encoding_draws_anew_from_numpys_global_generator():
    for codec in (Uniform(4), Rotation(1)):
        np.random.seed(5)
        first, second = codec.encode(gaussian(100)), codec.encode(gaussian(100))
        np.random.seed(5)
        assert codec.encode(gaussian(100)) == first != second


# What it costs, and what is refused --------------------------------------------------------------


def rotated(size, block):
    """Blocks, and their length: short vectors are filled up to a power of two, long ones to it."""
    while block // 2 >= size:
        block //= 2
    return math.ceil(size / block), block


@given(
    st.integers(1, 5000) | st.integers(65_530, 65_542),
    st.integers(1, 8),
    st.integers(0, 12),
    st.floats(1e-6, 1),
)
@example(size=512, bits=8, power=9, share=1e-6)
@example(size=1, bits=2, power=0, share=1.0)
@settings(deadline=None)
def test_a_codec_takes_the_stated_bytes_and_no_other_number_of_them(size, bits, power, share):
    kept, position = max(1, round(size * share)), 2 if size <= 65_536 else 4
    cases = [(Cast(), 2 * size), (TopK(share), kept * (position + 4))]
    if bits > 1:
        bucket = 2**power
        expected = 4 * math.ceil(size / bucket) + math.ceil(size * bits / 8)
        cases.append((Uniform(bits, bucket), expected))
    if bits < 5 and power:
        blocks, length = rotated(size, 2**power)
        expected = 8 + 4 * blocks + math.ceil(blocks * length * bits / 8)
        cases.append((Rotation(bits, block=2**power), expected))
    for codec, expected in cases:
        data = codec.encode(gaussian(size))
        assert len(data) == expected
        for bad in (data[:-1], data[1:], data + b"\0", data * 2, b""):
            with pytest.raises(ValueError, match=f"{expected:,} bytes are needed"):
                codec.decode(bad, size)


def test_a_setting_out_of_range_is_named_with_what_is_allowed():
    for codec, setting, bad, allowed in [
        (Cast, "dtype", ["float32", "half", "", None, 16], "one of: 'float16', 'bfloat16'"),
        (Uniform, "bits", [1, 9, -4, 8.0, "8", None, True], "a whole number from 2 to 8"),
        (Uniform, "bucket", [0, 2**24 + 1, 512.0, "1", True], "from 1 to 16,777,216"),
        (TopK, "share", [0, -0.1, 1.0001, math.nan, math.inf, True, "a", None], "above 0 and at"),
        (Rotation, "bits", [0, 5, 1.0, "1", None, True], "a whole number from 1 to 4"),
        (Rotation, "block", [1, -2, 2**25, 4096.0, "2", True], "from 2 to 16,777,216"),
        (Rotation, "block", [3, 1000, 4095], "a power of two"),
        (Rotation, "unbiased", [0, None, "no"], "True or False"),
    ]:
        for value in bad:
            with pytest.raises(ValueError, match=f"{setting} is .*; it must be .*{allowed}") as it:
                codec(**{setting: value})
            assert f"{setting} is {value!r};" in str(it.value)


def test_settings_at_the_ends_of_their_ranges_are_fine_and_numpys_numbers_too():
    for codec in (
        Cast("bfloat16"),
        Uniform(2, bucket=1),
        Uniform(np.int64(8), np.int32(2**24)),
        TopK(1),
        TopK(np.float32(0.5)),
        Rotation(np.uint8(1), block=2),
        Rotation(4, block=np.int64(2**24)),
    ):
        assert np.isfinite(through(codec, gaussian(5))).all()
        with pytest.raises(AttributeError):  # a setting that was checked stays
            codec.bits = 99
        assert type(codec)(*json.loads(json.dumps(astuple(codec)))) == codec  # as it travels
