"""Fine-tuning: every card its share, the answer only, and exactly the same again."""

import numpy as np
import pytest
import torch

from tests.llm.tiny import randomize
from utils.llm import adapter_state, add_lora, evaluate, fine_tune, remove_lora, tokenize, training
from utils.llm.reading import read
from utils.llm.training import at_random, like_lengths


def test_batches_hold_every_card_once_and_like_lengths(tiny):
    lengths = np.random.default_rng(0).integers(1, 60, 300)
    words = [{"question": "What?", "answer": "word " * int(n)} for n in lengths]
    tokens = tokenize(tiny, words)
    batches = like_lengths(tokens, 8, torch.Generator().manual_seed(0))
    assert sorted(i for batch in batches for i in batch) == list(range(300))
    real = sum(len(card.ids) for card in tokens)
    paid = sum(len(b) * max(len(tokens[i].ids) for i in b) for b in batches)
    assert paid < 1.15 * real  # random batches would pay about 1.6 times
    assert [len(b) for b in batches].count(8) >= 37
    other = like_lengths(tokens, 8, torch.Generator().manual_seed(1))
    assert batches != other


def test_batches_at_random_hold_every_card_once_and_any_length(tiny):
    lengths = np.random.default_rng(0).integers(1, 60, 300)
    tokens = tokenize(tiny, [{"question": "What?", "answer": "word " * int(n)} for n in lengths])
    batches = at_random(tokens, 8, torch.Generator().manual_seed(0))
    assert sorted(i for batch in batches for i in batch) == list(range(300))
    assert [len(b) for b in batches] == [8] * 37 + [4]
    ranges = [np.ptp([lengths[i] for i in batch]) for batch in batches]
    assert np.mean(ranges) > 30  # of 60; batches of like length have about 4
    assert batches != at_random(tokens, 8, torch.Generator().manual_seed(1))


def test_training_deals_as_it_is_told(tiny, cards, monkeypatch):
    dealt = []
    for name in ("at_random", "like_lengths"):
        real = getattr(training, name)
        monkeypatch.setattr(
            training, name, lambda *a, name=name, real=real: dealt.append(name) or real(*a)
        )
    add_lora(tiny, rank=2)
    fine_tune(tiny, cards, steps=1, alike=False, progress=False)
    assert set(dealt) == {"at_random"}
    dealt.clear()
    fine_tune(tiny, cards, steps=1, progress=False)
    assert set(dealt) == {"like_lengths"}


def test_the_rate_falls_along_a_cosine_if_it_is_told_to(tiny, cards, monkeypatch):
    rates, real = [], torch.optim.AdamW.step

    def noting(optimizer, *args, **kwargs):
        rates.append(optimizer.param_groups[0]["lr"])
        return real(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    for cosine, wanted in (
        (True, [0.01 * (1 + np.cos(np.pi * i / 4)) / 2 for i in range(4)]),
        (False, [0.01] * 4),
    ):
        rates.clear()
        add_lora(tiny, rank=2)
        fine_tune(tiny, cards, steps=4, lr=0.01, cosine=cosine, progress=False)
        assert rates == pytest.approx(wanted)


def test_copies_of_a_card_count_as_often_as_they_are_there(tiny, cards):
    batch = [cards[0], cards[1], cards[0], cards[2], cards[0]]
    add_lora(tiny, 4, top_layers=2)
    randomize(tiny)
    torch.cat([p.losses for p in read(tiny, tokenize(tiny, batch))]).mean().backward()
    expected = [p.grad.clone() for p in tiny.trained]
    before = [p.detach().clone() for p in tiny.trained]
    fine_tune(tiny, batch, steps=1, lr=1e-3, progress=False)
    for p, start, gradient in zip(tiny.trained, before, expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-4, atol=1e-6)
        assert not torch.equal(p, start)


@pytest.mark.parametrize("top_layers", [None, 1])
def test_the_seed_repeats_a_training_exactly(tiny, cards, top_layers):
    results = []
    for seed in (3, np.int64(3), 4):
        add_lora(tiny, 4, top_layers=top_layers)
        losses = fine_tune(tiny, cards, steps=6, batch_size=2, seed=seed, progress=False)
        results.append((losses, adapter_state(tiny)))
    assert results[0][0] == results[1][0] != results[2][0]
    for name, w in results[0][1].items():
        assert torch.equal(w, results[1][1][name])


def test_it_learns_and_leaves_the_frozen_weights_alone(tiny, cards):
    add_lora(tiny, 8)
    frozen = {n: p.clone() for n, p in tiny.model.named_parameters() if not p.requires_grad}
    before = evaluate(tiny, cards, progress=False).loss
    losses = fine_tune(tiny, cards, epochs=60, batch_size=5, lr=1e-2, progress=False)
    assert len(losses) == 60
    assert losses[0] == pytest.approx(before, rel=1e-5)
    assert evaluate(tiny, cards, progress=False).loss < before - 0.2
    now = dict(tiny.model.named_parameters())
    assert all(torch.equal(now[name], w) for name, w in frozen.items())


def test_bfloat16_learns_the_same_as_float32_with_adapters_in_float32(tiny, cards):
    final, start = {}, tiny.model.state_dict()
    for dtype in (torch.float32, torch.bfloat16):
        tiny.model.load_state_dict(start)
        tiny.model.to(dtype)
        add_lora(tiny, 8, top_layers=2)
        before = evaluate(tiny, cards, progress=False).loss
        fine_tune(tiny, cards, epochs=60, batch_size=5, lr=1e-2, progress=False)
        final[dtype] = evaluate(tiny, cards, progress=False).loss
        assert final[dtype] < before - 0.2
        assert {p.dtype for p in tiny.trained} == {torch.float32}
        remove_lora(tiny)
    assert final[torch.bfloat16] == pytest.approx(final[torch.float32], abs=0.02)


def test_steps_stop_in_the_middle_of_a_pass_and_are_reported(tiny, cards):
    add_lora(tiny, 2)
    seen = []
    losses = fine_tune(
        tiny, cards, steps=4, batch_size=2, on_step=lambda *a: seen.append(a), progress=False
    )
    assert [number for number, _ in seen] == [1, 2, 3, 4]
    assert [loss for _, loss in seen] == losses


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"batch_size": "8"}, "batch_size is '8'"),
        ({"lr": float("nan")}, "lr is nan; it must be a finite number above 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_out_of_range_are_named(tiny, cards, wrong, said):
    add_lora(tiny, 2)
    with pytest.raises(ValueError, match=said):
        fine_tune(tiny, cards, progress=False, **wrong)


def test_nothing_to_train_is_said(tiny, cards):
    with pytest.raises(ValueError, match="with add_lora first"):
        fine_tune(tiny, cards, progress=False)
