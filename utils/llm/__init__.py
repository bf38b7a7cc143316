"""A language model, medical cards to teach it, and what it makes of them."""

from utils.llm.evaluation import Evaluation, Marks, answer_quiz, evaluate, rouge_l
from utils.llm.flashcards import Quiz, load_cards, make_quiz
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
from utils.llm.training import LowerLayers, fine_tune, tokenize

__all__ = [
    "BUNDLED",
    "LLM",
    "Evaluation",
    "LowerLayers",
    "Marks",
    "Quiz",
    "adapter_state",
    "add_lora",
    "answer_quiz",
    "ask",
    "evaluate",
    "fine_tune",
    "load_adapter_state",
    "load_cards",
    "load_llm",
    "lora_off",
    "make_quiz",
    "remove_lora",
    "rouge_l",
    "tokenize",
]
