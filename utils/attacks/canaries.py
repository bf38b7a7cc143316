"""Canaries: made-up patients, planted among the cards to measure what a model remembers.

A canary's secret, its record number, is drawn at random from a space of known size, so it is
known how likely a guess would be right (Carlini et al. 2019, arXiv:1802.08232).
"""

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from faker import Faker

from utils.llm.model import LLM
from utils.llm.training import tokenize

DIGITS = 6  # of a record number
SECRETS = 10**DIGITS  # so many record numbers are equally likely: log2 of it is 19.93 bits
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
    """A patient who does not exist; ``answer`` ends in ``secret``, six digits and a full stop.

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
    if not 1 <= count <= _MOST or not copies or min(copies) < 0:
        raise ValueError(
            f"count={count}, copies={tuple(copies)}: count can be 1 to {_MOST}, and at least one "
            "number of copies is needed, none below 0"
        )
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
    return [canary.card for canary in canaries for _ in range(canary.copies)]


def secret_position(llm: LLM, canary: Canary) -> int:
    """How many of the answer's tokens stand before the secret's, of which there are six.

    Raises:
        ValueError: if the tokenizer does not split a number into one token a digit.
    """
    before = canary.answer[: canary.answer.rindex(canary.secret)]
    encode = lambda text: llm.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    (card,), prefix = tokenize(llm, [canary.card]), encode(before)
    digits = [token for digit in canary.secret for token in encode(digit)]
    expected = [*prefix, *digits]
    if len(digits) != DIGITS or card.ids[card.answer_start :][: len(expected)] != expected:
        raise ValueError(
            f"the tokenizer of '{llm.name}' does not split {canary.secret} into six tokens of "
            "their own, so record numbers cannot be compared token by token; take a model that "
            "splits digits (SmolLM2, Llama 2, Gemma)"
        )
    return len(prefix)
