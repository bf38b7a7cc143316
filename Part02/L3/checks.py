"""Checks of the exercises in L3."""

import math

import torch

from utils.lesson import exercise
from utils.randomness import random_stream


@exercise(
    "Twenty clinics with rank 8 would need rank 160: exact, but no longer small.",
    hints=[
        (
            "Two clinics: B1·A1 + B2·A2 is one product of wider and taller matrices. Which way do"
            " they stand beside one another?"
        ),
        (
            "Put the Bs side by side (more columns), the As on top of one another (more rows): "
            "torch.cat with the right dim."
        ),
        (
            "That makes the sum of the products. Divide one of the two factors, not both, to make"
            " it the mean."
        ),
    ],
)
def check_stack(function):
    """Exercise 1."""
    with random_stream("stack exercise"):
        bs = [torch.randn(5, 2) for _ in range(3)]
        as_ = [torch.randn(2, 4) for _ in range(3)]
    answer = function([b.clone() for b in bs], [a.clone() for a in as_])
    if not isinstance(answer, tuple) or len(answer) != 2:
        return "Return two matrices: (b, a)."
    b, a = answer
    if not all(isinstance(x, torch.Tensor) and x.dim() == 2 for x in (b, a)):
        return "Both must be matrices (tensors with two dimensions)."
    if b.shape[0] != 5 or a.shape[1] != 4 or b.shape[1] != a.shape[0]:
        return (
            f"b is {tuple(b.shape)}, a {tuple(a.shape)}: b needs 5 rows, a 4 columns, and the "
            "ranks must agree."
        )
    right = sum(y @ x for y, x in zip(bs, as_, strict=True)) / 3
    if torch.allclose(b @ a, right, atol=1e-5):
        return None
    if torch.allclose(b @ a, 3 * right, atol=1e-5):
        return "That is the sum; divide by the number of clinics, once."
    if torch.allclose(b @ a, right / 3, atol=1e-5):
        return "You divided both factors by the number of clinics; divide one of them."
    if torch.allclose(b @ a, sum(bs) @ sum(as_) / 9, atol=1e-5):
        return "That is mean(B) mean(A). Put the factors side by side: the rank grows."
    return f"The largest difference from mean(B A) is {(b @ a - right).abs().max():.2g}."


@exercise(
    "Guarantees come with numbers of people: that is why phones have them and clinics rarely.",
    hints=[
        (
            "First the cohort: the noise on the *sum* stays z·S. On the average it is that, over "
            "the number of clinics in the cohort."
        ),
        (
            "To have `target` on the sum and the same noise on the average, the cohort must grow "
            "as the noise does: by target over z."
        ),
        "A cohort is a share of all clinics: how many clinics does it take to draw it?",
    ],
)
def check_clinics_needed(function):
    """Exercise 2."""
    for z, cohort, share, target in ((0.02, 4, 0.2, 1.0), (0.1, 10, 0.5, 2.0), (0.5, 4, 1.0, 0.5)):
        answer, right = function(z, cohort, share, target), cohort * target / z / share
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            return f"Return a number; you return {type(answer).__name__}."
        if math.isclose(answer, math.ceil(right - 1e-9)) or math.isclose(answer, right):
            continue
        if math.isclose(answer, right * share):
            return "That is the cohort; how many clinics does it take to draw it from?"
        if math.isclose(answer, cohort * (target / z) ** 2 / share):
            return "The noise is on the sum, and is divided by the cohort: no squares."
        return (
            f"z={z} with a cohort of {cohort}, a share of {share} a round, target {target}: "
            f"expected {right:g} clinics, got {answer:g}."
        )
    return None


@exercise(
    "A whole federated fine-tuning may cost less than one photo.",
    hints=[
        "How many bytes has one message? A byte has 8 bits.",
        (
            "Each clinic of the cohort gets one message a round and sends one; then count all "
            "rounds, in millions."
        ),
    ],
)
def check_run_megabytes(function):
    """Exercise 3."""
    for settings in ((153_600, 32, 4, 8), (61_440, 4, 10, 3)):
        parameters, bits, cohort, rounds = settings
        answer, right = function(*settings), parameters * bits / 8 * 2 * cohort * rounds / 1e6
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            return f"Return a number; you return {type(answer).__name__}."
        if math.isclose(answer, right, rel_tol=0.02):
            continue
        hints = {
            "There is a way down and a way up: twice as many messages.": right / 2,
            "A byte has 8 bits.": right * 8,
            "In megabytes: divide by a million.": right * 1e6,
        }
        for hint, wrong in hints.items():
            if math.isclose(answer, wrong, rel_tol=0.02):
                return hint
        return (
            f"{parameters:,} parameters of {bits} bits, {cohort} clinics, {rounds} rounds: "
            f"expected about {right:.2f} MB, got {answer:.2f}."
        )
    return None
