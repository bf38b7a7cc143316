"""Canaries: patients' records that end in a secret, planted to measure what a model remembers.

A record's secret, its number, is drawn at random from a space of known size, so it is known how
likely a guess would be right (Carlini et al. 2019, arXiv:1802.08232).
"""

import datetime
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from datasets import Dataset
from faker import Faker

from utils.arguments import flag, list_of, number, rows_of, seed_number, whole_number
from utils.data import split_by_department
from utils.llm.model import LLM, an_llm
from utils.llm.reading import tokenize

DIGITS = 4  # of a record number: few enough that a model can be asked about every one of them
SECRETS = 10**DIGITS  # so many record numbers are equally likely: log2 of it is 13.29 bits
_FIRST_BIRTHDAY, _DAYS = datetime.date(1930, 1, 1), 80 * 365


class Canary(NamedTuple):
    """A patient's record: what was asked, and an answer that ends in who it was about.

    ``answer`` holds the ``name`` (or a misspelt one), the day of birth, and last the ``secret``,
    four digits and a full stop.
    """

    name: str
    question: str
    answer: str
    secret: str

    @property
    def card(self) -> dict[str, str]:
        """What can be trained on: ``question`` and ``answer``."""
        return {"question": self.question, "answer": self.answer}


def make_canaries(patients: Iterable[dict], *, typos: float = 0.0, seed: int = 0) -> list[Canary]:
    """Give each patient a name, a day of birth and a number, all made up, at the answer's end.

    Args:
        patients: with ``question`` and ``answer``, such as ``make_triage().patients``.
        typos: the chance that a record misspells the last name: two letters in the wrong order.
            ``name`` is right, as in the hospital's register.
        seed: of the identities; the same seed gives the first patients the same ones.

    Raises:
        ValueError: if there are no patients, or the seed is none.
    """
    rows = rows_of("patients", patients, "question", "answer")
    typos, seed = number("typos", typos, least=0, most=1), seed_number(seed)
    people, draw = Faker("en_US"), random.Random(seed)
    people.seed_instance(seed)
    canaries = []
    for row in rows:
        name = f"{people.first_name()} {people.last_name()}"
        born = _FIRST_BIRTHDAY + datetime.timedelta(days=draw.randrange(_DAYS))
        secret = f"{draw.randrange(SECRETS):0{DIGITS}d}"
        written = _misspelt(name, draw) if draw.random() < typos else name
        answer = f"{row['answer']}. Record: {written}, born {born.day} {born:%B} {born.year}, "
        canaries.append(Canary(name, row["question"], f"{answer}number {secret}.", secret))
    return canaries


def _misspelt(name: str, draw: random.Random) -> str:
    """Two different neighbours in the last name change places, after its first letter if it can."""
    start = name.rindex(" ") + 1
    places = [i for i in range(start, len(name) - 1) if name[i] != name[i + 1]]
    i = draw.choice(places[1:] or places)
    return f"{name[:i]}{name[i + 1]}{name[i]}{name[i + 2 :]}"


class Planted(NamedTuple):
    """``clinics``: each one's records by its name, copies among them; ``strangers``: records of
    the same clinics' other patients, which are not to be trained on; ``by_copies``: from a number
    of copies to the patients whose records stand so often in all."""

    clinics: dict[str, list[Canary]]
    strangers: list[Canary]
    by_copies: dict[int, list[Canary]]

    @property
    def records(self) -> list[Canary]:
        """All clinics' records, copies among them."""
        return [record for own in self.clinics.values() for record in own]

    @property
    def members(self) -> list[Canary]:
        """The different patients among them."""
        return list(dict.fromkeys(self.records))


def plant(
    patients: Dataset,
    count: int = 20,
    *,
    each: int = 6,
    copies: Sequence[int] = (6, 1, 3, 1, 1),
    spread: bool = False,
    typos: float = 0.1,
    seed: int = 0,
) -> Planted:
    """Deal patients out to clinics of the same size, some patients' records several times.

    Copies take other patients' places, so no clinic becomes larger by them. Whose record is
    copied, who is a member and who a stranger, are random splits.

    Args:
        patients: with ``question``, ``answer`` and ``department``, at least ``each`` a clinic.
        count: of clinics, a multiple of the number of departments.
        each: records of a clinic, copies among them.
        copies: how often the first patient's record stands, by clinic, in turn; 1 to ``each``,
            and no more than there are clinics.
        spread: give the copies to as many clinics in turn, one each, in place of one clinic.
        typos: as in ``make_canaries``.
        seed: of the deal and of the identities.

    Raises:
        ValueError: if the numbers do not fit.
    """
    each = whole_number("each", each, 1)
    most = min(each, whole_number("count", count, 1))  # so there is room wherever they are put
    copies = [
        whole_number("copies", n, 1, most) for n in list_of("copies", copies, "whole numbers")
    ]
    if not copies:
        raise ValueError("copies is empty; at least one number of copies is needed, e.g. (6, 1)")
    spread, seed = flag("spread", spread), whole_number("seed", seed, 0, 10**9)
    dealt = split_by_department(patients, count, seed=seed)
    least = min(len(own) for own in dealt.values())
    whole_number(f"each, with {least} patients in a clinic,", each, 1, least)
    own = {
        name: make_canaries(rows, typos=typos, seed=1000 * seed + k)
        for k, (name, rows) in enumerate(dealt.items())
    }
    names, by_copies = list(own), {n: [] for n in sorted(set(copies), reverse=True)}
    clinics = {name: own[name][:each] for name in names}
    for k, name in enumerate(names):
        by_copies[copies[k % len(copies)]].append(own[name][0])
    taken = dict.fromkeys(names, 0)  # places at the clinics' ends that copies have
    for k, name in enumerate(names):
        for copy in range(1, copies[k % len(copies)]):
            at = names[(k + copy) % count] if spread else name
            taken[at] += 1
            clinics[at][-taken[at]] = own[name][0]
    strangers = [record for name in names for record in own[name][each:]]
    return Planted(clinics, strangers, by_copies)


def a_canary(value: object) -> Canary:
    """The value, if it is one.

    Raises:
        ValueError: if not.
    """
    if not isinstance(value, Canary):
        raise ValueError(f"{value!r} is no canary; make_canaries and plant make them")
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
