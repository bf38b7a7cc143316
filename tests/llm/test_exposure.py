"""Exposure: known answers, an estimate that is right on average, bounds that hold."""

import math
from importlib import import_module

import numpy as np
import pytest
import torch
from scipy.stats import norm

from utils.llm import (
    LowerLayers,
    add_lora,
    estimate_exposure,
    exposure,
    make_canaries,
    measure_exposure,
    secret_losses,
    secret_position,
    secret_rank,
    tokenize,
)


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


def estimates(z, count, repetitions=30):
    """Of a secret whose loss lies z standard deviations from the mean of a normal."""
    return [
        estimate_exposure(60 + z, np.random.default_rng(seed).normal(60, 1, count))
        for seed in range(repetitions)
    ]


@pytest.mark.parametrize(
    ("z", "count", "extrapolated", "tolerance"),
    [(0, 100, False, 0.1), (-1, 500, False, 0.1), (-3, 500, True, 0.3), (-4, 500, True, 0.8)],
)
def test_a_secret_of_known_rank_is_estimated_by_sample_or_by_fit(z, count, extrapolated, tolerance):
    results = estimates(z, count)
    assert {result.extrapolated for result in results} == {extrapolated}
    true = -math.log2(norm.cdf(z))  # 1, 2.66, 9.53 and 14.95 bits
    assert np.mean([result.bits for result in results]) == pytest.approx(true, abs=tolerance)


def test_by_sampling_the_share_of_the_sample_stands_for_the_space():
    losses = 50 + np.arange(100.0)
    result = estimate_exposure(69.5, losses, space=10**6)  # 20 of 100 are lower
    assert result.bits == pytest.approx(math.log2(10**6) - math.log2(1 + 999_999 * 0.2))
    assert not result.extrapolated
    assert estimate_exposure(58.5, losses).extrapolated  # 9 are lower
    assert not estimate_exposure(59.5, losses).extrapolated  # 10 are


def test_ties_count_against_the_truth():
    assert estimate_exposure(50.0, np.full(100, 50.0)).bits == 0.0


def test_a_secret_below_all_others_gets_the_most_there_is():
    assert estimate_exposure(30.0, np.full(100, 50.0)).bits == pytest.approx(math.log2(10**6))
    far = estimate_exposure(20.0, np.random.default_rng(0).normal(60, 1, 100))
    assert far.bits == pytest.approx(math.log2(10**6))
    assert far.extrapolated
    assert far.at_least == pytest.approx(5.08, abs=0.01)  # 95%: at most 2.95% are lower


def test_a_secret_likelier_than_one_half_has_rank_1_whatever_the_fit():
    wide = np.random.default_rng(0).gamma(4, 2, 200)  # a fit gives the truth about 12 bits
    result = estimate_exposure(0.6, wide)
    assert result.bits == result.at_least == pytest.approx(math.log2(10**6))
    assert not result.extrapolated
    third = estimate_exposure(1.2, wide)  # exp(1.2) = 3.3: two others may be as likely
    assert third.bits >= math.log2(10**6 / 3)
    assert third.at_least == pytest.approx(math.log2(10**6 / 3))


def test_random_secrets_have_an_exposure_of_1_44_bits_on_average():
    bits = []
    for seed in range(600):
        losses = np.random.default_rng([7, seed]).normal(60, 1, 151)
        bits.append(estimate_exposure(losses[0], losses[1:]).bits)
    assert np.mean(bits) == pytest.approx(1 / math.log(2), abs=4 * 1.44 / math.sqrt(600))
    assert np.median(bits) == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("z", [0, -2, -4])
def test_the_lower_bound_holds_in_95_percent_of_cases_and_is_not_idle(z):
    true = -math.log2(norm.cdf(z))
    bounds = np.array([result.at_least for result in estimates(z, 500, 200)])
    assert (bounds <= true).mean() > 0.9
    assert bounds.mean() > min(true * 0.7, 7)


@pytest.mark.parametrize(
    ("true", "losses"),
    [
        (1.0, np.ones(49)),
        (1.0, np.ones((60, 2))),
        (math.nan, np.ones(60)),
        (1.0, np.full(60, np.inf)),
        (-1.0, np.ones(60)),
    ],
)
def test_losses_that_allow_no_estimate_are_refused(true, losses):
    with pytest.raises(ValueError, match=r"at least 50 of them are needed, and all must be finite"):
        estimate_exposure(true, losses)


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
    llm.model.model.norm.weight.data *= 30  # and some much more often than others
    logs = llm.model(torch.tensor([[t] for t in [before, *digits]])).logits[:, 0]
    first, *then = -logs.double().log_softmax(dim=1)[:, digits].numpy()
    losses = first
    for _ in range(5):
        losses = losses[..., None] + np.array(then)
    return losses.ravel()


def with_secret(canary, secret):
    return canary._replace(secret=secret, answer=canary.answer.replace(canary.secret, secret))


def test_a_low_rank_is_found_exactly_without_trying_all_numbers(tiny):
    canary = make_canaries(1)[0]
    losses = all_secret_losses(tiny, canary)
    order = losses.argsort()
    for number in (0, 1, 2, 7, 30):
        own = with_secret(canary, f"{order[number]:06d}")
        rank = int((losses <= losses[order[number]] + 1e-3).sum())
        assert secret_losses(tiny, own, [own.secret]) == pytest.approx(
            [losses[order[number]]], rel=1e-5
        )
        assert secret_rank(tiny, own) == rank
        assert number < rank < 2 * number + 12
    assert secret_rank(tiny, with_secret(canary, f"{order[500_000]:06d}")) is None
    with pytest.raises(ValueError, match="most is 0"):
        secret_rank(tiny, canary, most=0)


def test_exposure_is_measured_exactly_where_it_is_high_and_by_sample_where_not(tiny):
    canary = make_canaries(1)[0]
    order = all_secret_losses(tiny, canary).argsort()
    best = with_secret(canary, f"{order[0]:06d}")
    assert measure_exposure(tiny, best) == (exposure(1), exposure(1), False)
    middle = with_secret(canary, f"{order[250_000]:06d}")
    result = measure_exposure(tiny, middle, samples=1000)
    assert result.bits == pytest.approx(2.0, abs=0.25)  # a quarter of all come before it
    assert not result.extrapolated
    assert measure_exposure(tiny, middle) != measure_exposure(tiny, middle, seed=1)
    assert measure_exposure(tiny, middle) == measure_exposure(tiny, middle)


def likelier(llm, ids, digits, budget):
    """How many numbers of six digits cost at most ``budget``, by reading each beginning alone."""
    beginnings = [(ids, budget)]
    for _ in range(6):
        grown = []
        for start, left in beginnings:
            log_p = llm.model(torch.tensor([start])).logits[0, -1].double().log_softmax(dim=0)
            grown += [([*start, d], left + log_p[d].item()) for d in digits]
        beginnings = [(start, left) for start, left in grown if left >= 0]
    return len(beginnings)


@torch.no_grad()
def test_the_rank_is_right_where_each_digit_depends_on_all_before_it(tiny):
    for layer in tiny.model.model.layers:  # attention that matters, predictions that are sharp
        layer.self_attn.o_proj.weight.data *= 30
    digits = [tiny.tokenizer(d, add_special_tokens=False)["input_ids"][0] for d in "0123456789"]
    tiny.model.model.embed_tokens.weight.data[digits] *= 3
    tiny.model.model.norm.weight.data *= 40
    canary = make_canaries(1)[0]
    (card,) = tokenize(tiny, [canary.card])
    ids, secret = card.ids[: card.answer_start + secret_position(tiny, canary)], ""
    ranks = []
    for place in range(6):  # the likeliest digit each time, but once the second
        logits = tiny.model(torch.tensor([ids + [digits[int(d)] for d in secret]])).logits[0, -1]
        secret += str(logits[digits].argsort(descending=True)[int(place == 2)].item())
    for own in (with_secret(canary, secret), with_secret(canary, secret[:5] + "7")):
        (cost,) = secret_losses(tiny, own, [own.secret])
        ranks.append(secret_rank(tiny, own, most=400))
        assert ranks[-1] == likelier(tiny, ids, digits, cost + 1e-3)
    assert 1 < min(ranks) < max(ranks)


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
        return np.linspace(60, 70, len(candidates))

    monkeypatch.setattr(import_module("utils.llm.exposure"), "secret_losses", spy)
    for canary in (canaries[0], canaries[0]._replace(secret="")):
        measure_exposure(tiny, canary, samples=200)
    (secret, *others), (_, *same) = compared
    assert secret == canaries[0].secret
    assert others == same
    assert len(set(others)) > 195
    assert len(set(others) & {canary.secret for canary in canaries}) <= 1
    measure_exposure(tiny, canaries[0]._replace(secret=others[7]), samples=200)
    _, *without = compared[-1]
    assert without[:7] == others[:7]
    assert without[7:199] == others[8:]
