"""LoRA on and off."""

import math

import numpy as np
import pytest
import torch

from tests.llm.tiny import randomize
from utils.llm import adapter_state, add_lora, load_adapter_state, lora_off, remove_lora


def logits(llm, text="What is a fever?"):
    ids = llm.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return llm.model(ids).logits


@pytest.mark.parametrize(("rank", "top", "trained"), [(2, None, 115_200), (8, 10, 153_600)])
def test_lora_trains_so_many_parameters(bundled, rank, top, trained):
    add_lora(bundled, rank, top_layers=top)
    counts, state = bundled.parameter_counts(), adapter_state(bundled)
    remove_lora(bundled)
    assert counts == (trained, 134_515_008 + trained)
    assert sum(w.numel() for w in state.values()) == trained


def test_only_the_top_layers_are_adapted_when_asked(tiny):
    add_lora(tiny, 2, top_layers=np.int64(1))
    assert {name.split("layers.")[1][0] for name in adapter_state(tiny)} == {"3"}


@pytest.mark.parametrize(
    ("targets", "adapted"),
    [
        ("q_proj", {"q_proj"}),
        (["o_proj", "up_proj"], {"o_proj", "up_proj"}),
        (
            "all-linear",
            {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
        ),
    ],
)
def test_targets_mean_what_they_mean_to_peft(tiny, targets, adapted):
    for _ in range(2):  # also with adapters on
        add_lora(tiny, 2, targets=targets, top_layers=1)
        assert {name.split(".")[-3] for name in adapter_state(tiny)} == adapted


@pytest.mark.parametrize("targets", [["q_proj", "v_prj"], "q_prj", [], ["lm_head"]])
def test_an_unknown_target_is_refused_before_anything_changes(tiny, targets):
    add_lora(tiny, 4)
    randomize(tiny)
    before = adapter_state(tiny)
    with pytest.raises(ValueError, match=r"choose from down_proj, .*v_proj, or 'all-linear'"):
        add_lora(tiny, 2, targets=targets)
    assert all(torch.equal(w, before[name]) for name, w in adapter_state(tiny).items())


def test_a_new_adapter_changes_nothing_and_comes_off_without_a_trace(tiny):
    before, names = logits(tiny), tiny.model.state_dict().keys()
    add_lora(tiny, 4)
    assert torch.equal(logits(tiny), before)
    randomize(tiny)
    assert not torch.allclose(logits(tiny), before, atol=1e-3)
    with lora_off(tiny):
        assert torch.equal(logits(tiny), before)
    remove_lora(tiny)
    assert torch.equal(logits(tiny), before)
    assert tiny.model.state_dict().keys() == names
    assert tiny.parameter_counts()[0] == 0


def test_a_copy_of_the_adapter_goes_out_and_comes_in_unchanged(tiny):
    add_lora(tiny, 4)
    state = {name: torch.randn_like(w) for name, w in adapter_state(tiny).items()}
    load_adapter_state(tiny, {name: w.numpy() for name, w in state.items()})
    for w in adapter_state(tiny).values():
        w.fill_(7)
    assert all(torch.equal(adapter_state(tiny)[name], w) for name, w in state.items())


def test_with_a_frozen_only_b_is_trained_handed_out_and_taken_in(tiny):
    add_lora(tiny, 4, freeze_a=True)
    state = adapter_state(tiny)
    assert state
    assert all("lora_B" in name for name in state)
    assert sum(w.numel() for w in state.values()) == tiny.parameter_counts()[0]
    first = {n: p.clone() for n, p in tiny.model.named_parameters() if "lora_A" in n}
    load_adapter_state(tiny, {name: w + 1 for name, w in state.items()})
    now = dict(tiny.model.named_parameters())
    assert all(torch.equal(now[name], w) for name, w in first.items())
    assert all(torch.equal(adapter_state(tiny)[name], w + 1) for name, w in state.items())
    add_lora(tiny, 4)
    with pytest.raises(ValueError, match=r"missing .*lora_A"):
        load_adapter_state(tiny, state)


def test_the_seed_decides_how_adapters_start_and_the_global_stream_stays(tiny):
    starts, state = [], torch.get_rng_state()
    for seed in (1, 1, 2):
        add_lora(tiny, 2, seed=seed)
        starts.append(torch.cat([w.flatten() for w in adapter_state(tiny).values()]))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_foreign_adapters_are_refused_and_leave_the_old_one(tiny):
    add_lora(tiny, 4)
    state = adapter_state(tiny)
    add_lora(tiny, 2)
    before = adapter_state(tiny)
    first = next(iter(before))
    short = {n: w for n, w in before.items() if n != first}
    for wrong, said in (
        (state, "another rank"),
        (short, r"missing .*q_proj.*\(1 and 0 in all\)"),
        (before | {"extra": torch.zeros(1)}, r"unexpected \['extra'\]"),
        (before | {first: before[first] * math.nan}, "holds NaN or infinity"),
        (None, "state is a NoneType; pass weights by name"),
    ):
        with pytest.raises(ValueError, match=said):
            load_adapter_state(tiny, wrong)
    assert all(torch.equal(w, before[name]) for name, w in adapter_state(tiny).items())
    remove_lora(tiny)
    with pytest.raises(ValueError, match="call add_lora first"):
        load_adapter_state(tiny, before)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"rank": 2.5}, "rank is 2.5"),
        ({"top_layers": 5}, r"top_layers .* is 5; it must be a whole number from 1 to 4"),
        ({"top_layers": 0}, r"top_layers .* is 0"),
        ({"alpha": math.nan}, "alpha is nan"),
        ({"seed": None}, "seed is None"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_changes(tiny, wrong, said):
    add_lora(tiny, 3)
    with pytest.raises(ValueError, match=said):
        add_lora(tiny, **{"rank": 2} | wrong)
    assert {min(w.shape) for w in adapter_state(tiny).values()} == {3}
