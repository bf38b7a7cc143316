"""Deal medical cards out to clinics."""

import random
import re

from datasets import Dataset, concatenate_datasets


def make_clinics(cards: Dataset, count: int = 20, *, seed: int = 0) -> dict[str, Dataset]:
    """Clinics by organ system; every card belongs to exactly one.

    Organ systems with less than half a clinic's fair share of the cards are joined, smallest
    first. Then whoever has most cards is split, until there are ``count`` clinics.

    Args:
        cards: with an ``organ_system``.
        count: of clinics, at least 1.
        seed: of the order in which cards are dealt.

    Returns:
        Each clinic's cards by its name, e.g. ``"limbs 1"`` or ``"breast, growth, voice"``,
        the largest organ systems first.

    Raises:
        ValueError: if there are fewer cards than clinics.
    """
    if not 1 <= count <= len(cards):
        raise ValueError(f"count is {count}; with {len(cards)} cards it can be 1 to {len(cards)}")
    by_system: dict[str, list[int]] = {}
    for index, system in enumerate(cards["organ_system"]):
        by_system.setdefault(system, []).append(index)
    groups = sorted(((system,), own) for system, own in by_system.items())
    groups.sort(key=lambda group: -len(group[1]))
    too_small = len(cards) / count / 2
    while len(groups) > count or (len(groups) > 1 and len(groups[-1][1]) < too_small):
        (names, own), (more_names, more) = groups.pop(), groups.pop()
        groups.append((tuple(sorted(names + more_names)), own + more))
        groups.sort(key=lambda group: -len(group[1]))
    parts = [1] * len(groups)
    while sum(parts) < count:
        fullest = max(range(len(groups)), key=lambda i: len(groups[i][1]) / parts[i])
        parts[fullest] += 1
    draw, clinics = random.Random(seed), {}
    for (names, own), into in zip(groups, parts, strict=True):
        order = draw.sample(own, len(own))
        for part in range(into):
            name = ", ".join(names) + (f" {part + 1}" if into > 1 else "")
            clinics[name] = cards.select(order[part::into])
    return clinics


def shuffle_clinics(clinics: dict[str, Dataset], *, seed: int = 0) -> dict[str, Dataset]:
    """The same clinics with the same numbers of cards, dealt at random: IID.

    Args:
        clinics: from ``make_clinics``.
        seed: of the order.
    """
    everything = concatenate_datasets(list(clinics.values())).shuffle(seed=seed)
    shuffled, start = {}, 0
    for number, own in enumerate(clinics.values(), 1):
        shuffled[f"random cards {number}"] = everything.select(range(start, start + len(own)))
        start += len(own)
    return shuffled


def organ_system_of(clinic: str) -> str:
    """The name of a clinic without its number: ``"limbs 1"`` → ``"limbs"``."""
    return re.sub(r" \d+$", "", clinic)
