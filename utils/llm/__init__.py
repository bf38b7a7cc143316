"""A language model, medical cards to teach it, and what it makes of them."""

from utils.llm.canaries import Canary, make_canaries, planted_cards, secret_position
from utils.llm.clinics import make_clinics, organ_system_of, shuffle_clinics
from utils.llm.evaluation import Evaluation, Marks, answer_quiz, evaluate, rouge_l
from utils.llm.exposure import (
    draw_secrets,
    estimate_rank,
    exposure,
    measure_exposure,
    secret_losses,
)
from utils.llm.flashcards import Quiz, load_cards, make_quiz, shared_parts
from utils.llm.membership import membership_scores
from utils.llm.memorization import extractable, greedy_match, longest_match, sample_answers
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
    "Canary",
    "Evaluation",
    "LowerLayers",
    "Marks",
    "Quiz",
    "adapter_state",
    "add_lora",
    "answer_quiz",
    "ask",
    "draw_secrets",
    "estimate_rank",
    "evaluate",
    "exposure",
    "extractable",
    "fine_tune",
    "fine_tune_privately",
    "greedy_match",
    "load_adapter_state",
    "load_cards",
    "load_llm",
    "longest_match",
    "lora_off",
    "make_canaries",
    "make_clinics",
    "make_quiz",
    "measure_exposure",
    "membership_scores",
    "organ_system_of",
    "planted_cards",
    "remove_lora",
    "rouge_l",
    "sample_answers",
    "secret_losses",
    "secret_position",
    "shared_parts",
    "shuffle_clinics",
    "tokenize",
]
