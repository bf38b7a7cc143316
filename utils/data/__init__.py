"""What clients hold, and how it is dealt out to them."""

from utils.data.clinics import make_clinics, organ_system_of, shuffle_clinics
from utils.data.digits import (
    drop_labels,
    keep_labels,
    load_digits,
    missing_digits,
    split_hospitals,
)
from utils.data.flashcards import load_cards
from utils.data.quiz import Quiz, make_quiz, shared_parts
from utils.data.tensors import as_tensors, labels_of

__all__ = [
    "Quiz",
    "as_tensors",
    "drop_labels",
    "keep_labels",
    "labels_of",
    "load_cards",
    "load_digits",
    "make_clinics",
    "make_quiz",
    "missing_digits",
    "organ_system_of",
    "shared_parts",
    "shuffle_clinics",
    "split_hospitals",
]
