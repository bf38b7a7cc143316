"""Packing: the same losses and gradients, of fewer tokens."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.llm.tiny import randomize
from utils.llm import LLM, add_lora, fine_tune, packing, tokenize
from utils.llm.packing import pack
from utils.llm.reading import answer_losses

TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=5)
BEGIN_ALIKE = [
    {"question": "A patient has a long and rare complaint. Who?", "answer": "the heart's doctors"},
    {"question": "A patient has it.", "answer": "nobody"},
    {"question": "A patient has it.", "answer": "the eyes' doctors, and soon"},
]


@given(TEXTS)
def test_each_text_is_found_in_the_row_and_no_beginning_twice(texts):
    packing = pack(texts, torch.device("cpu"))
    padded = torch.tensor([text + [-1] * (6 - len(text)) for text in texts])
    width = packing.places.shape[1]
    row = padded[:, :width].flatten()[packing.found]
    for text, places in zip(texts, packing.places, strict=True):
        places = places[: len(text)]
        assert row[places].tolist() == text
        assert packing.depths[places].tolist() == list(range(len(text)))
    beginnings = {tuple(text[: n + 1]) for text in texts for n in range(len(text))}
    assert len(packing.found) == len(packing.depths) == len(beginnings)


@pytest.fixture
def read_above(tiny, monkeypatch):
    """How many tokens go through the layers with adapters, at each reading."""
    sizes, through = [], packing.through

    def counting(body, which, states, *rest, **further):
        sizes.append(states.shape[:2])
        return through(body, which, states, *rest, **further)

    monkeypatch.setattr(packing, "through", counting)
    return sizes


@pytest.mark.parametrize("top_layers", [None, 2])
def test_packed_or_not_losses_and_gradients_are_the_same(tiny, top_layers, read_above):
    add_lora(tiny, 4, top_layers=top_layers)
    randomize(tiny)
    batch = tokenize(tiny, BEGIN_ALIKE)
    found = {}
    for pack_them in (False, True, True):  # the last time from what was kept
        losses = answer_losses(tiny, batch, pack=pack_them)
        total = torch.cat(losses).mean()
        found[pack_them] = losses, torch.autograd.grad(total, tiny.trained)
    for one, other in zip(*(own[0] for own in found.values()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    for one, other in zip(*(own[1] for own in found.values()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    beginnings = {tuple(card.ids[: n + 1]) for card in batch for n in range(len(card.ids))}
    assert read_above == [(1, len(beginnings))] * 2
    assert len(beginnings) < sum(len(card.ids) for card in batch) - 10


def test_packed_a_text_sees_no_other(tiny):
    torch.nn.init.normal_(tiny.layers[0].self_attn.o_proj.weight, std=0.5)  # attention matters
    first, *others = tokenize(tiny, BEGIN_ALIKE)
    (alone,) = answer_losses(tiny, [first])
    beside = answer_losses(tiny, [*others, first], pack=True)[-1]
    torch.testing.assert_close(beside, alone, rtol=1e-5, atol=1e-6)


def other_family(tokenizer, name):
    """A tiny model of another family, with random weights."""
    from transformers import AutoModelForCausalLM, MistralConfig, Qwen3_5TextConfig, Qwen3Config

    size = {"vocab_size": 49152, "hidden_size": 32, "intermediate_size": 64}
    size |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    size |= {"num_hidden_layers": 4, "max_position_embeddings": 512, "pad_token_id": 2}
    config = {
        "sliding window": lambda: MistralConfig(**size, sliding_window=4),
        "long window": lambda: MistralConfig(**size, sliding_window=4096),
        "qwen3": lambda: Qwen3Config(**size),
        "recurrent": lambda: Qwen3_5TextConfig(
            **size,
            linear_num_key_heads=2,
            linear_num_value_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
        ),
    }[name]()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval().requires_grad_(False)
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)  # what a text sees matters
    return LLM(model, tokenizer, name)


@pytest.mark.parametrize(
    ("family", "packs"),
    [("sliding window", False), ("long window", True), ("qwen3", True), ("recurrent", False)],
)
def test_models_of_other_families_are_packed_where_nothing_changes(tiny, family, packs, read_above):
    other = other_family(tiny.tokenizer, family)
    batch = tokenize(other, BEGIN_ALIKE)
    alone = torch.cat([answer_losses(other, [card])[0] for card in batch])
    packed = torch.cat(answer_losses(other, batch, pack=True))
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)
    assert bool(read_above) == packs


def test_training_packs_and_reads_copies_of_a_card_once(tiny, read_above):
    add_lora(tiny, 2, top_layers=2)
    for cards in (BEGIN_ALIKE, BEGIN_ALIKE + BEGIN_ALIKE[:2]):
        fine_tune(tiny, cards, steps=1, batch_size=8, progress=False)
    assert read_above[0] == read_above[1]


def test_afterwards_attention_is_the_models_own_also_after_an_error(tiny, monkeypatch):
    before = tiny.body.config._attn_implementation
    batch = tokenize(tiny, BEGIN_ALIKE)
    answer_losses(tiny, batch, pack=True)
    assert tiny.body.config._attn_implementation == before
    monkeypatch.setattr(packing, "through", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        answer_losses(tiny, batch, pack=True)
    assert tiny.body.config._attn_implementation == before
