"""The bundled model: loaded, asked, and built again where it is damaged."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from utils import caching
from utils.hardware import multiplies_bfloat16, products_of_bfloat16
from utils.llm import ask, load_llm, model

ROOT = Path(__file__).parents[2]


def logits(llm, text="What is a fever?"):
    ids = llm.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return llm.model(ids).logits


def test_the_bundled_model_speaks_english(bundled):
    assert "Paris" in ask(bundled, "What is the capital of France?", max_new_tokens=24)
    assert bundled.parameter_counts() == (0, 134_515_008)
    assert len(bundled.layers) == 30


def test_a_cut_answer_says_so(bundled):
    assert ask(bundled, "What is the heart?", max_new_tokens=3).endswith(" …")


def test_what_is_no_question_is_refused(bundled):
    with pytest.raises(ValueError, match="question is None; it must be text"):
        ask(bundled, None)
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        ask(bundled, "What?", 0)


@pytest.mark.parametrize("name", ["", None, 7])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match=r"name is .*; it must be 'SmolLM2"):
        load_llm(name)


def test_an_unknown_id_offline_names_what_there_is():
    with pytest.raises(ValueError, match="Available without a network: 'SmolLM2-135M-Instruct'"):
        load_llm("nobody/no-such-model")


def test_a_saved_model_loads_from_its_folder(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    again = load_llm(str(tmp_path), dtype=torch.float32)
    assert torch.equal(logits(again), logits(tiny))


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_is_taken_where_it_is_fast_and_float32_elsewhere(
    fast, tiny, tmp_path, monkeypatch
):
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": fast})
    weights = next(load_llm(str(tmp_path), device="cpu").model.parameters())
    assert weights.dtype == (torch.bfloat16 if fast else torch.float32)


def test_a_dtype_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"dtype is torch.int8; it must be torch.float32 or"):
        load_llm(dtype=torch.int8)


def test_a_gpu_multiplies_bfloat16_and_a_processor_that_says_so(monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)  # e.g. an ARM processor
    assert multiplies_bfloat16("cuda:0")
    assert not multiplies_bfloat16()


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


def test_products_of_bfloat16_are_exact_in_float32_and_the_setting_is_put_back():
    torch.manual_seed(0)
    a, b = (torch.randn(shape).bfloat16().float() for shape in ((40, 576), (900, 576)))
    before = torch.backends.mkldnn.matmul.fp32_precision
    with products_of_bfloat16(wanted=True):
        product = a @ b.T
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    assert (product - a.double() @ b.double().T).abs().max() < 1e-3  # bfloat16 would err by 0.1
    with pytest.raises(ZeroDivisionError), products_of_bfloat16(wanted=True):
        1 / 0  # noqa: B018
    assert torch.backends.mkldnn.matmul.fp32_precision == before
