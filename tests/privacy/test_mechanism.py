import math

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from utils.privacy import add_noise, clip, l2_norm

finite = st.floats(-(2.0**60), 2.0**60, width=32)
updates = st.dictionaries(
    st.sampled_from(["w", "b", "scale"]), arrays(np.float32, (3, 2), elements=finite), min_size=1
)


def an_update(scale=1.0):
    rng = np.random.default_rng(0)
    return {"w": scale * rng.normal(size=(6, 5)), "b": scale * rng.normal(size=5)}


def flat(update):
    return np.concatenate([np.ravel(values) for values in update.values()])


def test_the_norm_is_that_of_all_arrays_together():
    assert l2_norm({"a": np.array([3.0]), "b": np.array([[4.0, 12.0]])}) == 13.0


@given(updates, st.floats(1e-6, 1e6))
def test_clipping_never_raises_a_norm_and_never_passes_the_bound(update, max_norm):
    clipped, before = clip(update, max_norm)
    assert l2_norm(clipped) <= max_norm
    assert l2_norm(clipped) <= before * (1 + 1e-6)
    assert before == l2_norm(update)


@given(updates, st.floats(1e-3, 1e3))
def test_clipping_keeps_direction_names_shapes_and_dtypes(update, max_norm):
    clipped, before = clip(update, max_norm)
    expected = flat(update).astype(float) * min(1.0, max_norm / before if before else 1.0)
    assert flat(clipped) == pytest.approx(expected, rel=1e-5, abs=max_norm * 1e-6)
    assert {n: (v.shape, v.dtype) for n, v in clipped.items()} == {
        n: (v.shape, v.dtype) for n, v in update.items()
    }


def test_the_known_answer_is_met():
    clipped, before = clip({"a": np.array([3.0]), "b": np.array([4.0])}, 2.5)
    assert before == 5.0
    assert flat(clipped) == pytest.approx([1.5, 2.0], rel=1e-5)


@pytest.mark.parametrize("max_norm", [1e-9, 1.0, math.inf])
def test_a_zero_update_stays_zero(max_norm):
    clipped, before = clip({"w": np.zeros((2, 2)), "b": np.zeros(0)}, max_norm)
    assert before == 0
    assert not flat(clipped).any()


def test_a_short_update_is_left_bitwise_as_it_is():
    update = an_update()
    clipped, before = clip(update, l2_norm(update))
    assert all(np.array_equal(clipped[name], update[name]) for name in update)
    assert before == l2_norm(update)


def test_the_bound_holds_exactly_where_rounding_would_break_it():
    above = 0
    for seed in range(50):
        values = np.random.default_rng(seed).normal(size=1000).astype("float32")
        above += l2_norm({"w": values * np.float32(0.3 / l2_norm({"w": values}))}) > 0.3
        assert l2_norm(clip({"w": values}, 0.3)[0]) <= 0.3
    assert above > 0  # plain scaling does break it


@given(arrays(np.float16, 40, elements=st.floats(-100, 100, width=16)), st.floats(1e-6, 10))
def test_the_bound_holds_in_half_precision_too(values, max_norm):
    clipped, before = clip({"w": values}, max_norm)
    assert l2_norm(clipped) <= max_norm
    if max_norm > 0.1:  # and is used, as well as float16 can
        assert l2_norm(clipped) >= 0.97 * min(before, max_norm)


def test_a_huge_update_moves_a_sum_by_the_clipping_norm_at_most():
    others, hostile = an_update(), {name: 1e30 * v for name, v in an_update().items()}
    clipped, _ = clip(hostile, 0.5)
    moved = {name: others[name] + clipped[name] - others[name] for name in others}
    assert l2_norm(moved) <= 0.5 * (1 + 1e-9)


@pytest.mark.parametrize("record", [True, False])
def test_what_goes_in_as_a_record_comes_out_as_one(record):
    update = an_update()
    given_ = ArrayRecord({n: Array(v) for n, v in update.items()}) if record else update
    clipped, noisy = clip(given_, 0.1)[0], add_noise(given_, 0.0)
    assert isinstance(clipped, ArrayRecord) == isinstance(noisy, ArrayRecord) == record
    assert list(clipped) == list(noisy) == list(update)


def test_the_callers_arrays_are_not_changed():
    update = an_update()
    clip(update, 0.1), add_noise(update, 1.0)
    assert np.array_equal(flat(update), flat(an_update()))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operation", [lambda u: clip(u, 1.0), lambda u: add_noise(u, 1.0)])
def test_nan_and_infinity_are_refused_by_name(bad, operation):
    with pytest.raises(ValueError, match="'b' holds NaN or infinity"):
        operation({"w": np.ones(3), "b": np.array([1.0, bad])})


def test_integers_are_refused_by_name():
    with pytest.raises(ValueError, match="'steps' has dtype int64"):
        clip({"steps": np.array([3])}, 1.0)


@pytest.mark.parametrize("max_norm", [0, -1.0, math.nan])
def test_a_clipping_norm_that_is_not_positive_is_refused(max_norm):
    with pytest.raises(ValueError, match=f"max_norm is {max_norm}.*above 0"):
        clip(an_update(), max_norm)


@pytest.mark.parametrize("stddev", [-0.1, math.inf, math.nan])
def test_a_noise_that_is_no_number_is_refused(stddev):
    with pytest.raises(ValueError, match=f"stddev is {stddev}.*at least 0"):
        add_noise(an_update(), stddev)


def test_the_noise_is_gaussian_of_the_asked_for_scale():
    noise = flat(add_noise({"w": np.zeros(100_000)}, 0.7, np.random.default_rng(1)))
    assert stats.kstest(noise, "norm", args=(0, 0.7)).pvalue > 1e-3
    assert noise.std() == pytest.approx(0.7, rel=0.01)


def test_the_noise_is_independent_between_arrays_and_calls():
    zeros = {"w": np.zeros(20_000), "b": np.zeros(20_000)}
    one, two = add_noise(zeros, 1.0), add_noise(zeros, 1.0)
    for a, b in ((one["w"], one["b"]), (one["w"], two["w"])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(20_000)


def test_the_noise_repeats_with_numpys_seed():
    np.random.seed(3)
    one = add_noise(an_update(), 1.0)
    np.random.seed(3)
    assert np.array_equal(flat(one), flat(add_noise(an_update(), 1.0)))


@pytest.mark.parametrize(
    ("careless", "message"),
    [
        (lambda: clip([1.0, 2.0], 1.0), "must be arrays by name"),
        (lambda: clip(None, 1.0), "the update is None"),
        (lambda: clip(an_update(), "1"), "max_norm is 1"),
        (lambda: clip(an_update(), True), "max_norm is True"),
        (lambda: add_noise(an_update(), 1.0, 3), r"rng is 3.*default_rng"),
    ],
)
def test_careless_arguments_get_one_sentence(careless, message):
    with pytest.raises(ValueError, match=message):
        careless()


def test_torchs_tensors_and_numpys_numbers_are_taken():
    weights = torch.tensor([3.0, 4.0], requires_grad=True)
    assert flat(clip({"w": weights}, np.float32(2.5))[0]) == pytest.approx([1.5, 2.0])
