"""Exposure: exact, as reading every record number by itself shows."""

import math

import numpy as np
import pytest
import torch

from tests.llm.tiny import CARDS, randomize
from utils.attacks import (
    exposure_of_rank,
    make_canaries,
    measure_exposure,
    secret_losses,
    secret_position,
)
from utils.llm import add_lora, tokenize

CANARY = make_canaries(CARDS)[0]


@pytest.mark.parametrize(
    ("rank", "space", "bits"),
    [(1, 10**4, 13.2877), (10**4, 10**4, 0.0), (5_000, 10**4, 1.0), (1, 16, 4.0), (2, 16, 3.0)],
)
def test_exposure_of_known_ranks(rank, space, bits):
    assert exposure_of_rank(rank, space) == pytest.approx(bits, abs=1e-4)


@pytest.mark.parametrize("rank", [0, -1, 10_001, math.nan, None])
def test_a_rank_outside_the_space_is_refused(rank):
    with pytest.raises(ValueError, match=r"rank is .* at least 1 and at most 10,000"):
        exposure_of_rank(rank)


@pytest.fixture
def opinionated(tiny):
    """All that was said before matters, and some digits are much likelier than others."""
    with torch.no_grad():
        for layer in tiny.layers:
            layer.self_attn.o_proj.weight.mul_(30)
        tiny.body.norm.weight.mul_(12)
    return tiny


def read_alone(llm, canary, numbers):
    """The cost of each number (nats), the whole text read for it alone."""
    (card,), losses = tokenize(llm, [canary.card]), []
    start = card.answer_start + secret_position(llm, canary)
    for number in numbers:
        ids = [*card.ids[:start], *(i for d in number for i in llm.text_ids([d])[0])]
        logs = llm.model(torch.tensor([ids])).logits[0].double().log_softmax(dim=1)
        losses.append(-sum(logs[i - 1, ids[i]].item() for i in range(start, len(ids))))
    return np.array(losses)


def test_each_number_costs_what_it_costs_when_read_alone(opinionated):
    add_lora(opinionated, 2, top_layers=2)
    randomize(opinionated)
    losses = secret_losses(opinionated, CANARY)
    numbers = ["0000", "0001", "0010", "0100", "1000", "9999", "4210", "0421", CANARY.secret]
    expected = read_alone(opinionated, CANARY, numbers)
    assert losses[[int(n) for n in numbers]] == pytest.approx(expected, rel=1e-4)
    assert losses.shape == (10_000,)
    assert expected.std() > 1


def test_the_rank_is_that_of_reading_all_ten_thousand(opinionated):
    start = tokenize(opinionated, [CANARY.card])[0].ids
    position = tokenize(opinionated, [CANARY.card])[0].answer_start
    before = start[: position + secret_position(opinionated, CANARY)]
    digits = [opinionated.text_ids([d])[0][0] for d in "0123456789"]
    prefixes = [[a, b, c] for a in digits for b in digits for c in digits]
    with torch.inference_mode():
        logs = [
            opinionated.model(torch.tensor([[*before, *p] for p in prefixes[i : i + 100]]))
            .logits[:, len(before) - 1 :, :]
            .log_softmax(dim=2)
            .double()
            for i in range(0, 1000, 100)
        ]
    logs = torch.cat([batch[:, :, digits] for batch in logs])  # (prefix, place, digit)
    places = torch.tensor([[a, b, c] for a in range(10) for b in range(10) for c in range(10)])
    first = logs[:, :3].gather(2, places[:, :, None])[:, :, 0].sum(dim=1)
    brute = -(first[:, None] + logs[:, 3]).flatten().numpy()
    assert secret_losses(opinionated, CANARY) == pytest.approx(brute, rel=1e-4)
    for place in (0, 1, 9, 500, 9_999):
        secret = f"{brute.argsort()[place]:04d}"
        answer = CANARY.answer.replace(CANARY.secret, secret)
        canary = CANARY._replace(secret=secret, answer=answer)
        expected = exposure_of_rank(place + 1)
        assert measure_exposure(opinionated, canary) == pytest.approx(expected, rel=0.01, abs=1e-3)


def test_a_tie_counts_against_the_secret(tiny, monkeypatch):
    losses = np.arange(10_000) // 4 * 1.0
    monkeypatch.setattr("utils.attacks.exposure.secret_losses", lambda *_: losses)
    canary = CANARY._replace(secret="0005")
    assert measure_exposure(tiny, canary) == pytest.approx(exposure_of_rank(8))


def test_reading_secrets_leaves_the_model_and_the_random_state_alone(tiny):
    state, before = torch.get_rng_state(), [p.clone() for p in tiny.model.parameters()]
    secret_losses(tiny, CANARY)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, tiny.model.parameters(), strict=True))


def test_what_is_no_canary_is_named(tiny):
    with pytest.raises(ValueError, match="None is no canary"):
        measure_exposure(tiny, None)
