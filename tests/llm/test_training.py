"""Fine-tuning: the same losses and gradients as transformers', only sooner."""

import numpy as np
import pytest
import torch

from utils.llm import (
    LLM,
    LowerLayers,
    adapter_state,
    add_lora,
    evaluate,
    fine_tune,
    lora_off,
    tokenize,
)
from utils.llm.training import MAX_TOKENS, like_lengths, token_losses


def padded(llm, tokens):
    """What a usual collator makes: ids, mask, labels with -100 where nothing is scored."""
    longest = max(len(card.ids) for card in tokens)
    pad = [longest - len(card.ids) for card in tokens]
    ids = [card.ids + [llm.tokenizer.pad_token_id] * n for card, n in zip(tokens, pad, strict=True)]
    mask = [[1] * len(card.ids) + [0] * n for card, n in zip(tokens, pad, strict=True)]
    labels = [
        [-100] * card.answer_start + card.ids[card.answer_start :] + [-100] * n
        for card, n in zip(tokens, pad, strict=True)
    ]
    return [torch.tensor(rows) for rows in (ids, mask, labels)]


def randomize(llm):
    """Adapters that do something: LoRA's second matrix starts at zero."""
    torch.manual_seed(1)
    for p in llm.model.parameters():
        if p.requires_grad:
            p.data = 0.3 * torch.randn_like(p)


@pytest.mark.parametrize("top_layers", [None, 2])
@pytest.mark.parametrize("keep", [False, True])
def test_loss_and_gradients_are_those_of_transformers(tiny, cards, top_layers, keep):
    add_lora(tiny, 4, top_layers=top_layers)
    randomize(tiny)
    tokens = tokenize(tiny, cards)
    ids, mask, labels = padded(tiny, tokens)
    expected = tiny.model(input_ids=ids, attention_mask=mask, labels=labels).loss
    trained = [p for p in tiny.model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(expected, trained)
    layers = LowerLayers(tiny, keep=keep)
    for _ in range(2):  # the second time from the cache
        loss = torch.cat(token_losses(layers, tokens)).mean()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        for ours, theirs in zip(torch.autograd.grad(loss, trained), gradients, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6)
    assert len(layers.kept or {}) == (len(cards) if keep and top_layers else 0)


def test_the_bundled_model_agrees_with_transformers_too(bundled, cards):
    tokens = tokenize(bundled, cards)
    ids, mask, labels = padded(bundled, tokens)
    with torch.inference_mode():
        expected = bundled.model(input_ids=ids, attention_mask=mask, labels=labels).loss.item()
    assert evaluate(bundled, cards, progress=False).loss == pytest.approx(expected, rel=1e-4)


def test_only_the_answer_and_its_end_are_scored(tiny, cards):
    (card,) = tokenize(tiny, cards[:1])
    text = tiny.tokenizer.decode(card.ids[card.answer_start :])
    assert text == cards[0]["answer"] + tiny.tokenizer.eos_token
    assert tiny.tokenizer.decode(card.ids[: card.answer_start]) == tiny.prompt(cards[0]["question"])
    (losses,) = token_losses(LowerLayers(tiny), [card])
    assert len(losses) == len(card.ids) - card.answer_start


def test_a_long_card_is_cut(tiny):
    (card,) = tokenize(tiny, [{"question": "What?", "answer": "word " * 500}])
    assert len(card.ids) == MAX_TOKENS


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


def test_copies_of_a_card_count_as_often_as_they_are_there_and_are_read_once(tiny, cards):
    batch = [cards[0], cards[1], cards[0], cards[2], cards[0]]
    add_lora(tiny, 4, top_layers=2)
    randomize(tiny)
    tokens = tokenize(tiny, batch)
    torch.cat(token_losses(LowerLayers(tiny), tokens)).mean().backward()
    trained = [p for p in tiny.model.parameters() if p.requires_grad]
    expected = [p.grad.clone() for p in trained]
    read, hidden = [], LowerLayers.hidden

    class Counting(LowerLayers):
        def hidden(self, batch):
            read.append(len(batch))
            return hidden(self, batch)

    before = [p.detach().clone() for p in trained]
    layers = Counting(tiny)
    fine_tune(tiny, batch, steps=1, lr=1e-3, layers=layers, progress=False)
    assert read == [3]
    for p, start, gradient in zip(trained, before, expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-4, atol=1e-6)
        assert not torch.equal(p, start)


@pytest.mark.parametrize("top_layers", [None, 1])
def test_the_seed_repeats_a_training_exactly(tiny, cards, top_layers):
    results = []
    for seed in (3, 3, 4):
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
    after = evaluate(tiny, cards, progress=False).loss
    assert len(losses) == 60
    assert losses[0] == pytest.approx(before, rel=1e-5)
    assert after < before - 0.2
    now = dict(tiny.model.named_parameters())
    assert all(torch.equal(now[name], w) for name, w in frozen.items())


def test_steps_stop_in_the_middle_of_a_pass_and_are_reported(tiny, cards):
    add_lora(tiny, 2)
    seen = []
    losses = fine_tune(
        tiny, cards, steps=4, batch_size=2, on_step=lambda *a: seen.append(a), progress=False
    )
    assert [number for number, _ in seen] == [1, 2, 3, 4]
    assert [loss for _, loss in seen] == losses


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": float("nan")}]
)
def test_settings_out_of_range_are_named(tiny, cards, wrong):
    add_lora(tiny, 2)
    with pytest.raises(ValueError, match=r"must be at least 1, lr above 0"):
        fine_tune(tiny, cards, progress=False, **wrong)


def test_a_question_without_room_for_its_answer_is_refused(tiny):
    with pytest.raises(ValueError, match=r"'word word .* tokens; question and answer"):
        tokenize(tiny, [{"question": "word " * 300, "answer": "yes"}])


def test_layers_made_for_other_adapters_are_refused(tiny, cards):
    add_lora(tiny, 2, top_layers=1)
    layers = LowerLayers(tiny)
    fine_tune(tiny, cards, steps=1, layers=layers, progress=False)
    add_lora(tiny, 4, top_layers=1)  # the layers below are the same ones
    fine_tune(tiny, cards, steps=1, layers=layers, progress=False)
    add_lora(tiny, 2, top_layers=2)
    for use in (fine_tune, evaluate):
        with pytest.raises(ValueError, match=r"end before layer 3, .* is now 2; make new ones"):
            use(tiny, cards, layers=layers, progress=False)


def test_layers_serve_with_the_adapters_off_too(tiny, cards):
    plain = evaluate(tiny, cards, progress=False).loss
    add_lora(tiny, 2, top_layers=1)
    randomize(tiny)
    layers = LowerLayers(tiny)
    assert evaluate(tiny, cards, layers=layers, progress=False).loss != pytest.approx(plain)
    with lora_off(tiny):
        without = evaluate(tiny, cards, layers=layers, progress=False).loss
    assert without == pytest.approx(plain, rel=1e-5)


def test_a_model_of_another_family_is_refused(tiny, cards):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=49152, n_embd=8, n_layer=1, n_head=1)
    other = LLM(GPT2LMHeadModel(config), tiny.tokenizer, "gpt")
    with pytest.raises(ValueError, match=r"'gpt' is a GPT2LMHeadModel; .* Llama family"):
        evaluate(other, cards, progress=False)


def test_evaluation_over_cached_activations_agrees_and_can_be_trained_on(tiny, cards):
    add_lora(tiny, 2, top_layers=1)
    randomize(tiny)
    layers = LowerLayers(tiny)
    kept = [evaluate(tiny, cards, layers=layers, progress=False).loss for _ in range(2)]
    plain = evaluate(tiny, cards, progress=False).loss
    assert kept == pytest.approx([plain] * 2, rel=1e-5)
    assert len(layers.kept) == len(cards)
    fine_tune(tiny, cards, steps=1, layers=layers, progress=False)


def test_nothing_to_train_or_to_train_on_is_said(tiny, cards):
    with pytest.raises(ValueError, match="with add_lora first"):
        fine_tune(tiny, cards, progress=False)
    add_lora(tiny, 2)
    with pytest.raises(ValueError, match="there are no cards"):
        fine_tune(tiny, [], progress=False)
