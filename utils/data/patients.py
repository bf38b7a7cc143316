"""Simulated patients: complaints that need a department, findings that need a diagnosis.

Names, words and frequencies are real (HPO); that a patient has these findings together is not.
Each task has patients to learn from and exams of new ones. A patient is a row with a
``question`` and an ``answer``, as a flashcard is.
"""

import random
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from datasets import Dataset

from utils.arguments import seed_number, whole_number
from utils.data.diseases import load_diseases
from utils.data.flashcards import load_cards
from utils.data.quiz import Quiz, shared_parts

DEPARTMENTS = {  # and the organ system that each looks after
    "neurology": "nervous system",
    "orthopedics": "musculoskeletal system",
    "ophthalmology": "eye",
    "urology": "genitourinary system",
    "cardiology": "cardiovascular system",
    "dermatology": "integument",
    "gastroenterology": "digestive system",
    "pneumology": "respiratory system",
    "endocrinology": "metabolism/homeostasis",
    "otology": "ear",
}
SPECIALTIES = {  # and the organ system in which most findings of its diseases lie
    "neurology": "nervous system",
    "ophthalmology": "eye",
    "cardiology": "cardiovascular system",
    "dermatology": "integument",
    "pneumology": "respiratory system",
}
_FINDINGS = 5  # of a patient with a rare disease


class Task(NamedTuple):
    """``patients``: to learn from, with ``question``, ``answer`` and ``department``;
    ``exams``: questions on new patients, by name."""

    patients: Dataset
    exams: dict[str, list[Quiz]]


def make_triage(per_department: int = 60, exam: int = 16, *, seed: int = 0) -> Task:
    """Which department should see a patient with these two complaints?

    A department's complaints are HPO's terms that lie under its organ system and no other.
    Those to learn from are told in *clinical* words ("scotoma"). New patients do so in the
    exam ``"clinical"``, and in *lay* words ("a blind spot") in the exam ``"lay"``: HPO's
    layperson synonyms, where they share no five letters in a row with the clinical words.
    Whole families of terms (near-duplicates: see ``load_cards``) are kept for the exams: all
    that have a lay name, and half of the others. So no complaint of an exam, nor one like it,
    occurs among the patients to learn from. All departments are options, in one order.

    Args:
        per_department: patients to learn from in each of the ten departments.
        exam: questions on each department, in each exam.
        seed: of who has which complaints; the same seed gives the same patients.

    Raises:
        ValueError: if the numbers are below 1.
    """
    per_department = whole_number("per_department", per_department, 1)
    exam, seed = whole_number("exam", exam, 1), seed_number(seed)
    of_system = {system: name for name, system in DEPARTMENTS.items()}
    terms = []
    for card in (card for split in load_cards().values() for card in split):
        department = of_system.get(card["organ_systems"][0])
        if len(card["organ_systems"]) == 1 and department and "," not in card["term"]:
            terms.append((department, card, _lay_words(card)))
    with_lay_words = {card["family"] for _, card, lay in terms if lay}
    pools: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for department, card, lay in terms:
        kept = card["family"] in with_lay_words or _is_kept(card["family"])
        pools["clinical" if kept else "patients"][department].append(_clinical_words(card))
        if lay:
            pools["lay"][department].append(lay)
    draw, rows, names = random.Random(seed), [], list(DEPARTMENTS)
    exams: dict[str, list[Quiz]] = {"clinical": [], "lay": []}
    for number, department in enumerate(names):
        for two in _pairs(pools["patients"][department], per_department, draw):
            rows.append(
                {"question": _complaint(two), "answer": department, "department": department}
            )
        for name, quiz in exams.items():
            for two in _pairs(pools[name][department], exam, draw):
                quiz.append(Quiz(_complaint(two), names, number, department))
    draw.shuffle(rows)
    return Task(Dataset.from_list(rows), exams)


def _is_kept(family: str) -> bool:
    return zlib.crc32(f"exam {family}".encode()) % 2 == 0


def _clinical_words(card: dict) -> str:
    return card["question"].removeprefix("What is ").removesuffix("?")


def _lay_words(card: dict) -> str:
    """A term's first name that shares nothing with its clinical one; none has commas."""
    own = [card["term"], *card["synonyms"]]
    for text in card["lay_terms"]:
        if "," not in text and not any(shared_parts(text, clinical) for clinical in own):
            return text[0].lower() + text[1:]
    return ""


def _complaint(two: Sequence[str]) -> str:
    return f"A patient has {two[0]} and {two[1]}. Which department should see them?"


def _pairs(pool: list[str], count: int, draw: random.Random) -> Iterator[list[str]]:
    """Pairs of different things; each thing is used once before any is used again."""
    left: list[str] = []
    for _ in range(count):
        if len(left) < 2:
            left = draw.sample(pool, len(pool))
        yield [left.pop(), left.pop()]


def make_rare_diseases(
    per_disease: int = 10, exam: int = 4, diseases: int = 6, *, seed: int = 0
) -> Task:
    """Which of four rare diseases of one specialty has a patient with these five findings?

    Each specialty's diseases are drawn from Orphanet's, as annotated in HPO: those with short
    names, most of whose findings lie in the specialty's organ system, and with enough frequent
    ones. A patient has each finding with its frequency, independently, and tells five of them.
    Findings that share five letters in a row with the disease's name are never told.

    Args:
        per_disease: patients to learn from, of each disease.
        exam: new patients of each disease, in the exam ``"rare"``.
        diseases: in each of the five specialties, at least 4.
        seed: of the diseases, the patients and the options.

    Raises:
        ValueError: if a number is too small, or there are not so many diseases.
    """
    per_disease, exam = whole_number("per_disease", per_disease, 1), whole_number("exam", exam, 1)
    diseases, seed = whole_number("diseases", diseases, 4), seed_number(seed)
    draw, rows, quiz = random.Random(seed), [], []
    for specialty, chosen in _diseases(diseases, draw).items():
        names = [name for name, _ in chosen]
        for name, findings in chosen:
            others = [other for other in names if other != name]
            for number in range(per_disease + exam):
                question = _case(findings, draw)
                if number < per_disease:
                    rows.append({"question": question, "answer": name, "department": specialty})
                    continue
                options = [name, *draw.sample(others, 3)]
                draw.shuffle(options)
                quiz.append(Quiz(question, options, options.index(name), specialty))
    draw.shuffle(rows)
    return Task(Dataset.from_list(rows), {"rare": quiz})


def _diseases(count: int, draw: random.Random) -> dict[str, list[tuple[str, dict[str, float]]]]:
    """By specialty its diseases, each with its findings and their frequencies."""
    fitting: dict[str, list[tuple[str, dict[str, float]]]] = {name: [] for name in SPECIALTIES}
    for disease in load_diseases():
        name = disease["name"]
        if not disease["id"].startswith("ORPHA") or not 1 <= len(name.split()) <= 3:
            continue
        if any(letter.isdigit() for letter in name):
            continue
        findings, weights = {}, defaultdict(float)
        for finding, share, systems in zip(
            disease["findings"], disease["frequencies"], disease["organ_systems"], strict=True
        ):
            if np.isfinite(share) and share > 0 and not shared_parts(name, finding):
                findings[finding] = share
                weights[systems[0]] += share
        if sum(share >= 0.5 for share in findings.values()) < _FINDINGS + 3:
            continue
        for specialty, system in SPECIALTIES.items():
            if weights[system] >= 0.5 * sum(weights.values()):
                fitting[specialty].append((name, findings))
    few = {specialty: len(found) for specialty, found in fitting.items() if len(found) < count}
    if few:
        raise ValueError(f"diseases={count} is too many; the ontology has {few}")
    return {specialty: draw.sample(found, count) for specialty, found in fitting.items()}


def _case(findings: dict[str, float], draw: random.Random) -> str:
    """A patient's question: five of the findings that chance gave this patient."""
    has: list[str] = []
    while len(has) < _FINDINGS:
        has = [finding for finding, share in findings.items() if draw.random() < share]
    told = [text[0].lower() + text[1:] for text in draw.sample(has, _FINDINGS)]
    return f"A patient has {', '.join(told[:-1])} and {told[-1]}. What is the diagnosis?"
