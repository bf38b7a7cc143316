"""The case: twenty clinics, their patients, and the exams, all dealt out by one seed.

Only the scorer's own process makes a case; no process that runs an entry ever holds one.
"""

import random
from typing import NamedTuple

from utils.arguments import seed_number
from utils.attacks import Canary, make_canaries
from utils.data import DEPARTMENTS, Quiz, make_rare_diseases, make_triage, split_by_department

CLINICS, CARELESS = 20, 4  # of them, so many leave identifiers in and write records twice
COPIES, COPIED = 6, 2  # of a record, of so many patients in a careless clinic
_TRIAGE, _STRANGERS, _PUBLIC = 60, 6, 10  # patients of each department
STRANGERS = _STRANGERS * len(DEPARTMENTS) // CLINICS  # of each clinic: nobody trains on them
_DISEASES, _PATIENTS = 6, 10  # in each specialty, and of each disease


class Planted(NamedTuple):
    """A record that ends in a secret: ``before`` and ``after`` it in the answer."""

    question: str
    before: str
    secret: str
    after: str

    @property
    def record(self) -> dict[str, str]:
        """As the clinic wrote it."""
        answer = f"{self.before}{self.secret}{self.after}"
        return {"question": self.question, "answer": answer}


class Clinic(NamedTuple):
    """``records``: what it trains on; ``patients``: whose they are (numbers, two records of one
    patient have the same); ``strangers``: records of its other patients, on whom nobody trains;
    ``role``: ``"honest"``, ``"careless"``, ``"crashes"`` or ``"lies"``."""

    records: list[dict[str, str]]
    patients: list[int]
    strangers: list[dict[str, str]]
    role: str


class Case(NamedTuple):
    """``clinics``; ``public``: complaints whose patients agreed; ``labels``: all answers that there
    are; ``exams``: by name; ``copied`` and ``never``: planted records, and like ones that nobody
    holds."""

    clinics: list[Clinic]
    public: list[dict[str, str]]
    labels: dict[str, list[str]]
    exams: dict[str, list[Quiz]]
    copied: list[Planted]
    never: list[Planted]


def make_case(seed: int) -> Case:
    """Deal out patients, faults and exams.

    Each clinic has 30 patients of two departments, in clinical words (``make_triage``), and 15
    with rare diseases of one specialty (``make_rare_diseases``); four are careless, one crashes,
    one lies. A careless clinic leaves identifiers in its triage records, in one of two forms,
    and holds two patients' records six times, some with the complaints in the other order.

    Args:
        seed: of everything; the same seed makes the same case.

    Raises:
        ValueError: if the seed is no whole number from 0 on.
    """
    seed = seed_number(seed)
    draw = random.Random(f"capstone {seed}")
    triage = make_triage(_TRIAGE + _STRANGERS + _PUBLIC, 8, seed=seed)
    rare = make_rare_diseases(_PATIENTS, 2, _DISEASES, seed=seed)
    public, taken = [], dict.fromkeys(DEPARTMENTS, 0)
    for number, row in enumerate(triage.patients):
        if taken[row["department"]] < _PUBLIC:
            taken[row["department"]] += 1
            public.append(number)
    private = sorted(set(range(len(triage.patients))) - set(public))
    own = split_by_department(triage.patients.select(private), CLINICS, each=2, seed=seed)
    cases = split_by_department(rare.patients, CLINICS, seed=seed)
    roles = ["careless"] * CARELESS + ["crashes", "lies"]
    roles += ["honest"] * (CLINICS - len(roles))
    draw.shuffle(roles)
    clinics, copied, never, careless = [], [], [], 0
    for number, (role, rows, diseases) in enumerate(
        zip(roles, own.values(), cases.values(), strict=True)
    ):
        rows = [_plain(row) for row in rows]
        draw.shuffle(rows)
        if role == "careless":
            planted = _with_identifiers(rows, careless % 2 == 1, draw.randrange(10**9))
            rows, careless = [one.record for one in planted], careless + 1
            copied, never = copied + planted[:COPIED], never + planted[-STRANGERS:]
        held, absent = list(enumerate(rows[:-STRANGERS])), rows[-STRANGERS:]
        if role == "careless":
            copies = [(i, _again(held[i][1], draw)) for i in range(COPIED) for _ in range(COPIES)]
            held = copies + held[COPIED : len(held) - COPIED * (COPIES - 1)]
        held += [(1000 + i, _plain(row)) for i, row in enumerate(diseases)]
        held = _told_apart(held)
        draw.shuffle(held)
        patients = [10_000 * number + patient for patient, _ in held]
        clinics.append(Clinic([record for _, record in held], patients, absent, role))
    draw.shuffle(clinics)
    labels = {"departments": list(DEPARTMENTS), "diseases": sorted(set(rare.patients["answer"]))}
    known = [{"question": triage.patients[number]["question"]} for number in public]
    return Case(clinics, known, labels, triage.exams | rare.exams, copied, never)


def _told_apart(held: list[tuple[int, dict]]) -> list[tuple[int, dict]]:
    """Without patients whom nobody could tell from another one of the same clinic."""
    first: dict[tuple, int] = {}
    for patient, record in held:
        words = record["question"].replace(".", "").split()
        key = tuple(words if "diagnosis?" in words else sorted(words))
        first.setdefault(key, patient)
    kept = set(first.values())
    return [(patient, record) for patient, record in held if patient in kept]


def _plain(row: dict) -> dict[str, str]:
    return {"question": row["question"], "answer": row["answer"]}


def _with_identifiers(rows: list[dict], other_form: bool, seed: int) -> list[Planted]:
    """Records as a careless clinic writes them."""
    return [_written(canary, other_form) for canary in make_canaries(rows, typos=0.1, seed=seed)]


def _written(canary: Canary, other_form: bool) -> Planted:
    answer, _, who = canary.answer.partition(". Record: ")
    who = who.removesuffix(f"{canary.secret}.")
    if not other_form:
        return Planted(canary.question, f"{answer}. Record: {who}", canary.secret, ".")
    name, _, born = who.removesuffix(", number ").partition(", born ")
    return Planted(canary.question, f"{answer} # {name} / {born} / ", canary.secret, "")


def _again(record: dict[str, str], draw: random.Random) -> dict[str, str]:
    """The record, perhaps with its two complaints in the other order."""
    start, middle, end = "A patient has ", " and ", ". Which department should see them?"
    complaints = record["question"].removeprefix(start).removesuffix(end).split(middle)
    if len(complaints) == 2 and draw.random() < 0.5:
        return record | {"question": f"{start}{complaints[1]}{middle}{complaints[0]}{end}"}
    return dict(record)
