"""What clients hold, and how it is dealt out to them."""

from utils.data.clinics import make_clinics, organ_system_of, shuffle_clinics, split_by_department
from utils.data.digits import (
    drop_labels,
    keep_labels,
    load_digits,
    missing_digits,
    split_hospitals,
)
from utils.data.diseases import load_diseases
from utils.data.flashcards import load_cards
from utils.data.hearts import load_hearts
from utils.data.patients import DEPARTMENTS, SPECIALTIES, Task, make_rare_diseases, make_triage
from utils.data.quiz import Quiz, make_quiz, shared_parts
from utils.data.tensors import as_tensors, labels_of
from utils.data.voices import load_voices

__all__ = [
    "DEPARTMENTS",
    "SPECIALTIES",
    "Quiz",
    "Task",
    "as_tensors",
    "drop_labels",
    "keep_labels",
    "labels_of",
    "load_cards",
    "load_digits",
    "load_diseases",
    "load_hearts",
    "load_voices",
    "make_clinics",
    "make_quiz",
    "make_rare_diseases",
    "make_triage",
    "missing_digits",
    "organ_system_of",
    "shared_parts",
    "shuffle_clinics",
    "split_by_department",
    "split_hospitals",
]
