import random

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from utils.randomness import random_stream, seed_everything

GENERATORS = {
    "python": random.random,
    "numpy": np.random.rand,
    "torch": lambda: torch.rand(1).item(),
}
keys = st.lists(st.integers() | st.text(max_size=5), max_size=4).map(tuple)
each_generator = pytest.mark.parametrize("draw", GENERATORS.values(), ids=GENERATORS)


def draws() -> tuple[float, ...]:
    return tuple(draw() for draw in GENERATORS.values())


def draws_in(*key) -> tuple[float, ...]:
    with random_stream(*key):
        return draws()


@each_generator
def test_the_same_key_repeats_a_generators_numbers(draw):
    seed_everything(0, "train", 3)
    first = [draw() for _ in range(3)]
    seed_everything(0, "train", 3)
    assert [draw() for _ in range(3)] == first


@each_generator
def test_another_key_gives_a_generator_other_numbers(draw):
    seed_everything(0, "train", 3)
    first = draw()
    seed_everything(0, "train", 4)
    assert draw() != first


def test_a_key_gives_the_same_numbers_on_every_machine_and_in_every_process():
    seed_everything(1, "train")
    assert torch.initial_seed() == 8126443088357227550
    assert random.random() == 0.8857633701537626
    assert np.random.rand() == 0.37272009833859354


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, "train", 1, 2), (0, "train", 2, 1)),
        ((1, 2), (3,)),
        ((1, 0), (0, 1)),
        ((1,), ("1",)),
        (("ab", "c"), ("a", "bc")),
        ((), (0,)),
    ],
)
def test_keys_that_are_easily_confused_give_unrelated_numbers(one, other):
    assert not set(draws_in(*one)) & set(draws_in(*other))


@settings(deadline=None)
@given(key=keys)
def test_the_same_key_always_gives_the_same_stream(key):
    assert draws_in(*key) == draws_in(*key)


@settings(deadline=None)
@given(one=keys, other=keys)
def test_different_keys_always_give_different_streams(one, other):
    assume(one != other)
    assert not set(draws_in(*one)) & set(draws_in(*other))


def test_a_stream_holds_the_numbers_that_its_key_seeds():
    seed_everything(5, "client")
    assert draws() == draws_in(5, "client")


@each_generator
def test_a_generator_goes_on_after_a_stream_as_if_nothing_had_happened(draw):
    seed_everything(1)
    undisturbed = [draw() for _ in range(4)]
    seed_everything(1)
    start = [draw(), draw()]
    with random_stream(2):
        draw()
    assert [*start, draw(), draw()] == undisturbed


@each_generator
def test_the_old_state_comes_back_when_the_block_raises(draw):
    seed_everything(1)
    undisturbed = draw()
    seed_everything(1)
    with pytest.raises(KeyError, match="lost"), random_stream(2):
        raise KeyError("lost")
    assert draw() == undisturbed


def test_a_stream_inside_a_stream_does_not_disturb_it():
    with random_stream("outer"):
        undisturbed = draws() + draws()
    with random_stream("outer"):
        start = draws()
        draws_in("inner")
        assert start + draws() == undisturbed


@pytest.fixture
def gpu_calls(monkeypatch):
    """A machine that seems to have a GPU; returns what its generators are told."""
    calls = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.get_rng_state_all", lambda: ["state before"])
    monkeypatch.setattr("torch.cuda.manual_seed_all", lambda seed: calls.append(seed))
    monkeypatch.setattr("torch.cuda.set_rng_state_all", lambda states: calls.append(states))
    return calls


def test_a_gpu_is_seeded_like_torch_on_the_cpu(gpu_calls):
    seed_everything(7)
    assert gpu_calls == [torch.initial_seed()]


def test_the_old_state_of_a_gpu_comes_back_after_the_block(gpu_calls):
    with random_stream(7):
        assert len(gpu_calls) == 1
    assert gpu_calls[1:] == [["state before"]]
