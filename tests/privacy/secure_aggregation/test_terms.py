"""The terms, and numbers as integers modulo 2^k."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.privacy.secure_aggregation import DistributedNoise, Terms


@settings(max_examples=100, deadline=None)
@given(
    clip=st.floats(1e-6, 1e6),
    clients=st.integers(3, 400),
    weight=st.integers(1, 60),
    bits=st.sampled_from([16, 32]),
    seed=st.integers(0, 99),
)
def test_no_sum_of_so_many_clients_overflows(clip, clients, weight, bits, seed):
    terms = Terms(clip=clip, max_clients=clients, max_weight=weight, bits=bits)
    sign = np.random.default_rng(seed).choice([-1.0, 1.0], 20)
    encoded = terms.encode(sign * clip * 10, weight)
    total = encoded * np.array(clients, encoded.dtype)  # all of them at the bound
    mean, weights = terms.decode(total, clients)
    assert weights == clients * weight
    assert mean == pytest.approx(sign * clip, abs=terms.error_bound(clients, weights))


def test_a_known_answer():
    terms = Terms(clip=2.0, max_clients=4, bits=16)
    assert terms.scale == 32767 // 4 / 2.0
    assert terms.encode(np.array([2.0, -2.0, 0.0]), 1).tolist() == [8191, 65536 - 8191, 0, 1]
    mean, weight = terms.decode(np.array([8191, 65536 - 8191, 0, 2], "<u2"), 2)
    assert (mean.tolist(), weight) == ([1.0, -1.0, 0.0], 2)


def test_how_many_holders_are_needed():
    assert [Terms(clip=1, max_clients=100).needed(n) for n in (3, 4, 20, 99, 100)] == [
        3,
        3,
        14,
        67,
        67,
    ]
    half = Terms(clip=1, max_clients=100, threshold=0.5)
    assert [half.needed(n) for n in (3, 4, 20)] == [2, 3, 11]  # never half of them
    few = Terms(clip=1, max_clients=100, neighbours=10)
    assert (few.holders(100), few.holders(6)) == (11, 6)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"clip": 0}, "clip is 0"),
        ({"clip": float("nan")}, "clip is nan"),
        ({"max_clients": 2}, "max_clients is 2"),
        ({"min_clients": 2}, "min_clients is 2"),
        ({"max_weight": 0}, "max_weight is 0"),
        ({"max_weight": 1.5}, "max_weight is 1.5"),
        ({"bits": 8}, "bits is 8; it must be 16 or 32"),
        ({"threshold": 0.4}, "threshold is 0.4"),
        ({"threshold": 1.0}, "threshold is 1.0"),
        ({"neighbours": 3}, "it must be even"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"bits": 16, "max_weight": 9999}, "16 bits leave each of 10 clients 3,276 steps"),
        ({"bits": 16, "noise": DistributedNoise(1.0, 1.0, 10)}, "they must be 1 and 32"),
        ({"max_weight": 5, "noise": DistributedNoise(1.0, 1.0, 10)}, "they must be 1 and 32"),
    ],
)
def test_terms_out_of_range_are_refused_by_name(wrong, why):
    with pytest.raises(ValueError, match=why):
        Terms(**{"clip": 1.0, "max_clients": 10, **wrong})


def test_a_sum_with_an_impossible_weight_is_refused():
    terms = Terms(clip=1.0, max_clients=5, max_weight=3)
    for weight in (1, 7, 2**32 - 1):
        with pytest.raises(ValueError, match="the sum is worthless"):
            terms.decode(np.array([0, weight], "<u4"), 2)
