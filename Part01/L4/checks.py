"""Checks of the exercises in L4."""

import itertools
import math

import numpy as np

from utils.lesson import exercise
from utils.privacy import epsilon


class _Silent:
    """A generator whose noise is zero."""

    def normal(self, loc=0.0, scale=1.0, size=None):
        return np.random.default_rng(0).normal(loc, 0 * np.asarray(scale), size)


@exercise(
    "Whatever one client sends, it moves this by S / expected at most, and the noise is z times"
    " as large: that is all that the accountant needs to know.",
    hints=[
        (
            "Four steps, in this order: clip each row, add up, noise, divide. Do the first alone "
            "and look at the lengths of the rows."
        ),
        (
            "A row that is longer than max_norm is divided by its length over max_norm, a shorter"
            " one by 1. With a maximum inside, rows of zeros make no trouble."
        ),
        (
            "The noise has standard deviation z times max_norm and one number for each of the "
            "sum's; it comes before the division by `expected`."
        ),
    ],
)
def check_private_mean(function):
    """Exercise 1."""
    random = np.random.default_rng(0)
    updates = random.normal(size=(6, 5)) * np.array([[0.01, 0.1, 1, 10, 1e6, 0]]).T
    before, silent = updates.copy(), _Silent()
    answer = function(updates, 2.0, 1.5, 8, silent)
    if not np.array_equal(updates, before):
        return "Your function changed the updates that it was given; make new ones."
    if np.shape(answer) != (5,):
        return f"Return 5 numbers, one a column; yours has shape {np.shape(answer)}."
    if not np.isfinite(answer).all():
        return "A client whose update is zero makes your answer NaN; its length is 0."
    lengths = np.linalg.norm(updates, axis=1, keepdims=True)
    factors = np.minimum(1, 2.0 / np.where(lengths > 0, lengths, 1))
    right = (updates * factors).sum(axis=0) / 8
    hints = {
        "Divide by the expected number of clients, not by those that came.": right * 8 / 6,
        "Divide the sum by the expected number of clients.": right * 8,
        "Short updates stay as they are: clip down, never scale up.": (
            updates / np.where(lengths > 0, lengths, 1) * 2.0
        ).sum(axis=0)
        / 8,
        "Clip each client's row, not each number.": np.clip(updates, -2, 2).sum(axis=0) / 8,
        "Nothing is clipped.": updates.sum(axis=0) / 8,
    }
    if not np.allclose(answer, right):
        for hint, wrong in hints.items():
            if np.allclose(answer, wrong):
                return hint
        return f"Without noise, expected {right.round(3)}, got {np.round(answer, 3)}."
    noise = np.array([function(before, 2.0, 1.5, 8, random) for _ in range(4000)]) - right
    measured, promised = noise.std(), 1.5 * 2.0 / 8
    quiet = np.array([function(before * 1e-9, 2.0, 1.5, 8, random) for _ in range(1000)])
    if math.isclose(measured, promised, rel_tol=0.03) and quiet.std() < promised / 2:
        return "The noise depends on how long the updates are, which is private; scale it to S."
    if math.isclose(measured, promised, rel_tol=0.03):
        if abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) > 0.1:
            return "All numbers get the same noise; draw one for each."
        return None
    if measured < 1e-9:
        return "There is no noise; use rng.normal."
    if math.isclose(measured, promised * 8, rel_tol=0.03):
        return "The noise goes on the sum, before the division."
    if math.isclose(measured, promised * math.sqrt(6), rel_tol=0.03):
        return "Add the noise once, to the sum, not to each update."
    return f"The noise has standard deviation {measured:.3f}; it should be {promised:.3f}."


@exercise(
    "This is what DPFedAvg asks before every round.",
    hints=[
        "ε grows with every round. So try one round, two, three …, and stop in time.",
        (
            "privacy.epsilon takes z, the sampling rate, the rounds and delta. Ask it about one "
            "round *more* than you have."
        ),
    ],
)
def check_rounds(function):
    """The exercise of L4_more_accounting."""
    for case in ((2.0, 1.0, 0.1, 1e-4), (1.0, 2.0, 0.05, 1e-5), (0.3, 1.0, 0.1, 1e-4)):
        budget, z, rate, delta = case
        answer = function(*case)
        if isinstance(answer, bool) or not isinstance(answer, int | np.integer) or answer < 0:
            return f"Return a whole number of rounds, at least 0; you return {answer!r}."
        if answer and epsilon(z, rate, int(answer), delta) > budget:
            return f"{answer} rounds spend more than {budget}; stop before the budget is passed."
        if epsilon(z, rate, int(answer) + 1, delta) <= budget:
            return f"For {case}: after {answer} rounds, one more would still fit."
    return None


@exercise(
    "Each mask alone is pure noise, and together they are nothing.",
    hints=[
        "Go through all other clients, and add up one mask for each.",
        (
            "Of each pair, one must add and the other subtract. What do both know that decides "
            "who does which, without talking?"
        ),
        (
            "The smaller number adds, the larger one adds the mask with a minus sign. Start from "
            "an unsigned zero of 32 bits."
        ),
    ],
)
def check_masks(function):
    """Exercise 2."""
    clients = [3, 7, 11, 20]
    pairs, used, asking = {}, set(), []

    def pair_mask(one, other):
        used.add(frozenset((one, other)))
        if asking and asking[0] not in (one, other):
            raise ValueError(f"client {asking[0]} cannot know the mask of {one} and {other}")
        if one == other:
            raise ValueError(f"client {one} has no mask with itself; leave it out")
        key = min(one, other), max(one, other)
        return np.random.default_rng(key).integers(0, 2**32, 50, dtype=np.uint32)

    for pair in itertools.combinations(clients, 2):
        pairs[pair] = pair_mask(*pair)
    used.clear()
    masks = []
    try:
        for client in clients:
            asking[:] = [client]
            masks.append(np.asarray(function(client, clients, pair_mask)))
    except ValueError as error:
        return f"{error}."
    for client, mask in zip(clients, masks, strict=True):
        if mask.dtype != np.uint32 or mask.shape != (50,):
            return f"Client {client}: expected 50 numbers of uint32, got {mask.shape} {mask.dtype}."
        if not mask.any():
            return f"Client {client}'s mask is all zeros: it hides nothing."
    if len(used) < len(pairs):
        return "Every pair of clients needs a mask, so that a few cannot unmask another."
    if sum(masks[1:], masks[0]).any():
        return "They do not add up to zero: of each pair, one adds the mask, the other subtracts."
    return None


@exercise(
    "At ε = 1 and δ = 0, of a hundred members not even three can be found while one stranger in"
    " a hundred is accused; at ε = 10 the bound says next to nothing.",
    hints=[
        (
            "The definition of (ε, δ) bounds the chance of an event with a member by that "
            "without: put 'is accused' for the event."
        ),
        (
            "It holds for 'is not accused', too: strangers who are spared are at most e^ε times "
            "the members who are missed, plus δ."
        ),
        (
            "That gives two upper limits, and a third: not more than all. The smallest of the "
            "three counts."
        ),
    ],
)
def check_most_found(function):
    """The exercise of L4_more_audit."""
    cases = [
        (1.0, 0.0, 0.01),
        (2.0, 1e-4, 0.01),
        (3.0, 1e-5, 0.5),
        (0.0, 0.0, 0.3),
        (20, 0.0, 0.01),
    ]
    for epsilon_, delta, fpr in cases:
        answer = function(epsilon_, delta, fpr)
        one_way = math.exp(epsilon_) * fpr + delta
        other_way = 1 - (1 - fpr - delta) / math.exp(epsilon_)
        right = min(1.0, one_way, other_way)
        try:
            if math.isclose(answer, right, rel_tol=1e-6):
                continue
        except TypeError:
            return f"Return one number; you return {answer!r}."
        case = f"ε = {epsilon_}, δ = {delta}, FPR = {fpr}"
        if answer > 1:
            return f"For {case} you find {answer:.3g} of the members; more than all cannot be."
        if math.isclose(answer, min(1.0, one_way), rel_tol=1e-6):
            return (
                f"For {case}: the bound holds the other way round, too: strangers who are *not* "
                "accused are at most e^ε times the members who are not found, plus δ."
            )
        if math.isclose(answer, min(1.0, one_way - delta), rel_tol=1e-6):
            return f"For {case}: δ is missing."
        return f"For {case}: expected {right:.4f}, got {answer:.4f}."
    return None
