"""Deal medical cards and patients out to clinics."""

import difflib
import random
import re
from collections.abc import Mapping

from datasets import Dataset, concatenate_datasets

from utils.arguments import seed_number, text, whole_number


class Clinics(dict):
    """Each clinic's cards by its name; a name that there is not is answered with a sentence."""

    def __missing__(self, name: object) -> Dataset:
        near = difflib.get_close_matches(str(name), list(self), n=3, cutoff=0.3)
        raise ValueError(
            f"there is no clinic {name!r}; names like it: {', '.join(near) or 'none'}. All "
            f"{len(self)}: list(clinics)"
        )


def make_clinics(cards: Dataset, count: int = 20, *, seed: int = 0) -> dict[str, Dataset]:
    """Clinics by organ system; every card belongs to exactly one.

    Organ systems with less than half a clinic's fair share of the cards are joined, smallest
    first. Then whoever has most cards is split, until there are ``count`` clinics.

    Args:
        cards: a Dataset with a column ``organ_system``.
        count: of clinics, at least 1.
        seed: of the order in which cards are dealt.

    Returns:
        Each clinic's cards by its name, e.g. ``"limbs 1"`` or ``"breast, growth, voice"``,
        the largest organ systems first.

    Raises:
        ValueError: if there are fewer cards than clinics, or no organ systems.
    """
    if not isinstance(cards, Dataset) or "organ_system" not in cards.column_names:
        found = cards.column_names if isinstance(cards, Dataset) else type(cards).__name__
        raise ValueError(
            f"cards is {found}; clinics are made by organ system, so a Dataset with a column "
            "'organ_system' is needed, such as load_cards()['train']"
        )
    count = whole_number(f"count of clinics for {len(cards)} cards", count, 1, len(cards))
    seed = seed_number(seed)
    by_system: dict[str, list[int]] = {}
    for index, system in enumerate(cards["organ_system"]):
        if not isinstance(system, str):
            raise ValueError(f"card {index} has {system!r} as its organ_system; it must be text")
        by_system.setdefault(system, []).append(index)
    groups = sorted(((system,), indices) for system, indices in by_system.items())
    groups.sort(key=lambda group: -len(group[1]))
    too_small = len(cards) / count / 2
    while len(groups) > count or (len(groups) > 1 and len(groups[-1][1]) < too_small):
        (names, indices), (more_names, more) = groups.pop(), groups.pop()
        groups.append((tuple(sorted(names + more_names)), indices + more))
        groups.sort(key=lambda group: -len(group[1]))
    parts = [1] * len(groups)
    while sum(parts) < count:
        fullest = max(range(len(groups)), key=lambda i: len(groups[i][1]) / parts[i])
        parts[fullest] += 1
    draw, clinics = random.Random(seed), Clinics()
    for (names, indices), into in zip(groups, parts, strict=True):
        order = draw.sample(indices, len(indices))
        for part in range(into):
            name = ", ".join(names) + (f" {part + 1}" if into > 1 else "")
            clinics[name] = cards.select(order[part::into])
    return clinics


def split_by_department(
    patients: Dataset, count: int = 20, *, each: int = 1, seed: int = 0
) -> dict[str, Dataset]:
    """Clinics that each see the patients of few departments.

    With ``each=1`` the clinics take the departments in turn. With more, a clinic's departments
    are neighbours in the list of departments at first, and further apart with every time
    around, so that all meet. A department's patients are dealt out evenly to those who have it.

    Args:
        patients: a Dataset with a column ``department``.
        count: of clinics; a multiple of the number of departments.
        each: departments of a clinic.
        seed: of the order in which patients are dealt.

    Returns:
        Each clinic's patients by its name, e.g. ``"cardiology 1"``, or with
        two departments ``"cardiology, neurology"``.

    Raises:
        ValueError: if the numbers do not fit, or there are no departments.
    """
    if not isinstance(patients, Dataset) or "department" not in patients.column_names:
        found = patients.column_names if isinstance(patients, Dataset) else type(patients).__name__
        raise ValueError(
            f"patients is {found}; a Dataset with a column 'department' is needed, such as "
            "make_triage().patients"
        )
    departments = sorted(set(patients["department"]))
    n = len(departments)
    count = whole_number("count of clinics", count, 1, 100_000)
    seed = seed_number(seed)
    each = whole_number(f"each of {n} departments", each, 1, n)
    times = count // n
    if count % n or (each > 1 and times * (each - 1) >= n):
        raise ValueError(
            f"{count} clinics of {each} departments cannot share {n} departments evenly; take "
            f"a multiple of {n}" + (f", below {n * n / (each - 1):g}" if each > 1 else "")
        )
    draw, shares = random.Random(seed), {}
    for department in departments:
        own = [i for i, name in enumerate(patients["department"]) if name == department]
        if len(own) < times * each:
            raise ValueError(
                f"{department} has {len(own)} patients, for {times * each} clinics; make more "
                "patients, or fewer clinics"
            )
        order = draw.sample(own, len(own))
        shares[department] = iter([order[part :: times * each] for part in range(times * each)])
    clinics = Clinics()
    for time in range(times):
        for first in range(n):
            names = [departments[(first + (time + 1) * j) % n] for j in range(each)]
            name = ", ".join(names) + (f" {time + 1}" if each == 1 and times > 1 else "")
            clinics[name] = patients.select([i for own in names for i in next(shares[own])])
    return clinics


def shuffle_clinics(clinics: dict[str, Dataset], *, seed: int = 0) -> dict[str, Dataset]:
    """The same clinics with the same numbers of cards, dealt at random: IID.

    Args:
        clinics: from ``make_clinics``.
        seed: of the order.

    Raises:
        ValueError: if there are none, or they hold no Datasets.
    """
    wrong = not isinstance(clinics, Mapping) or not clinics
    if wrong or not all(isinstance(cards, Dataset) for cards in clinics.values()):
        raise ValueError("clinics must be Datasets by name, at least one, as from make_clinics")
    seed = seed_number(seed)
    everything = concatenate_datasets(list(clinics.values())).shuffle(seed=seed)
    shuffled, start = Clinics(), 0
    for number, cards in enumerate(clinics.values(), 1):
        shuffled[f"random cards {number}"] = everything.select(range(start, start + len(cards)))
        start += len(cards)
    return shuffled


def organ_system_of(clinic: str) -> str:
    """The name of a clinic without its number: ``"limbs 1"`` → ``"limbs"``.

    Raises:
        ValueError: if it is no text.
    """
    return re.sub(r" \d+$", "", text("clinic", clinic))
