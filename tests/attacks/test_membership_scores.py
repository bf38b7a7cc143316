"""Membership scores: as published, certain on a model that memorized, blind on a new one."""

import math
import zlib

import numpy as np
import pytest
import torch
from faker import Faker

from tests.llm.tiny import CARDS, make_tiny
from utils.attacks import membership, score_cards
from utils.llm import add_lora, evaluate, fine_tune, lora_off, tokenize

FAKE = Faker("en_US")
FAKE.seed_instance(3)
NAMES = [(FAKE.unique.first_name(), FAKE.unique.last_name()) for _ in range(60)]
PEOPLE = [
    {"question": f"Who is {first} {last}?", "answer": f"{first}, {FAKE.numerify('####')}."}
    for first, last in NAMES
]
MEMBERS, OTHERS = PEOPLE[:30], PEOPLE[30:]  # one random set, split
FIVE = ["loss", "loss, relative", "zlib", "Min-K%", "Min-K%++"]


def test_every_attack_finds_the_members_of_a_model_that_memorized(bundled):
    llm = make_tiny(bundled.tokenizer)
    reference = evaluate(llm, PEOPLE, progress=False).by_card
    llm.model.requires_grad_(True)
    fine_tune(llm, MEMBERS, epochs=12, batch_size=10, lr=1e-2, progress=False)
    scores = score_cards(llm, PEOPLE, reference, progress=False)
    assert list(scores) == FIVE
    for values in scores.values():
        result = membership(values[:30], values[30:], resamples=50)
        assert result.auc > 0.97
        assert result.tpr > 0.5


def test_on_an_untrained_model_every_attack_is_at_chance(tiny):
    random = np.random.default_rng(0)
    reference = evaluate(tiny, PEOPLE, progress=False).by_card + random.normal(0, 0.1, 60)
    for values in score_cards(tiny, PEOPLE, reference, progress=False).values():
        low, high = membership(values[:30], values[30:], resamples=200).auc_interval
        assert low < 0.5 < high


@pytest.mark.parametrize("k", [0.2, 0.5, 1.0])
def test_scores_are_those_of_their_papers_computed_directly(tiny, k):
    tiny.model.lm_head.weight.data *= 20  # predictions that are far from uniform
    scores = score_cards(tiny, CARDS, np.arange(5.0), k=k, batch_size=2, progress=False)
    for i, card in enumerate(tokenize(tiny, CARDS)):
        logits = tiny.model(torch.tensor([card.ids])).logits[0].double().numpy()
        log_p = logits - np.log(np.exp(logits - logits.max(1)[:, None]).sum(1))[:, None]
        log_p -= logits.max(1)[:, None]
        at = np.arange(card.answer_start, len(card.ids))
        own = log_p[at - 1, [card.ids[t] for t in at]]
        p = np.exp(log_p[at - 1])
        mean = (p * log_p[at - 1]).sum(1)
        deviation = np.sqrt((p * log_p[at - 1] ** 2).sum(1) - mean**2)
        z = (own - mean) / deviation
        lowest = max(1, int(k * len(own)))
        size = len(zlib.compress(CARDS[i]["answer"].encode()))
        expected = {
            "loss": own.mean(),
            "loss, relative": i + own.mean(),
            "zlib": own.mean() / size,
            "Min-K%": np.sort(own)[:lowest].mean(),
            "Min-K%++": np.sort(z)[:lowest].mean(),
        }
        assert {name: values[i] for name, values in scores.items()} == pytest.approx(
            expected, rel=2e-3
        )


def test_a_single_token_is_enough_and_a_certain_prediction_gives_a_number(tiny):
    tiny.model.lm_head.weight.data *= 1000
    scores = score_cards(tiny, CARDS, k=0.01, progress=False)
    assert all(np.isfinite(values).all() for values in scores.values())
    assert "loss, relative" not in scores


def test_relative_to_itself_the_untuned_model_says_nothing(tiny):
    add_lora(tiny, 4, top_layers=2)
    for p in tiny.model.parameters():
        if p.requires_grad:
            p.data = 0.5 * torch.randn_like(p)
    with lora_off(tiny):
        reference = evaluate(tiny, CARDS, progress=False).by_card
        untuned = score_cards(tiny, CARDS, reference, progress=False)
    tuned = score_cards(tiny, CARDS, reference, progress=False)
    assert untuned["loss, relative"] == pytest.approx(np.zeros(5), abs=1e-6)
    assert np.abs(tuned["loss, relative"]).min() > 1e-5
    assert tuned["loss"] == pytest.approx(-evaluate(tiny, CARDS, progress=False).by_card, rel=1e-5)


@pytest.mark.parametrize("reference", [np.zeros(4), np.full(5, np.nan), 0.0, ["a"] * 5])
def test_a_reference_that_does_not_fit_is_refused(tiny, reference):
    with pytest.raises(ValueError, match=r"one finite loss for each of the 5 cards"):
        score_cards(tiny, CARDS, reference, progress=False)


@pytest.mark.parametrize("k", [0.0, -0.1, 1.1, math.nan])
def test_a_share_of_tokens_out_of_range_is_refused(tiny, k):
    with pytest.raises(ValueError, match=r"k, a share of the tokens, is .* above 0 and at most 1"):
        score_cards(tiny, CARDS, k=k, progress=False)


def test_no_cards_are_refused(tiny):
    with pytest.raises(ValueError, match="there are no cards"):
        score_cards(tiny, [], progress=False)
