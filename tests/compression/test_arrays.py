"""Arrays of any shape on the wire, and what is refused on either side of it."""

import numpy as np
import pytest
import torch
from flwr.app import Array
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from utils.compression import (
    Cast,
    CompressionError,
    Rotation,
    TopK,
    Uniform,
    decode_array,
    encode_array,
)

CODECS = [
    Cast(),
    Cast("bfloat16"),
    Uniform(bits=4, bucket=5),
    TopK(0.2),
    Rotation(bits=1, block=16),
    Rotation(bits=2, unbiased=False),
]
codecs = st.sampled_from(CODECS)
shapes = st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7)


def gaussian(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def changed(array, **fields):
    now = {name: getattr(array, name) for name in ("dtype", "shape", "stype", "data")}
    return Array(**now | fields)


@given(codecs, st.data(), st.sampled_from(["float16", "float32", "float64"]), shapes)
@settings(deadline=None)
def test_shape_and_dtype_survive_and_only_the_codecs_bytes_are_sent(codec, data, dtype, shape):
    elements = st.floats(-100, 100, width=16)
    values = data.draw(st_numpy.arrays(dtype, shape, elements=elements, fill=elements))
    np.random.seed(0)
    array = encode_array(values, codec)
    np.random.seed(0)
    vector = values.astype(np.float32).ravel()
    assert array.data == (codec.encode(vector) if vector.size else b"")
    assert len(array.stype) < 40
    decoded = decode_array(changed(array))  # the receiver needs nothing but what was sent
    assert (decoded.dtype, decoded.shape) == (values.dtype, values.shape)
    expected = codec.decode(array.data, vector.size).astype(dtype) if vector.size else vector
    assert np.array_equal(decoded.ravel(), expected)


@given(codecs, st_numpy.arrays(st_numpy.integer_dtypes() | st_numpy.boolean_dtypes(), shapes))
@settings(deadline=None)
def test_integers_and_booleans_pass_untouched(codec, values):
    array = encode_array(values, codec)
    assert array.stype == "numpy.ndarray"
    assert decode_array(array).dtype == values.dtype
    assert np.array_equal(decode_array(array), values)


def test_transposed_and_strided_arrays_keep_their_order():
    values = gaussian(6, 8)
    for view in (values.T, values[::2, ::-1], np.asfortranarray(values)):
        assert decode_array(encode_array(view, Cast())) == pytest.approx(view, rel=2**-11)


@pytest.mark.filterwarnings("error")
def test_numbers_that_no_codec_can_write_are_refused_and_counted():
    for codec in CODECS:
        for bad in (np.nan, np.inf, -np.inf):
            values = gaussian(30, 40)
            values[3, 4:6] = bad
            with pytest.raises(CompressionError, match="2 of 1,200 values are NaN or infinite"):
                encode_array(values, codec)
    with pytest.raises(CompressionError, match=r"1 of 2 values are NaN or infinite \(in float32\)"):
        encode_array(np.array([1, -1e300]), Cast("bfloat16"))


@given(codecs, st.integers(1, 40), st.data())
@settings(deadline=None)
def test_bytes_and_shapes_that_do_not_fit_each_other_are_refused(codec, size, data):
    array = encode_array(gaussian(size), codec)
    wrong = data.draw(st.binary(max_size=300).filter(lambda b: len(b) != len(array.data)))
    with pytest.raises(
        CompressionError, match=r"do not hold an array of shape .* are needed"
    ) as it:
        decode_array(changed(array, data=wrong))
    assert str(it.value).startswith(f"{len(wrong)} bytes of '{array.stype}'")
    for fields, said in [
        ({"shape": (-1, -size)}, "a length is negative"),
        ({"shape": (0, 3)}, "an empty array has no bytes"),
        ({"shape": (1000 * size,)}, "bytes are needed"),
        ({"dtype": "foo"}, "and dtype foo"),
    ]:
        with pytest.raises(CompressionError, match=said):
            decode_array(changed(array, **fields))


def test_a_position_outside_of_the_array_is_refused():
    array = encode_array(gaussian(100), TopK(0.01))
    with pytest.raises(CompressionError, match="out of bounds"):
        decode_array(changed(array, data=b"\xff\xff" + array.data[2:]))


UNREADABLE = """
    null  5  []  [[1]]  {  {"kind":"cast"}  ["gzip"]  ["uniform",1]  ["uniform",8,512,3]
    ["topk",2]  ["rotation",1,true,1000]  ["rotation",1,1]  ["cast","float32"]
"""


def test_an_unknown_codec_is_named_with_those_that_are_known():
    for named in ["", *UNREADABLE.split(), "[" * 9999]:
        array = Array("float32", (2,), f"compressed:{named}", b"1234")
        with pytest.raises(CompressionError, match="cast, uniform, topk, rotation") as raised:
            decode_array(array)
        assert f"cannot read 'compressed:{named}"[:90] in str(raised.value)
        assert len(str(raised.value)) < 300


def test_what_is_no_array_or_no_codec_is_named():
    for values in ([1.0, 2.0], None, 3.0, "w", torch.zeros(2), Array(gaussian(2))):
        with pytest.raises(ValueError, match=r"values are .*; they must be a NumPy array"):
            encode_array(values, Cast())
    assert decode_array(encode_array(np.float32(3), Cast())) == 3  # NumPy's scalars are arrays
    for codec in (None, "uniform", Uniform, 8):
        with pytest.raises(ValueError, match=r"codec is .* Cast\(\), Uniform\(\), TopK\(\), Rot"):
            encode_array(gaussian(2), codec)
    for array in (None, gaussian(2), b"1234"):
        with pytest.raises(ValueError, match=r"array is .*; it must be an Array"):
            decode_array(array)
    assert np.array_equal(decode_array(Array(gaussian(2, 3))), gaussian(2, 3))
