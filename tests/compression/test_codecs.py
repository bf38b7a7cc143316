"""What each codec loses, what it costs, that it is unbiased where it says so, what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
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
SIZES = [1, 2, 3, 100, 512, 513, 4096, 4097, 65_536, 65_537]

each_codec = pytest.mark.parametrize("codec", CODECS, ids=str)
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


@pytest.mark.parametrize(
    ("dtype", "bound"), [("float16", 2**-11), ("bfloat16", 2**-8)], ids=["float16", "bfloat16"]
)
def test_a_cast_keeps_the_relative_error_of_its_format(dtype, bound):
    values = np.concatenate([gaussian(2**16), [6e4, -6e4, 1e-4]]).astype(np.float32)
    values = values[np.abs(values) > 2**-14]  # the smallest number that float16 holds in full
    relative = np.abs(through(Cast(dtype), values) / values - 1)
    assert bound / 1.1 < relative.max() <= bound


def test_bfloat16_holds_what_float16_cannot():
    values = np.array([1e-30, 65_520, 3e38], np.float32)
    assert through(Cast("bfloat16"), values) == pytest.approx(values, rel=2**-8)


@given(vectors)
@settings(deadline=None)
def test_uniform_errs_by_less_than_a_level_of_the_numbers_own_bucket(values):
    decoded = through(Uniform(bits=4, bucket=7), values)
    for start in range(0, values.size, 7):
        bucket, got = values[start : start + 7], decoded[start : start + 7]
        level = np.abs(bucket).max() / 7  # 4 bits: 7 levels on each side of zero
        assert np.abs(got - bucket).max() <= level * (1 + 1e-5)
        assert np.abs(got).max() <= np.abs(bucket).max() * (1 + 1e-6)


def test_uniform_never_rounds_past_the_largest_number(monkeypatch):
    monkeypatch.setattr(np.random, "random", lambda shape: np.full(shape, np.nextafter(1, 0)))
    values = np.array([127, -127, 5], np.float32)  # 127 levels: a sum of floats reaches the 128th
    assert through(Uniform(8), values)[:2].tolist() == [127, -126]


@given(vectors, st.floats(0.01, 1))
@settings(deadline=None)
def test_topk_keeps_the_largest_exactly_and_nothing_else(values, share):
    decoded = through(TopK(share), values)
    kept = max(1, round(share * values.size))
    assert np.all((decoded == values) | (decoded == 0))
    assert sorted(np.abs(decoded))[-kept:] == sorted(np.abs(values))[-kept:]
    assert np.count_nonzero(decoded) <= kept


@pytest.mark.parametrize("size", [65_536, 65_537, 70_000])
def test_topk_finds_the_last_position_of_a_long_vector(size):
    values = np.zeros(size, np.float32)
    values[-1] = 5
    assert np.array_equal(through(TopK(1e-9), values), values)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_each_level_is_the_mean_of_a_normal_variable_where_it_is_nearest(bits):
    levels = np.array(_LLOYD_MAX[bits])
    edges = np.array([-np.inf, *(levels[1:] + levels[:-1]) / 2, np.inf])
    means = -np.diff(norm.pdf(edges)) / np.diff(norm.cdf(edges))
    assert len(levels) == 2**bits
    assert levels == pytest.approx(means, abs=1e-6)


@pytest.mark.parametrize("size", [1e20, 1e-25], ids="of size {:g}".format)
@pytest.mark.parametrize("codec", [Rotation(1), Rotation(1, unbiased=False), Rotation(4)], ids=str)
def test_a_rotation_errs_alike_on_numbers_whose_squares_leave_float32(codec, size):
    def relative_error(values):
        np.random.seed(0)
        wanted = values.astype(float)
        return np.square(through(codec, values) - wanted).sum() / np.square(wanted).sum()

    usual = relative_error(gaussian(10_000))
    assert relative_error(gaussian(10_000) * np.float32(size)) == pytest.approx(usual, rel=0.01)


def test_a_biased_rotation_has_the_scales_of_least_squared_error():
    values = gaussian(3 * 1024)
    codec = Rotation(bits=2, unbiased=False, block=1024)
    decoded = through(codec, values).reshape(3, 1024)
    best = (decoded * values.reshape(3, 1024)).sum(1) / np.square(decoded).sum(1)
    assert best == pytest.approx(np.ones(3), abs=1e-5)


@given(vectors, st.sampled_from([Rotation(b, block=16) for b in (1, 2, 3, 4)]))
@settings(deadline=None)
def test_an_unbiased_rotation_keeps_the_product_with_the_vector_itself(values, codec):
    squares = np.square(values, dtype=float).sum()
    assert values @ through(codec, values) == pytest.approx(squares, rel=1e-4, abs=1e-30)


@given(st.sampled_from(CODECS), vectors)
@settings(max_examples=200, deadline=None)
def test_what_comes_back_is_finite_float32_of_the_same_length(codec, values):
    decoded = through(codec, values)
    assert decoded.dtype == np.float32
    assert decoded.shape == values.shape
    assert np.isfinite(decoded).all()


@each_codec
@pytest.mark.parametrize("size", [1, 17, 1000])
def test_zeros_come_back_as_zeros(codec, size):
    assert not through(codec, np.zeros(size, np.float32)).any()


@pytest.mark.parametrize("codec", [Uniform(8, bucket=16), Rotation(2, block=16)], ids=str)
def test_a_block_of_zeros_among_others_comes_back_as_zeros(codec):
    values = gaussian(48)
    values[16:32] = 0
    decoded = through(codec, values)
    assert not decoded[16:32].any()
    assert decoded[:16].any()
    assert decoded[32:].any()


@each_codec
def test_the_vector_itself_is_left_alone(codec):
    values = gaussian(100)
    codec.encode(values)
    assert np.array_equal(values, gaussian(100))


# What is right on average ------------------------------------------------------------------------
#
# The mean of many encodings is compared with the vector along 20 directions: the vector
# itself, all ones, and 18 of random signs. The largest deviation, in standard errors, stays
# below 6 for an unbiased codec; along one direction it exceeds 6 with probability 2e-9, hence
# somewhere among the cases below with less than 2e-6. The seeds are fixed.


def largest_deviation(codec, values, times=1000):
    random_signs = np.random.default_rng(1).choice([-1, 1], (18, values.size))
    directions = np.vstack([values, np.ones(values.size), random_signs])
    errors = np.array([directions @ (through(codec, values) - values) for _ in range(times)])
    rounding = 1e-5 * np.linalg.norm(directions, axis=1) * np.linalg.norm(values)
    return np.max(np.abs(errors.mean(0)) / (errors.std(0) / np.sqrt(times) + rounding))


AT_700 = (np.arange(1000) == 700).astype(np.float32)
VECTORS = {
    "gaussian": gaussian(1000),
    "shorter than a block": gaussian(100),
    "sparse": gaussian(1000) * (np.arange(1000) % 10 == 3),
    "one only": 3 * AT_700,
    "one large": gaussian(1000) + 100 * AT_700,
}


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("codec", [Uniform(8), Uniform(2), Uniform(4, bucket=100)], ids=str)
def test_uniform_is_unbiased(codec, name):
    assert largest_deviation(codec, VECTORS[name]) < 6


@pytest.mark.parametrize("name", ["gaussian", "shorter than a block", "sparse", "one only"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_rotation_is_unbiased(bits, name):
    """Nearly so: a Hadamard matrix only comes close to a uniformly random rotation."""
    assert largest_deviation(Rotation(bits), VECTORS[name]) < 6


@pytest.mark.parametrize("name", ["gaussian", "shorter than a block", "sparse"])
@pytest.mark.parametrize(
    "codec", [Rotation(1, unbiased=False), Rotation(4, unbiased=False), TopK(0.01)], ids=str
)
def test_the_same_statistic_finds_the_biased_ones(codec, name):
    assert largest_deviation(codec, VECTORS[name], times=100) > 30


@pytest.mark.parametrize(
    "draw",
    [np.zeros, lambda shape: np.full(shape, 0.5), lambda shape: np.random.rand(*shape) * 0.9],
)
def test_the_same_statistic_finds_wrong_rounding(draw, monkeypatch):
    monkeypatch.setattr(np.random, "random", draw)
    assert largest_deviation(Uniform(4), gaussian(1000), times=500) > 30


@pytest.mark.parametrize("codec", [Uniform(4), Rotation(1)], ids=str)
def test_each_encoding_draws_anew_from_numpys_global_generator(codec):
    values = gaussian(100)
    np.random.seed(5)
    first, second = codec.encode(values), codec.encode(values)
    np.random.seed(5)
    assert codec.encode(values) == first != second


# What it costs ---------------------------------------------------------------------------------


def rotated_length(size, block):
    """Numbers that are sent: short vectors are filled up to a power of two, long ones to blocks."""
    while block // 2 >= size:
        block //= 2
    return block, -(-size // block)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("bucket", [1, 512])
def test_uniform_takes_a_scale_a_bucket_and_bits(size, bits, bucket):
    expected = 4 * np.ceil(size / bucket) + np.ceil(size * bits / 8)
    assert len(Uniform(bits, bucket).encode(gaussian(size))) == expected


@pytest.mark.parametrize("bucket", [6, 512, 2**24])
def test_a_bucket_larger_than_the_vector_is_shortened_to_it(bucket):
    def two_encodings(codec):  # the second shows how many random numbers the first one drew
        np.random.seed(0)
        return codec.encode(gaussian(5)), codec.encode(gaussian(5))

    assert two_encodings(Uniform(8, bucket)) == two_encodings(Uniform(8, bucket=5))
    assert len(Uniform(8, bucket).encode(gaussian(5))) == 4 + 5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bits", [1, 3, 4])
@pytest.mark.parametrize("block", [2, 4096])
def test_rotation_takes_a_seed_a_scale_a_block_and_bits(size, bits, block):
    length, blocks = rotated_length(size, block)
    expected = 8 + 4 * blocks + np.ceil(blocks * length * bits / 8)
    assert len(Rotation(bits, block=block).encode(gaussian(size))) == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [1e-6, 0.01, 1.0])
def test_topk_takes_a_position_and_a_value_for_each_number_kept(size, share):
    position = 2 if size <= 65_536 else 4
    expected = max(1, round(size * share)) * (position + 4)
    assert len(TopK(share).encode(gaussian(size))) == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_cast_takes_two_bytes_a_number(size, dtype):
    assert len(Cast(dtype).encode(gaussian(size))) == 2 * size


# What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "setting", "bad", "allowed"),
    [
        (Cast, "dtype", ["float32", "half", "", None, 16], "'float16' or 'bfloat16'"),
        (Uniform, "bits", [1, 9, 0, -4, 8.0, "8", None, True], "an integer from 2 to 8"),
        (Uniform, "bucket", [0, -1, 2**24 + 1, 512.0, "1", True], "from 1 to 16,777,216"),
        (TopK, "share", [0, -0.1, 1.0001, 10, float("nan"), float("inf"), True], "above 0, and at"),
        (TopK, "share", ["a", None, np.float32(0.1), [0.1], 10**400], "above 0, and at most 1"),
        (Rotation, "bits", [0, 5, -1, 1.0, "1", None, True], "an integer from 1 to 4"),
        (Rotation, "block", [0, 1, -2, 2**25, 4096.0, "2", True], "from 2 to 16,777,216"),
        (Rotation, "block", [3, 1000, 4095], "a power of two"),
    ],
)
def test_a_setting_out_of_range_is_named_with_what_is_allowed(codec, setting, bad, allowed):
    for value in bad:
        with pytest.raises(ValueError, match=f"{setting} is .*; it must be .*{allowed}") as raised:
            codec(**{setting: value})
        assert f"{setting} is {value!r};" in str(raised.value)


@pytest.mark.parametrize(
    "codec", [Uniform(2), Uniform(8, bucket=1), TopK(1), Rotation(1), Rotation(4, block=2)], ids=str
)
def test_settings_at_the_ends_of_their_ranges_are_fine(codec):
    assert np.isfinite(through(codec, gaussian(5))).all()


@pytest.mark.parametrize("value", [65_520, -1e6, 3e38])
def test_float16_refuses_what_it_cannot_hold(value):
    values = np.array([0, value, 1], np.float32)
    with pytest.raises(CompressionError, match=r"too large for float16; Cast\('bfloat16'\)") as it:
        Cast().encode(values)
    assert f"{abs(np.float32(value)):g}" in str(it.value)


def test_float16_holds_its_largest_number():
    assert through(Cast(), np.array([65_504, -65_504], np.float32)).tolist() == [65_504, -65_504]


@each_codec
@pytest.mark.parametrize("size", [1, 100])
def test_bytes_cut_short_or_too_long_are_refused(codec, size):
    data = codec.encode(gaussian(size))
    for bad in (data[:-1], data[1:], data + b"\0", data * 2, b""):
        with pytest.raises(ValueError, match=f"{len(data):,} bytes are needed"):
            codec.decode(bad, size)
