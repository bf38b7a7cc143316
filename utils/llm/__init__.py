"""A language model, medical cards to teach it, and what it makes of them."""

from utils.llm.evaluation import Evaluation, Marks, answer_quiz, evaluate, rouge_l
from utils.llm.model import (
    BUNDLED,
    LLM,
    adapter_state,
    add_lora,
    ask,
    load_adapter_state,
    load_llm,
    lora_off,
    remove_lora,
)
from utils.llm.private_training import fine_tune_privately
from utils.llm.training import LowerLayers, fine_tune, tokenize

__all__ = [
    "BUNDLED",
    "LLM",
    "Evaluation",
    "LowerLayers",
    "Marks",
    "adapter_state",
    "add_lora",
    "answer_quiz",
    "ask",
    "evaluate",
    "fine_tune",
    "fine_tune_privately",
    "load_adapter_state",
    "load_llm",
    "lora_off",
    "remove_lora",
    "rouge_l",
    "tokenize",
]
