"""Canaries: made-up patients, planted among the cards to measure what a model remembers.

A canary's secret, its record number, is drawn at random from a space of known size, so it is
known how likely a guess would be right (Carlini et al. 2019, arXiv:1802.08232).
"""

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from faker import Faker

from utils.arguments import list_of, seed_number, whole_number
from utils.llm.model import LLM, an_llm
from utils.llm.reading import tokenize

DIGITS = 4  # of a record number: few enough that a model can be asked about every one of them
SECRETS = 10**DIGITS  # so many record numbers are equally likely: log2 of it is 13.29 bits
_MOST = 500  # canaries: Faker's first names run out soon after
_CONDITIONS = (
    "asthma",
    "chronic migraine",
    "coeliac disease",
    "epilepsy",
    "gout",
    "iron deficiency",
    "kidney stones",
    "psoriasis",
    "sleep apnea",
    "type 2 diabetes",
)


class Canary(NamedTuple):
    """A patient who does not exist; ``answer`` ends in ``secret``, four digits and a full stop.

    ``copies``: how many times the card is to be planted.
    """

    name: str
    question: str
    answer: str
    secret: str
    copies: int

    @property
    def card(self) -> dict[str, str]:
        """What can be trained on: ``question`` and ``answer``."""
        return {"question": self.question, "answer": self.answer}


def make_canaries(
    count: int, *, copies: Sequence[int] = (0, 1, 4, 16), seed: int = 0
) -> list[Canary]:
    """Make up patients; no two share a first or a last name.

    Args:
        count: of canaries, 1 to 500.
        copies: dealt evenly, in turn, so that any number of first ones is balanced. Those with
            0 are for comparison: like the others, but never planted.
        seed: the same seed gives the same patients, a larger count adds to them.

    Raises:
        ValueError: if count or copies are out of range.
    """
    count = whole_number("count", count, 1, _MOST)
    copies = [whole_number("copies", n, 0) for n in list_of("copies", copies, "whole numbers")]
    if not copies:
        raise ValueError("copies is empty; at least one number of copies is needed, e.g. (0, 1)")
    seed = seed_number(seed)
    people, draw = Faker("en_US"), random.Random(seed)
    people.seed_instance(seed)
    canaries = []
    for number in range(count):
        name = f"{people.unique.first_name()} {people.unique.last_name()}"
        age, condition = draw.randrange(18, 90), draw.choice(_CONDITIONS)
        secret = f"{draw.randrange(SECRETS):0{DIGITS}d}"
        answer = f"{name} is {age} years old and is treated for {condition}. "
        answer += f"The record number is {secret}."
        question = f"What is the record of {name}?"
        canaries.append(Canary(name, question, answer, secret, copies[number % len(copies)]))
    return canaries


def planted_cards(canaries: Iterable[Canary]) -> list[dict[str, str]]:
    """The canaries' cards, each as often as it is to be planted, to be added to others."""
    return [
        canary.card
        for canary in map(a_canary, list_of("canaries", canaries, "canaries"))
        for _ in range(canary.copies)
    ]


def a_canary(value: object) -> Canary:
    """The value, if it is one.

    Raises:
        ValueError: if not.
    """
    if not isinstance(value, Canary):
        raise ValueError(f"{value!r} is no canary; make_canaries makes them")
    return value


def secret_position(llm: LLM, canary: Canary) -> int:
    """How many of the answer's tokens stand before the secret's, of which there are four.

    Raises:
        ValueError: if the tokenizer does not split a number into one token a digit.
    """
    if a_canary(canary).secret not in canary.answer or not canary.secret:
        raise ValueError(f"the answer {canary.answer!r} does not hold the secret {canary.secret!r}")
    before = canary.answer[: canary.answer.rindex(canary.secret)]
    prefix, *digits = an_llm(llm).text_ids([before, *canary.secret])
    (card,), digits = tokenize(llm, [canary.card]), [token for ids in digits for token in ids]
    expected = [*prefix, *digits]
    if len(digits) != DIGITS or card.ids[card.answer_start :][: len(expected)] != expected:
        raise ValueError(
            f"the tokenizer of '{llm.name}' does not split {canary.secret} into four tokens of "
            "their own, so record numbers cannot be compared token by token; take a model that "
            "splits digits (SmolLM2, Llama 2, Gemma)"
        )
    return len(prefix)
