"""One small model with the real tokenizer: random weights, four layers, milliseconds a step.

The conftests of the folders that need a language model take their fixtures from here.
"""

import pytest
import torch

from utils.llm import LLM, load_llm

CARDS = [
    {"question": "What is hemiplegia?", "answer": "Paralysis of one side of the body."},
    {"question": "What is anosmia?", "answer": "Loss of smell."},
    {"question": "What is tachycardia?", "answer": "A heart rate above the normal range at rest."},
    {"question": "What is leukocoria?", "answer": "A white pupil, that is, a white reflex."},
    {"question": "What is polydactyly?", "answer": "More than five fingers or toes on a limb."},
]


@pytest.fixture(scope="session")
def bundled():
    """The real model; tests that change it must put it back."""
    return load_llm()


@pytest.fixture
def tiny(bundled):
    return make_tiny(bundled.tokenizer)


@pytest.fixture
def cards():
    return CARDS


def make_tiny(tokenizer):
    from transformers import LlamaConfig, LlamaForCausalLM  # after utils, see its docstring

    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        pad_token_id=2,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return LLM(model, tokenizer, "tiny")


def randomize(llm):
    """Adapters that do something: LoRA's second matrix starts at zero."""
    torch.manual_seed(1)
    for p in llm.trained:
        p.data = 0.3 * torch.randn_like(p)
