"""Checks of the exercises in L5."""

import math

import numpy as np

from utils.lesson import exercise
from utils.randomness import random_stream


@exercise(
    "With 50 Mbit/s down and 2 up, 96% of the time is the way up: each bit saved there is worth"
    " 25 saved on the way down.",
    hints=[
        (
            "Seconds are bits over bits a second. Do one direction first; how many bits does the "
            "server send?"
        ),
        (
            "Each direction has its own bits and its own speed, and a Mbit is a million bits. The"
            " two come one after the other."
        ),
    ],
)
def check_bill(function):
    """Exercise 1."""
    for case in ((101_770, 32, 32, 50.0, 2.0), (1_000_000, 2, 1, 100.0, 20.0)):
        parameters, bits_down, bits_up, speed_down, speed_up = case
        down, up = (parameters * bits_down / speed_down, parameters * bits_up / speed_up)
        expected, answer = (down + up) / 1e6, function(*case)
        if math.isclose(answer, expected, rel_tol=1e-6):
            continue
        hints = {
            8: "The numbers are given in bits already: nothing to multiply by 8.",
            1 / 8: "Speeds are in bits, and so are the sizes: nothing to divide by 8.",
            1e6: "A Mbit/s is 10^6 bits a second.",
            max(down, up) / (down + up): "The two directions come one after the other: add them.",
        }
        for factor, hint in hints.items():
            if math.isclose(answer, factor * expected, rel_tol=1e-6):
                return hint
        crossed = (parameters * bits_down / speed_up + parameters * bits_up / speed_down) / 1e6
        if math.isclose(answer, crossed, rel_tol=1e-6):
            return "Which speed goes with which direction? What the server sends goes down."
        return f"For {case}, expected {expected:.4g} seconds, got {answer:.4g}."
    return None


@exercise(
    "It costs a random number for each value, and buys errors that cancel over clients.",
    hints=[
        (
            "np.floor gives the lower neighbour. With which probability must 2.3 become 3, so "
            "that the mean is 2.3?"
        ),
        (
            "The chance of going up is the distance from the lower neighbour. Draw one number "
            "from 0 to 1 for each value, not one for all."
        ),
        (
            "Add a random number from 0 to 1 *before* you round down: then it goes up exactly as "
            "often as it should."
        ),
    ],
)
def check_rounding(function):
    """Exercise 2: 20,000 roundings; a right answer fails once in a million times."""
    values = np.array([0.3, 0.3, -0.3, 2.5, -7.9, 4.0, 0.0])
    with random_stream("rounding exercise"):
        rounded = np.array([function(values.copy()) for _ in range(20_000)], dtype=float)
    if rounded.shape != (20_000, 7):
        return f"Return as many numbers as there are values: 7, not {rounded.shape[1:]}."
    if not np.array_equal(rounded, np.round(rounded)):
        return "The results should be integers."
    far = np.abs(rounded - values).max(axis=0) >= 1
    if far.any():
        return f"{values[far][0]} is rounded to something that is not one of its neighbours."
    if (rounded.std(axis=0)[:5] == 0).any():
        return "The same number always rounds the same way; make it random."
    if np.array_equal(rounded[:, 0], rounded[:, 1]):
        return "All values share one draw, so their errors add up; draw one number for each value."
    bias = np.abs(rounded.mean(axis=0) - values)
    if bias.max() > 5 * 0.5 / math.sqrt(20_000):
        worst = values[bias.argmax()]
        return (
            f"{worst} rounds to {rounded.mean(axis=0)[bias.argmax()]:.3f} on average; "
            "the chance of going up should be the distance from the lower neighbour."
        )
    return None


@exercise(
    "Nothing is ever lost: what was sent and the memory always add up to all updates.",
    hints=[
        (
            "What should have been sent is update plus memory. Of this vector, which k numbers "
            "are largest in absolute value?"
        ),
        (
            "np.argsort sorts from small to large and gives positions. Copy the numbers at the "
            "last k of these into a vector of zeros."
        ),
        ("What is remembered is the difference between what should have been sent and what was."),
    ],
)
def check_top_k(function):
    """Of the notebook on codecs: five rounds."""
    random = np.random.default_rng(0)
    memory, total_sent, total = np.zeros(20), np.zeros(20), np.zeros(20)
    for round_ in range(1, 6):
        update = random.normal(size=20)
        before = update.copy(), memory.copy()
        answer = function(update, memory, 3)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            return "Return two vectors: what is sent, and the new memory."
        if not (np.array_equal(update, before[0]) and np.array_equal(memory, before[1])):
            return "Your function changed the arrays that it was given; make new ones."
        sent, memory = answer
        if np.shape(sent) != (20,) or np.shape(memory) != (20,):
            return "Both vectors have the length of the update; what is not sent is a zero."
        if np.count_nonzero(sent) != 3:
            return f"3 numbers should be sent, not {np.count_nonzero(sent)}."
        total_sent, total = total_sent + sent, total + update
        if not np.allclose(total_sent + memory, total):
            return f"Round {round_}: what was sent and the memory do not add up to the updates."
        largest = np.sort(np.abs(before[0] + before[1]))[-3:]
        if not np.allclose(np.sort(np.abs(sent[sent != 0])), largest):
            return (
                f"Round {round_}: the largest of update + memory are {largest.round(2)}; "
                f"you send {sent[sent != 0].round(2)}."
            )
    return None


@exercise(
    "Where half of the clients are asked, changes save half at the very best, however few bits "
    "they have.",
    hints=[
        "What is the chance that a client of this round's cohort was in the last round's, too?",
        (
            "The first round is dear for all. In each later one, an expected part of the cohort "
            "gets changes, and the rest whole models."
        ),
    ],
)
def check_megabytes_down(function):
    """Of the notebook on the way down."""
    for settings in ((10, 10, 10, 0.4, 0.02), (10, 5, 12, 0.4, 0.02), (1000, 50, 3, 6.6, 0.2)):
        clients, cohort, rounds, whole, change = settings
        answer = function(*settings)
        if not isinstance(answer, int | float) or isinstance(answer, bool):
            return f"Return a number; you return {type(answer).__name__}."
        again, later = cohort / clients, rounds - 1
        mixed = again * change + (1 - again) * whole  # one message of a later round, expected
        swapped = again * whole + (1 - again) * change
        right = cohort * (whole + later * mixed)
        if math.isclose(answer, right, rel_tol=1e-6):
            continue
        hints = {
            "In the first round nobody holds a model: all are sent the whole one.": (
                cohort * rounds * mixed
            ),
            "Who missed the last round has no model that the change could be added to.": (
                cohort * (whole + later * change)
            ),
            "Who took part in the last round gets the change, and the others the model.": (
                cohort * (whole + later * swapped)
            ),
            "Each client of the cohort gets a message.": right / cohort,
        }
        for hint, wrong in hints.items():
            if math.isclose(answer, wrong, rel_tol=1e-6):
                return hint
        return (
            f"{cohort} of {clients} clients, {rounds} rounds, {whole} MB whole, {change} MB "
            f"change: expected {right:.2f} MB, got {answer:.2f}."
        )
    return None
