"""A quiz on flashcards: which of four definitions is the right one?"""

import random
import re
from typing import NamedTuple

from datasets import Dataset

from utils.arguments import flag, rows_of, seed_number, whole_number

_CLUE = 5  # so many letters in a row, in question and answer alike, give the answer away


class Quiz(NamedTuple):
    """A multiple-choice question; ``options[right]`` is the right answer.

    ``group``: whose question it is, an organ system or a department.
    """

    question: str
    options: list[str]
    right: int
    group: str


def shared_parts(question: str, answer: str) -> int:
    """How many runs of five letters, within words, occur in both: clues for a guesser.

    Raises:
        ValueError: if one is no text.
    """
    if not isinstance(question, str) or not isinstance(answer, str):
        raise ValueError(f"question and answer must be text; they are {question!r}, {answer!r}")
    question_parts, answer_parts = (
        {
            word[i : i + _CLUE]
            for word in re.findall(r"[a-z]+", text.lower())
            for i in range(len(word) - _CLUE + 1)
        }
        for text in (question, answer)
    )
    return len(question_parts & answer_parts)


def make_quiz(cards: Dataset, count: int, *, clues: bool = False, seed: int = 0) -> list[Quiz]:
    """Pick the right definition of four; the others are of the same organ system and like length.

    The three wrong ones are drawn from the ten of that system whose definitions come nearest
    in length, and which are not of the same family. The more unlike lengths are, the better a
    model could guess without knowing anything. So it could from a definition that repeats a
    word of its term: such cards are neither questions nor options, unless clues are allowed.
    (Were they options, the right one could be told by its style, without the question.)

    Args:
        cards: usually the held-out ones.
        count: of questions, drawn at random without repetition.
        clues: ask also what ``shared_parts`` gives away.
        seed: of the draw; the same seed gives the same quiz.

    Raises:
        ValueError: if there are not so many cards without clues in large enough systems.
    """
    rows = rows_of("cards", cards, "question", "answer", "organ_system", "family")
    count = whole_number(f"count of questions on {len(rows)} cards", count, 1, len(rows))
    clues, seed = flag("clues", clues), seed_number(seed)
    rows = [row for row in rows if clues or not shared_parts(row["question"], row["answer"])]
    by_system: dict[str, list[dict]] = {}
    for row in rows:
        by_system.setdefault(row["organ_system"], []).append(row)
    draw, quiz = random.Random(seed), []
    for card in draw.sample(rows, len(rows)):
        length = len(card["answer"])
        others = [c for c in by_system[card["organ_system"]] if c["family"] != card["family"]]
        nearest = sorted(others, key=lambda c: abs(len(c["answer"]) - length))[:10]
        if len(nearest) < 3:
            continue
        options = [card["answer"], *(c["answer"] for c in draw.sample(nearest, 3))]
        draw.shuffle(options)
        right = options.index(card["answer"])
        quiz.append(Quiz(card["question"], options, right, card["organ_system"]))
        if len(quiz) == count:
            return quiz
    raise ValueError(
        f"only {len(quiz)} of {count} questions could be made: an organ system needs cards of "
        "at least four families, and a definition that does not repeat its term"
    )
