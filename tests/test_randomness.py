"""Random streams: the same for the same key, unrelated for others, and no trace left behind."""

import random

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from utils.randomness import random_stream, seed_everything

keys = st.lists(st.integers() | st.text(max_size=5), max_size=4).map(tuple)


def draws() -> tuple[float, ...]:
    return random.random(), np.random.rand(), torch.rand(1).item()


def draws_in(*key) -> tuple[float, ...]:
    with random_stream(*key):
        return draws()


def test_a_key_gives_the_same_numbers_on_every_machine_and_in_every_process():
    seed_everything(1, "train")
    assert torch.initial_seed() == 8126443088357227550
    assert draws()[:2] == (0.8857633701537626, 0.37272009833859354)
    first = draws_in(1, "train")
    seed_everything(1, "train")
    assert draws() == first


@settings(deadline=None)
@given(one=keys, other=keys)
def test_the_same_key_gives_the_same_stream_and_another_key_another(one, other):
    assert draws_in(*one) == draws_in(*one)
    assume(one != other)
    assert not set(draws_in(*one)) & set(draws_in(*other))


def test_keys_that_are_easily_confused_give_unrelated_numbers():
    for one, other in [
        ((0, "train", 1, 2), (0, "train", 2, 1)),
        ((1, 2), (3,)),
        ((1, 0), (0, 1)),
        ((1,), ("1",)),
        (("ab", "c"), ("a", "bc")),
        ((), (0,)),
    ]:
        assert not set(draws_in(*one)) & set(draws_in(*other))


def test_numpys_numbers_and_words_are_the_same_key_and_what_is_no_key_is_refused():
    assert draws_in(np.int64(3), np.str_("train")) == draws_in(3, "train")
    for part in (None, True, 0.5, (1, 2), torch.tensor(3), float("nan")):
        undisturbed = torch.get_rng_state()
        with pytest.raises(ValueError, match="must be a whole number or a word"):
            seed_everything(0, part)
        assert torch.equal(torch.get_rng_state(), undisturbed)


def test_all_generators_go_on_after_a_stream_as_if_nothing_had_happened():
    seed_everything(1)
    undisturbed = [draws() for _ in range(6)]
    seed_everything(1)
    np.random.randn()  # an odd number of normals leaves one in NumPy's cache
    with_cache = np.random.randn()
    seed_everything(1)
    np.random.randn()
    draws_in("x")
    assert np.random.randn() == with_cache
    seed_everything(1)
    seen = [draws()]
    with random_stream("outer"):
        inside = [draws()]
        with pytest.raises(ZeroDivisionError), random_stream("inner"):
            draws()[0] / 0
        inside.append(draws())
    seen += [draws() for _ in range(5)]
    assert seen == undisturbed
    with random_stream("outer"):
        assert [draws(), draws()] == inside


def test_a_gpu_is_seeded_like_torch_on_the_cpu_and_put_back_after_a_stream(monkeypatch):
    calls = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.get_rng_state_all", lambda: ["state before"])
    monkeypatch.setattr("torch.cuda.manual_seed_all", lambda seed: calls.append(seed))
    monkeypatch.setattr("torch.cuda.set_rng_state_all", lambda states: calls.append(states))
    seed_everything(7)
    assert calls == [torch.initial_seed()]
    with random_stream(8):
        assert calls[1:] == [torch.initial_seed()]
    assert calls[2:] == [["state before"]]
