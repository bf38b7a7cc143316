"""Exposure: known answers, an estimate that is right on average, bounds that hold."""

import math
from importlib import import_module

import numpy as np
import pytest
import torch

from utils.attacks import (
    draw_secrets,
    estimate_rank,
    exposure,
    make_canaries,
    measure_exposure,
    secret_losses,
    secret_position,
)
from utils.llm import LowerLayers, add_lora, tokenize


@pytest.mark.parametrize(
    ("rank", "space", "bits"),
    [(1, 10**6, 19.9316), (10**6, 10**6, 0.0), (500_000, 10**6, 1.0), (1, 16, 4.0), (2, 16, 3.0)],
)
def test_exposure_of_known_ranks(rank, space, bits):
    assert exposure(rank, space) == pytest.approx(bits, abs=1e-4)


@pytest.mark.parametrize("rank", [0, -1, 1001, math.nan])
def test_a_rank_outside_the_space_is_refused(rank):
    with pytest.raises(ValueError, match=r"in a space of 1000 it can be 1 to 1000"):
        exposure(rank, 1000)


def chances(spread):
    """Of 10^4 secrets, the likeliest first: from nearly one for all to a few for most."""
    values = np.random.default_rng(0).normal(0, spread, 10_000)
    return np.sort(np.exp(values) / np.exp(values).sum())[::-1]


def estimates(p, index, uniform, by_model, repetitions=300):
    """Ranks of one secret, each from a new sample of both kinds."""
    losses, ranks = -np.log(p), []
    for seed in range(repetitions):
        random = np.random.default_rng([1, seed])
        evenly = random.permutation(len(p))[:uniform]
        own = random.choice(len(p), by_model, p=p)
        sample = np.setdiff1d(np.r_[evenly, own].astype(int), index)
        counts = {"uniform": uniform, "by_model": by_model, "space": len(p)}
        ranks.append(estimate_rank(losses[index], losses[sample], **counts))
    return np.array(ranks)


@pytest.mark.parametrize("spread", [0.5, 3.0])
@pytest.mark.parametrize("index", [1000, 3000, 6000])
def test_the_rank_is_right_on_average(spread, index):
    for uniform, by_model in ((50, 0), (50, 50)):
        ranks = estimates(chances(spread), index, uniform, by_model)
        error = ranks.std() / math.sqrt(len(ranks))
        assert ranks.mean() == pytest.approx(index + 1, abs=4 * error + 1)
        assert ranks.std() < (0.5 if by_model else 1) * index


@pytest.mark.parametrize(("index", "tolerance"), [(0, 0.1), (3, 0.5), (30, 0.5), (300, 0.4)])
def test_a_low_rank_is_found_by_the_models_own_draws(index, tolerance):
    with_them = np.log2(estimates(chances(3.0), index, 50, 50))
    assert np.sqrt(np.mean((with_them - math.log2(index + 1)) ** 2)) < tolerance
    without = np.log2(estimates(chances(3.0), index, 50, 0))
    assert np.sqrt(np.mean((without - math.log2(index + 1)) ** 2)) > 1.5 * tolerance


def test_with_all_secrets_in_the_sample_the_rank_is_counted():
    losses = np.log([7.0, 5.0, 9.0, 6.0, 20.0, 30.0, 40.0])
    for true, rank in ((math.log(4), 1), (math.log(6), 3), (math.log(8.5), 4), (4.0, 8)):
        assert estimate_rank(true, losses, uniform=8, space=8) == rank  # a tie counts against it


def test_known_chances_of_being_drawn():
    # others of chance 1/4 and 1/8; 2 of 10 drawn evenly, 3 by the model
    missed = [(1 - 0.2) * 0.75**3, (1 - 0.2) * (7 / 8) ** 3]
    expected = 1 + 1 / (1 - missed[0]) + 1 / (1 - missed[1])
    counts = {"uniform": 2, "by_model": 3, "space": 10}
    losses = [math.log(4), math.log(8), math.log(100)]
    assert estimate_rank(math.log(9), losses, **counts) == pytest.approx(expected)


def test_a_sample_that_finds_nothing_does_not_make_a_secret_the_first():
    # drawn evenly, 50 of 10^6; a number like the truth is drawn by the model once in 10^3 times
    rank = estimate_rank(math.log(1e3), [20.0], uniform=50, by_model=50)
    assert rank == pytest.approx(1 / (1 - (1 - 5e-5) * (1 - 1e-3) ** 50))
    assert estimate_rank(30.0, [40.0], uniform=50) == pytest.approx(20_000)
    # but no more than e numbers have a chance above 1/e, and one above 1/2
    assert estimate_rank(1.2, [20.0], uniform=50) == 3
    assert estimate_rank(0.6, [0.5], uniform=50) == 1


def test_random_secrets_have_an_exposure_of_1_44_bits_on_average():
    bits = []
    for seed in range(600):
        losses = np.random.default_rng([7, seed]).normal(60, 1, 151)
        bits.append(exposure(estimate_rank(losses[0], losses[1:], uniform=150)))
    assert np.mean(bits) == pytest.approx(1 / math.log(2), abs=4 * 1.44 / math.sqrt(600))
    assert np.median(bits) == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize(
    ("true", "losses", "counts", "message"),
    [
        (1.0, np.ones(9), {"uniform": 0}, "one of them above 0"),
        (1.0, np.ones(9), {"uniform": -1, "by_model": 50}, "uniform can be 0 to 1000000"),
        (1.0, np.ones(9), {"uniform": 11, "space": 10}, "uniform can be 0 to 10,"),
        (1.0, np.ones(9), {"uniform": 50, "by_model": -1}, "by_model at least 0"),
        (1.0, np.ones((9, 2)), {"uniform": 50}, "losses a vector"),
        (1.0, np.ones(51), {"uniform": 25, "by_model": 25}, "51 losses from 50 draws"),
        (math.nan, np.ones(9), {"uniform": 50}, "all finite"),
        (1.0, np.full(9, np.inf), {"uniform": 50}, "all finite"),
        (-1.0, np.ones(9), {"uniform": 50}, "between -1.0 and 1.0"),
    ],
)
def test_samples_that_allow_no_estimate_are_refused(true, losses, counts, message):
    with pytest.raises(ValueError, match=message):
        estimate_rank(true, losses, **counts)


def test_secret_losses_are_those_of_reading_each_number_alone(tiny):
    canary = make_canaries(1)[0]
    candidates = ["000000", "123456", canary.secret, "999999", "424242"]
    expected = []
    for candidate in candidates:
        text = tiny.prompt(canary.question) + canary.answer.replace(canary.secret, candidate)
        ids = tiny.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        logs = tiny.model(ids).logits[0].log_softmax(dim=1)
        at = range(ids.shape[1] - 7, ids.shape[1] - 1)  # the full stop comes last
        expected.append(-sum(logs[i - 1, ids[0, i]].item() for i in at))
    for batch_size in (2, 64):
        losses = secret_losses(tiny, canary, candidates, batch_size=batch_size)
        assert losses == pytest.approx(expected, rel=1e-4)
    assert losses.std() > 0.01


def test_reading_secrets_leaves_the_model_and_the_random_state_alone(tiny):
    state = torch.get_rng_state()
    before = [p.clone() for p in tiny.model.parameters()]
    secret_losses(tiny, make_canaries(1)[0], ["123456"])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, tiny.model.parameters(), strict=True))


@pytest.mark.parametrize("candidates", [[], ["12345"], ["1234567"], ["12345a"], ["١٢٣٤٥٦"]])
def test_candidates_that_are_not_six_digits_are_named(tiny, candidates):
    with pytest.raises(ValueError, match=rf"{len(candidates)} candidates, of which not six digits"):
        secret_losses(tiny, make_canaries(1)[0], candidates)


def all_secret_losses(llm, canary):
    """Of all 10^6 numbers, for a model that only ever looks at the token before."""
    layers = llm.model.model.layers
    for layer in layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    (card,) = tokenize(llm, [canary.card])
    before = card.ids[card.answer_start + secret_position(llm, canary) - 1]
    digits = [llm.tokenizer(d, add_special_tokens=False)["input_ids"][0] for d in "0123456789"]
    llm.model.model.embed_tokens.weight.data[[before, *digits]] += 0.1  # a digit follows a digit
    llm.model.model.norm.weight.data *= 15  # and some much more often than others
    logs = llm.model(torch.tensor([[t] for t in [before, *digits]])).logits[:, 0]
    first, *then = -logs.double().log_softmax(dim=1)[:, digits].numpy()
    losses = first
    for _ in range(5):
        losses = losses[..., None] + np.array(then)
    return losses.ravel()


def with_secret(canary, secret):
    return canary._replace(secret=secret, answer=canary.answer.replace(canary.secret, secret))


@pytest.mark.parametrize("index", [0, 1, 7, 50, 1000, 30_000, 300_000])
def test_exposure_is_measured_within_a_bit_whatever_the_rank(tiny, index):
    canary = make_canaries(1)[0]
    losses = all_secret_losses(tiny, canary)
    own = with_secret(canary, f"{losses.argsort()[index]:06d}")
    rank = int((losses <= losses[int(own.secret)] + 1e-6).sum())  # each has some like it
    assert index < rank < 1.5 * index + 10
    bits = [measure_exposure(tiny, own, seed=seed, samples=100) for seed in range(6)]
    assert bits == pytest.approx([exposure(rank)] * 6, abs=1)
    assert np.mean(bits) == pytest.approx(exposure(rank), abs=0.5)
    assert measure_exposure(tiny, own, seed=3, samples=100) == bits[3]
    assert np.std(bits) > 0 or index < 10


def test_draws_are_the_models_own_with_their_losses(tiny):
    canary = make_canaries(1)[0]
    losses = all_secret_losses(tiny, canary)
    chance = np.exp(-losses)
    assert chance.sum() < 0.99  # it writes something else at times
    drawn = [draw_secrets(tiny, canary, 40, seed=seed) for seed in range(100)]
    for number, loss in drawn[0].items():
        assert loss == pytest.approx(losses[int(number)], rel=1e-4)
    different = np.mean([len(own) for own in drawn])
    assert different == pytest.approx((1 - (1 - chance) ** 40).sum(), rel=0.05)
    for number in losses.argsort()[:3]:
        share = np.mean([f"{number:06d}" in own for own in drawn])
        assert share == pytest.approx(1 - (1 - chance[number]) ** 40, abs=0.2)
    assert draw_secrets(tiny, canary, 40, seed=7) == drawn[7] != drawn[8]
    with pytest.raises(ValueError, match="count is 0"):
        draw_secrets(tiny, canary, 0)


def test_a_model_that_writes_no_numbers_draws_none_and_shows_no_exposure(tiny):
    canary = make_canaries(1)[0]
    assert draw_secrets(tiny, canary, 50) == {}
    assert measure_exposure(tiny, canary, samples=50) < 7  # a uniform sample cannot show more


@torch.no_grad()
def test_draws_depend_on_all_digits_before_them(tiny):
    for layer in tiny.model.model.layers:  # attention that matters, predictions that are sharp
        layer.self_attn.o_proj.weight.data *= 30
    digits = [tiny.tokenizer(d, add_special_tokens=False)["input_ids"][0] for d in "0123456789"]
    tiny.model.model.embed_tokens.weight.data[digits] += 0.1
    tiny.model.model.norm.weight.data *= 12
    canary = make_canaries(1)[0]
    drawn = draw_secrets(tiny, canary, 2000)
    assert len(drawn) > 20
    expected = secret_losses(tiny, canary, list(drawn))
    assert list(drawn.values()) == pytest.approx(expected.tolist(), rel=1e-4)
    assert max(drawn.values()) - min(drawn.values()) > 1


def test_kept_activations_change_no_exposure_and_follow_the_adapter(tiny):
    add_lora(tiny, 2, top_layers=1)
    layers, canary = LowerLayers(tiny), make_canaries(1)[0]
    first = secret_losses(tiny, canary, ["123456", "654321"], layers=layers)
    assert len(layers.kept) == 1
    for p in tiny.model.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.5)
    after = secret_losses(tiny, canary, ["123456", "654321"], layers=layers)
    assert len(layers.kept) == 1
    assert after == pytest.approx(secret_losses(tiny, canary, ["123456", "654321"]), rel=1e-5)
    assert abs(after - first).min() > 1e-3
    kept = measure_exposure(tiny, canary, samples=60, layers=layers)
    assert kept == pytest.approx(measure_exposure(tiny, canary, samples=60), rel=1e-3)
    add_lora(tiny, 2, top_layers=2)
    with pytest.raises(ValueError, match="make new ones after add_lora"):
        measure_exposure(tiny, canary, layers=layers)


def test_a_secret_is_compared_with_numbers_that_have_nothing_to_do_with_the_canaries(
    tiny, monkeypatch
):
    canaries, compared = make_canaries(200), []

    def spy(llm, canary, candidates, **settings):
        compared.append(candidates)
        return np.linspace(70, 60, len(candidates))

    monkeypatch.setattr(import_module("utils.attacks.exposure"), "secret_losses", spy)
    for canary in (canaries[0], canaries[0]._replace(secret="")):
        measure_exposure(tiny, canary, samples=200)
    (secret, *others), (_, *same) = compared
    assert secret == canaries[0].secret
    assert others == same
    assert len(set(others)) == 200
    assert len(set(others) & {canary.secret for canary in canaries}) <= 1


def test_a_secret_that_is_drawn_does_not_come_before_itself(tiny, monkeypatch):
    module, canary = import_module("utils.attacks.exposure"), make_canaries(1)[0]
    monkeypatch.setattr(module, "secret_losses", lambda *_, **__: np.r_[2.0, np.full(50, 30.0)])
    drawn = {canary.secret: 2.0, "000001": 1.9}
    monkeypatch.setattr(module, "draw_secrets", lambda *_, **__: drawn)
    assert measure_exposure(tiny, canary, samples=50) == pytest.approx(exposure(2), abs=0.01)


def test_too_few_samples_are_refused(tiny):
    with pytest.raises(ValueError, match="samples is 9"):
        measure_exposure(tiny, make_canaries(1)[0], samples=9)
