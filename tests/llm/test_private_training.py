"""DP-SGD on adapters: each card's own gradient, clipped, summed, noised."""

import math

import pytest
import torch

from tests.llm.tiny import randomize
from utils.llm import adapter_state, add_lora, fine_tune_privately, tokenize
from utils.llm.private_training import stream
from utils.llm.reading import read
from utils.privacy.ledger import BudgetSpentError, Ledger

WHOLE = {"sampling_rate": 1.0, "steps": 1, "progress": False}


def gradients_one_by_one(llm, cards):
    """A loop: each card's gradient as one vector, ``(cards, parameters)``."""
    rows = []
    for card in tokenize(llm, cards):
        loss = read(llm, [card])[0].losses.mean()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, llm.trained)]))
    return torch.stack(rows)


def gradient_of(llm, monkeypatch, cards, **settings):
    """What the optimizer is given in one step."""
    seen = []

    def step(optimizer, closure=None):
        seen.append(torch.cat([p.grad.flatten() for p in optimizer.param_groups[0]["params"]]))

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    fine_tune_privately(llm, cards, **WHOLE | settings)
    monkeypatch.undo()
    return seen[-1]


@pytest.mark.parametrize("top_layers", [None, 2])
@pytest.mark.parametrize("copies", [1, 5])  # 25 cards take two chunks
def test_the_clipped_sum_is_that_of_a_loop(tiny, cards, monkeypatch, top_layers, copies):
    add_lora(tiny, 4, top_layers=top_layers)
    randomize(tiny)
    each = gradients_one_by_one(tiny, cards)
    norms = each.norm(dim=1, keepdim=True)
    bound = norms.median().item()  # some are clipped, some are not
    expected = (each * (bound / norms).clamp(max=1)).sum(dim=0) / len(cards)
    got = gradient_of(tiny, monkeypatch, cards * copies, noise_multiplier=0.0, max_norm=bound)
    assert torch.allclose(got, expected, rtol=1e-3, atol=1e-6)
    assert (norms > 1.001 * bound).any()


def test_the_noise_has_the_promised_size(tiny, cards, monkeypatch):
    add_lora(tiny, 8)
    settings = {"noise_multiplier": 3.0, "max_norm": 0.5}
    noisy = gradient_of(tiny, monkeypatch, cards, **settings)
    plain = gradient_of(tiny, monkeypatch, cards, **settings | {"noise_multiplier": 0.0})
    noise = (noisy - plain) * len(cards)
    assert noise.std().item() == pytest.approx(3.0 * 0.5, rel=5 / math.sqrt(2 * len(noise)))
    assert abs(noise.mean().item()) < 5 * 1.5 / math.sqrt(len(noise))


def test_a_step_moves_by_the_clipped_mean_and_the_learning_rate(tiny, cards):
    """Not by the signs of an optimizer that starts afresh: S and lr set the step."""
    add_lora(tiny, 4)
    randomize(tiny)
    each, before = gradients_one_by_one(tiny, cards), [p.detach().clone() for p in tiny.trained]
    bound = 0.1 * each.norm(dim=1).min().item()  # all are clipped
    settings = {"noise_multiplier": 0.0, "max_norm": bound, "lr": 7.0}
    fine_tune_privately(tiny, cards, **WHOLE | settings)
    moved = torch.cat([(p - b).flatten() for p, b in zip(tiny.trained, before, strict=True)])
    mean = (each / each.norm(dim=1, keepdim=True)).mean(dim=0)
    assert torch.allclose(moved, -7.0 * bound * mean, rtol=1e-2, atol=1e-5 * bound)


def test_the_noise_is_independent_of_who_was_drawn():
    """Generators of one seed draw the same bits: who knows the sample would know the noise."""
    uniform, noise = [], []
    for seed in range(400):
        sampling, noising = (stream(seed, p, torch.device("cpu")) for p in ("sampling", "noise"))
        uniform.append(torch.rand(32, generator=sampling))
        noise.append(torch.randn(32, generator=noising))
    both = torch.cat([torch.stack(uniform), torch.stack(noise)], dim=1)
    links = torch.corrcoef(both.T)[:32, 32:]
    assert links.abs().max() < 0.3  # of 1,024 pairs; 400 draws give a deviation of 0.05
    with_size = torch.corrcoef(torch.cat([torch.stack(uniform), torch.stack(noise).abs()], 1).T)
    assert with_size[:32, 32:].abs().max() < 0.3


def test_the_training_draws_its_sample_and_its_noise_from_two_streams(tiny, cards, monkeypatch):
    streams = []
    monkeypatch.setattr(
        "utils.llm.private_training.stream",
        lambda *arguments: (streams.append(arguments[:2]), stream(*arguments))[1],
    )
    add_lora(tiny, 2, top_layers=1)
    fine_tune_privately(tiny, cards, noise_multiplier=1.0, max_norm=1.0, seed=5, **WHOLE)
    assert streams == [(5, "sampling"), (5, "noise")]


def test_a_ledger_is_told_before_each_step_and_may_end_the_training(tiny, cards):
    add_lora(tiny, 2, top_layers=1)
    ledger, seen = Ledger(1e-3), []
    settings = {"noise_multiplier": 1.0, "max_norm": 1.0, "sampling_rate": 0.5, "progress": False}
    fine_tune_privately(tiny, cards, steps=3, ledger=ledger, **settings)
    assert [tuple(release) for release in ledger.releases] == [(1.0, 0.5, 1)] * 3

    class Two:
        def spend(self, *release):
            seen.append((release, adapter_state(tiny)))
            if len(seen) > 2:
                raise BudgetSpentError("enough")

    with pytest.raises(BudgetSpentError, match="enough"):
        fine_tune_privately(tiny, cards, steps=9, ledger=Two(), **settings)
    assert [release for release, _ in seen] == [(1.0, 0.5, 1)] * 3
    last = adapter_state(tiny)  # the refused step was not taken, the second was
    assert all(torch.equal(w, last[name]) for name, w in seen[2][1].items())
    assert not all(torch.equal(w, last[name]) for name, w in seen[1][1].items())
    assert not tiny.model.training


def test_cards_are_drawn_one_by_one_with_the_sampling_rate(tiny, cards, monkeypatch):
    add_lora(tiny, 2, top_layers=1)
    sizes = []
    monkeypatch.setattr(
        "utils.llm.private_training._backward",
        lambda llm, drawn: (sizes.append(len(drawn)), _no_gradients(tiny))[1],
    )
    settings = {"noise_multiplier": 1.0, "max_norm": 1.0, "sampling_rate": 0.3, "steps": 300}
    fine_tune_privately(tiny, cards * 4, progress=False, **settings)
    mean, variance = 20 * 0.3, 20 * 0.3 * 0.7
    sizes = torch.tensor(sizes, dtype=torch.float)
    assert abs(sizes.mean() - mean) < 4 * math.sqrt(variance / 300)
    assert sizes.var() == pytest.approx(variance, rel=0.35)  # binomial, not of one size


def _no_gradients(llm):
    for p in llm.trained:
        p.grad_sample = p.new_zeros((1, *p.shape))
    return 0.0


def test_a_step_without_cards_is_noise_alone(tiny, cards):
    add_lora(tiny, 2, top_layers=1)
    before = adapter_state(tiny)
    settings = WHOLE | {"noise_multiplier": 1.0, "max_norm": 1.0, "sampling_rate": 1e-9}
    (loss,) = fine_tune_privately(tiny, cards, **settings)
    assert math.isnan(loss)
    assert all(not torch.equal(w, before[name]) for name, w in adapter_state(tiny).items())


def test_the_seed_repeats_a_private_training_and_nothing_is_left_behind(tiny, cards):
    results = []
    for seed in (1, 1, 2):
        add_lora(tiny, 2)
        settings = {"noise_multiplier": 1.0, "max_norm": 1.0, "sampling_rate": 0.6, "steps": 4}
        fine_tune_privately(tiny, cards, seed=seed, progress=False, **settings)
        results.append(torch.cat([w.flatten() for w in adapter_state(tiny).values()]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert not tiny.model.training
    assert not any(hasattr(p, "grad_sample") for p in tiny.model.parameters())


def test_without_noise_it_learns(tiny, cards):
    add_lora(tiny, 8)
    settings = {"noise_multiplier": 0.0, "max_norm": 1.0, "steps": 60, "lr": 3.0}
    losses = fine_tune_privately(tiny, cards, sampling_rate=1.0, progress=False, **settings)
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"noise_multiplier": -1.0}, "noise_multiplier is -1.0"),
        ({"noise_multiplier": None}, "noise_multiplier is None"),
        ({"steps": 0}, "steps is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"max_norm": 0.0}, "max_norm is 0.0"),
        ({"sampling_rate": 1.5}, "sampling_rate is 1.5"),
    ],
)
def test_private_settings_out_of_range_are_named(tiny, cards, wrong, said):
    add_lora(tiny, 2)
    with pytest.raises(ValueError, match=said):
        fine_tune_privately(tiny, cards, **WHOLE | {"noise_multiplier": 1.0, "max_norm": 1} | wrong)


def test_nothing_to_train_privately_is_said(tiny, cards):
    with pytest.raises(ValueError, match="with add_lora first"):
        fine_tune_privately(tiny, cards, noise_multiplier=1.0, max_norm=1.0, **WHOLE)
