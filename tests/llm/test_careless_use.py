"""Whatever a careless user hands over is answered with a sentence, not from the depths."""

import math

import pytest

from utils import data, llm
from utils.llm.federated import train_steps

DP = {"noise_multiplier": 1, "max_norm": 1, "sampling_rate": 0.5, "steps": 1}

CASES = {
    "a bare model": (lambda m, c: llm.add_lora(m.model), "pass what load_llm returns"),
    "no model to ask": (lambda m, c: llm.ask(None, "What?"), "llm is a NoneType"),
    "no model to tokenize": (lambda m, c: llm.tokenize(None, c), "llm is a NoneType"),
    "no model to strip": (lambda m, c: llm.remove_lora("tiny"), "llm is a str"),
    "no model to send": (lambda m, c: llm.adapter_state(None), "llm is a NoneType"),
    "targets 5": (lambda m, c: llm.add_lora(m, targets=5), "targets is 5; it must be a list"),
    "words for weights": (
        lambda m, c: llm.load_adapter_state(m, dict.fromkeys(llm.adapter_state(m), "x")),
        "is 'x'; weights are tensors or arrays",
    ),
    "a slice": (lambda m, c: llm.tokenize(m, {"question": ["a"], "answer": ["b"]}), "is a dict"),
    "all splits": (lambda m, c: llm.evaluate(m, {"train": c}), "cards is a dict"),
    "nan": (lambda m, c: llm.evaluate(m, [{"question": math.nan, "answer": "x"}]), "'question'"),
    "options": (
        lambda m, c: llm.answer_quiz(m, [data.Quiz("What?", None, 0, "")]),
        "a question's options is None",
    ),
    "no options": (
        lambda m, c: llm.answer_quiz(m, [data.Quiz("What?", [], 0, "")]),
        "there are no cards",
    ),
    "rouge": (lambda m, c: llm.rouge_l(m, [{"question": "x"}]), "no text as its 'answer'"),
    "on_step": (lambda m, c: llm.fine_tune(m, c, on_step=5), "on_step is 5; it must be a function"),
    "ledger": (lambda m, c: llm.fine_tune_privately(m, c, ledger=3, **DP), "ledger is 3; pass a"),
    "training": (lambda m, c: llm.clinic_app(m, {"x": c}, None), "such as llm.train_steps"),
    "mods": (lambda m, c: llm.clinic_app(m, {"x": c}, mods=None), "mods is None; it must be a"),
    "config": (lambda m, c: train_steps(m, c, {}, 0), r"says nothing of \['steps', 'lr'\]"),
    "device": (lambda m, c: llm.load_llm(device="gpu"), "device is 'gpu'; it must be 'cpu'"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_answered_with_a_sentence(tiny, cards, name):
    use, said = CASES[name]
    llm.add_lora(tiny, 2)
    with pytest.raises((ValueError, TypeError), match=said):
        use(tiny, cards)
