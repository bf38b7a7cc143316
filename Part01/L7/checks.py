"""Checks of the exercises in L7."""

import numpy as np

from utils.lesson import exercise


@exercise(
    "Each weight is judged on its own, so the result is a model that no client has sent. "
    "Whoever stays inside the range of the others is never cut.",
    hints=[
        "Each weight is a column. Sort every column on its own, whoever the values came from.",
        (
            "How many are cut at each end? beta times the clients, rounded down. If that is 0, "
            "nothing is cut."
        ),
        ("Beware of slices that end at minus 0; count the end from the number of clients instead."),
    ],
)
def check_trimmed_mean(function):
    """Exercise 1."""
    random = np.random.default_rng(0)
    for n, beta in ((10, 0.2), (7, 0.3), (5, 0.0)):
        updates = random.normal(size=(n, 4)) * random.exponential(size=(n, 1))
        updates[0] *= 100
        before = updates.copy()
        answer = function(updates, beta)
        if not np.array_equal(updates, before):
            return "Your function changed the updates that it was given; make new ones."
        if np.shape(answer) != (4,):
            return f"Return 4 numbers, one for each weight; yours has shape {np.shape(answer)}."
        cut, by_weight = int(beta * n), np.sort(updates, axis=0)
        right = by_weight[cut : n - cut].mean(axis=0)
        if np.allclose(answer, right):
            continue
        by_length = updates[np.argsort(np.linalg.norm(updates, axis=1))]
        up = -int(-beta * n // 1)
        hints = {
            "Cut at both ends: a liar may be too low as well as too high.": by_weight[: n - cut],
            "Cut at both ends: the lowest values are cut, the highest are still in.": (
                by_weight[cut:]
            ),
            "Each weight is sorted on its own, not whole clients: sort along axis 0.": (
                by_length[cut : n - cut]
            ),
            "beta is cut from each end, not from both together.": (
                by_weight[cut // 2 : n - cut // 2]
            ),
            f"Round down: {beta:g} of {n} clients is {cut}.": by_weight[up : n - up],
            "Nothing is trimmed.": updates,
        }
        for hint, kept in hints.items():
            if len(kept) and np.allclose(answer, kept.mean(axis=0)):
                return hint
        if np.allclose(answer, np.median(updates, axis=0)):
            return "That is the median, which trims all but the middle; trim beta at each end."
        return f"For {n} clients and beta={beta:g}, expected {right.round(3)}, got {answer}."
    return None


@exercise(
    "Four liars who send the same update are each other's nearest neighbours: three of the "
    "distances that count for them are 0.",
    hints=[
        (
            "Make the matrix of all squared distances first: updates[:, None] - updates[None] has"
            " all differences."
        ),
        (
            "Sort each row. Its first entry is the client's distance to itself, 0: that is no "
            "neighbour."
        ),
        "Add up the n - f - 2 entries that follow the first.",
    ],
)
def check_krum_scores(function):
    """Exercise 2."""
    random = np.random.default_rng(1)
    for n, f in ((9, 2), (6, 1)):
        updates = random.normal(size=(n, 3)) + 0.5
        updates[-1] *= -20
        before = updates.copy()
        answer = function(updates, f)
        if not np.array_equal(updates, before):
            return "Your function changed the updates that it was given; make new ones."
        if np.shape(answer) != (n,):
            return f"Return {n} scores, one a client; yours has shape {np.shape(answer)}."
        squares = np.square(updates[:, None] - updates[None]).sum(axis=2)
        near, m = np.sort(squares, axis=1), n - f - 2
        right = near[:, 1 : m + 1].sum(axis=1)
        if np.allclose(answer, right):
            continue
        hints = {
            "A client is no neighbour of itself: leave out the distance 0.": near[:, :m],
            "Square the distances.": np.sqrt(near[:, 1 : m + 1]),
            "Count the n - f - 2 nearest others, not n - f of them.": near[:, 1 : n - f + 1],
            "Count the n - f - 2 nearest others, not n - f - 1.": near[:, 1 : m + 2],
            "Count the nearest others only: if all count, a liar far away moves every score.": near,
        }
        for hint, counted in hints.items():
            if np.allclose(answer, counted.sum(axis=1)):
                return hint
        if np.allclose(answer, right / m):
            return "Add the squared distances up; Krum takes no mean."
        if np.argmax(right) == np.argmin(answer):
            return "The lowest score is the best: the liar far away should score highest."
        return f"For {n} clients and f={f}, expected {right.round(2)}, got {np.round(answer, 2)}."
    return None


@exercise(
    "These are promises about clients that draw from one pot. Among unlike clients even the "
    "honest ones look like liars, and no count of heads repairs that.",
    hints=[
        (
            "Take the rule's condition from the table, n at least so many f and a bit, and solve "
            "it for f."
        ),
        (
            "Liars are whole, so round down; and with few clients the result may fall below the "
            "least there can be."
        ),
        "An average has no condition to solve: one liar suffices.",
    ],
)
def check_tolerated_liars(function):
    """Exercise 3."""
    needs = {"FedAvg": None, "FedMedian": (2, 1), "Krum": (2, 3), "Bulyan": (4, 3)}
    for n in (1, 2, 3, 7, 10, 11, 20, 23):
        for rule, need in needs.items():
            right = 0 if need is None else max(0, (n - need[1]) // need[0])
            answer = function(rule, n)
            if isinstance(answer, bool) or not isinstance(answer, int | np.integer):
                return f"Return a whole number of liars; for {rule} you return {answer!r}."
            if answer == right:
                continue
            if need is None:
                return "An average tolerates nobody: one liar who is loud enough ruins it."
            if answer < 0:
                return f"{rule} among {n}: {answer} liars cannot be; the least is 0."
            bound = f"{rule} needs n >= {need[0]}f + {need[1]}"
            if answer > right:
                return f"{bound}: with n = {n}, f = {answer} is too many."
            return f"{bound}: with n = {n}, one more than {answer} would still do."
    return None
