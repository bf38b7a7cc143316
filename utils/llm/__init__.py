"""A language model, medical cards to teach it, and what it makes of them."""

from utils.llm.asking import ask
from utils.llm.evaluation import Evaluation, Marks, answer_quiz, evaluate, rouge_l
from utils.llm.federated import adapter_record, clinic_app, load_adapter_record, train_steps
from utils.llm.lora import adapter_state, add_lora, load_adapter_state, lora_off, remove_lora
from utils.llm.model import BUNDLED, LLM, load_llm
from utils.llm.private_training import fine_tune_privately
from utils.llm.reading import tokenize
from utils.llm.training import fine_tune

__all__ = [
    "BUNDLED",
    "LLM",
    "Evaluation",
    "Marks",
    "adapter_record",
    "adapter_state",
    "add_lora",
    "answer_quiz",
    "ask",
    "clinic_app",
    "evaluate",
    "fine_tune",
    "fine_tune_privately",
    "load_adapter_record",
    "load_adapter_state",
    "load_llm",
    "lora_off",
    "remove_lora",
    "rouge_l",
    "tokenize",
    "train_steps",
]
