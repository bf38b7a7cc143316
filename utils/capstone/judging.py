"""What an entry's model is worth, and what it gives away.

Everything here asks the entry's own ``losses``, or its ClientApp, without ever telling it a
right answer. An attack is a lower bound: what it does not find may still be there. Only ε is a
promise.
"""

import json
import math
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from flwr.app import RecordDict
from sklearn.metrics import roc_auc_score

from utils.capstone.case import Planted
from utils.capstone.contract import Question
from utils.capstone.frames import packed
from utils.capstone.network import Exchange, Network
from utils.capstone.rooms import EntryError
from utils.federation.records import as_record

MEMBERS = 3  # patients of a clinic that are looked for, and as many strangers
NUMBERS = 128  # that a planted record's own is ranked among: log2 of it, 7 bits, at most
_AT_ONCE = 16  # questions of a call
_DEADLINE = 120


class Judgement(NamedTuple):
    """``exams``: shares right, by name; ``copied``, ``never``: mean exposure in bits of records
    that stood six times in a clinic, and of like ones that nobody held; ``outsider``,
    ``server``: AUC with which members are told from strangers, by who has the model, and by who
    sees each clinic's first reply."""

    exams: dict[str, float]
    copied: float
    never: float
    outsider: float
    server: float


def judge(network: Network, arrays: RecordDict) -> Judgement:
    """Examine and attack the model that an entry's server has left.

    Args:
        network: over which it was trained.
        arrays: the model, under ``"arrays"``.

    Raises:
        EntryError: if ``losses`` fails, or does not answer each option with a finite number.
        RefusedError: if it does what no entry may do.
    """
    case = network.case
    exams = {}
    for name, quiz in case.exams.items():
        found = _losses(network, arrays, [(q.question, list(q.options)) for q in quiz])
        right = [int(np.argmin(row)) == q.right for row, q in zip(found, quiz, strict=True)]
        exams[name] = float(np.mean(right))
    copied, never = (_exposure(network, arrays, some) for some in (case.copied, case.never))
    before = as_record(next(iter(next(iter(network.exchanges.values())).values())).sent)
    people = _people(network)
    return Judgement(
        exams,
        copied,
        never,
        _auc(_outsider(network, arrays, RecordDict({"arrays": before}), people), people),
        _auc(_curious(network, people), people),
    )


def _losses(network: Network, arrays: RecordDict, questions: Sequence[Question]) -> list:
    """What each option costs the model, in calls that know nothing of each other."""
    data = packed(arrays)

    def answered(some: Sequence[Question]) -> list[list[float]]:
        done = network.rooms.do(
            "losses",
            network.entry,
            _DEADLINE,
            arrays=data,
            questions=list(some),
            run_config=network.run_config,
        )
        rows = json.loads(done.data)
        if [len(row) for row in rows] != [len(options) for _, options in some] or not all(
            math.isfinite(one) for row in rows for one in row
        ):
            raise EntryError(
                "its losses must be one finite number for each option of each question"
            )
        return rows

    parts = [questions[i : i + _AT_ONCE] for i in range(0, len(questions), _AT_ONCE)]
    return [row for rows in _side_by_side(network, answered, parts) for row in rows]


def _side_by_side(network: Network, work: Callable, parts: Sequence) -> list:
    with ThreadPoolExecutor(network.rooms.count) as pool:
        return list(pool.map(work, parts))


def _exposure(network: Network, arrays: RecordDict, planted: Sequence[Planted]) -> float:
    """Mean exposure in bits (Carlini et al. 2019, arXiv:1802.08232), of records as written.

    The true number is ranked among 127 others drawn at random; ties count against it.
    """
    draw, questions = random.Random("exposure"), []
    for one in planted:
        others = draw.sample([n for n in range(10_000) if n != int(one.secret)], NUMBERS - 1)
        numbers = [one.secret, *(f"{n:04d}" for n in others)]
        questions.append((one.question, [f"{one.before}{n}{one.after}" for n in numbers]))
    found = _losses(network, arrays, questions)
    ranks = [sum(loss <= row[0] for loss in row) for row in found]
    return float(np.mean([math.log2(NUMBERS) - math.log2(rank) for rank in ranks]))


class Person(NamedTuple):
    """Somebody whose record the attacker has, and wants to know: was it in this clinic's data?"""

    clinic: int
    record: dict
    member: bool


def _people(network: Network) -> list[Person]:
    """Members and strangers of the clinics that do their work: a random split of each one's
    patients, none of them copied; their records as the entry cleans them."""
    found = []
    for number, clinic in enumerate(network.case.clinics):
        if clinic.role not in ("honest", "careless"):
            continue
        once = [p for p in clinic.patients if clinic.patients.count(p) == 1 and p % 10_000 < 1000]
        members = [clinic.records[clinic.patients.index(p)] for p in once[:MEMBERS]]
        found += [Person(number, record, True) for record in members]
        found += [Person(number, record, False) for record in clinic.strangers[:MEMBERS]]
    if not network.cleans:
        return found
    cleaned = _side_by_side(network, network.cleaned, [one.record for one in found])
    return [
        one._replace(record=record)
        for one, (record, _) in zip(found, cleaned, strict=True)
        if record is not None
    ]


def _auc(scores: np.ndarray, people: Sequence[Person]) -> float:
    is_member = np.array([one.member for one in people])
    return float(roc_auc_score(is_member, scores))


def _outsider(
    network: Network, arrays: RecordDict, before: RecordDict, people: Sequence[Person]
) -> np.ndarray:
    """How much less each record costs than it cost the model that was first sent."""
    asked = [(one.record["question"], [one.record["answer"]]) for one in people]
    start, end = (np.ravel(_losses(network, model, asked)) for model in (before, arrays))
    return start - end


def _curious(network: Network, people: Sequence[Person]) -> np.ndarray:
    """How far a clinic's first reply points to where one record alone would have moved the model.

    The cosine of the two changes, each clinic's own mean over its people taken off.
    """
    first: dict[int, Exchange] = {}
    for of_round in network.exchanges.values():
        first = of_round | first
    jobs = [(one, first.get(one.clinic)) for one in people]
    scores = np.array(_side_by_side(network, lambda job: _likeness(network, *job), jobs))
    for number in first:
        own = np.array([one.clinic == number for one in people])
        scores[own] -= scores[own].mean() if own.any() else 0.0
    return scores


def _likeness(network: Network, one: Person, exchange: Exchange | None) -> float:
    if exchange is None:
        return 0.0  # its clinic never took part
    try:
        alone = network.probe(exchange, one.clinic, one.record)
    except EntryError:
        return 0.0
    names = [n for n in alone if n in exchange.returned and alone[n].size]
    change, trace = (
        np.concatenate([(some[n] - exchange.sent.get(n, 0.0)).ravel() for n in names] or [[0.0]])
        for some in (exchange.returned, alone)
    )
    length = np.linalg.norm(change) * np.linalg.norm(trace)
    return float(change @ trace / length) if length else 0.0
