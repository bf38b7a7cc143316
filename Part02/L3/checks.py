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


@exercise(
    "With equal weights it is the notebook's. Weighed otherwise than FedAvg weighs, it would mend "
    "another error than the one that was made.",
    hints=[
        "Each clinic has a weight: its patients over all patients. The weights add up to 1.",
        (
            "Three weighted means: of the products, of the Bs, of the As. What does the product "
            "of the last two lack?"
        ),
    ],
)
def check_weighted_residual(function):
    """Of the notebook on averaging."""
    with random_stream("residual exercise"):
        bs = [torch.randn(5, 2) for _ in range(3)]
        as_ = [torch.randn(2, 4) for _ in range(3)]

    def missed(shares):
        products = sum(w * b @ a for w, b, a in zip(shares, bs, as_, strict=True))
        mean_b = sum(w * b for w, b in zip(shares, bs, strict=True))
        return products, mean_b @ sum(w * a for w, a in zip(shares, as_, strict=True))

    for patients in ([30, 30, 30], [10, 50, 20]):
        answer = function([b.clone() for b in bs], [a.clone() for a in as_], list(patients))
        if not isinstance(answer, torch.Tensor) or answer.shape != (5, 4):
            return "Return one matrix, of the shape of the weights: (5, 4) here."
        products, of_means = missed([n / sum(patients) for n in patients])
        if torch.allclose(answer, products - of_means, atol=1e-5):
            continue
        hints = {
            "That is the mean of the products; what do the averaged factors lack of it?": products,
            "That is the product of the averaged factors; what do they lack?": of_means,
            "The other way round: what is missed is to be *added*.": of_means - products,
            "All clinics count the same in it; weigh them by their patients.": (
                torch.sub(*missed([1 / 3] * 3))
            ),
            "The weights must add up to 1.": torch.sub(*missed(patients)),
        }
        for hint, wrong in hints.items():
            if torch.allclose(answer, wrong, atol=1e-4):
                return hint
        largest = (answer - products + of_means).abs().max()
        return f"Clinics of {patients} patients: the largest difference is {largest:.2g}."
    return None


@exercise(
    "So say against how many in league an ε holds: with all others in league, each clinic stands "
    "for itself.",
    hints=[
        "Who knows their own noise can subtract it. How many clinics' noise is left in the sum?",
        "Independent noises: their variances add up, so standard deviations add up as roots.",
    ],
)
def check_noise_left(function):
    """Of the notebook on privacy."""
    for z, clinics, in_league in ((1.5, 20, 1), (1.5, 20, 0), (0.8, 20, 4), (2.0, 10, 9)):
        answer, left = function(z, clinics, in_league), clinics - in_league
        if not isinstance(answer, int | float) or isinstance(answer, bool):
            return f"Return a number; you return {type(answer).__name__}."
        if math.isclose(answer, z * math.sqrt(left), rel_tol=1e-6):
            continue
        hints = {
            "Variances add up, not standard deviations.": z * left,
            "Those in league subtract their own noise.": z * math.sqrt(clinics),
            "One clinic alone knows one noise; those in league know more of them.": (
                z * math.sqrt(clinics - 1)
            ),
            "That is the noise that they know; what is left?": z * math.sqrt(in_league),
        }
        for hint, wrong in hints.items():
            if math.isclose(answer, wrong, rel_tol=1e-6):
                return hint
        return (
            f"z = {z}, {clinics} clinics, {in_league} in league: expected "
            f"{z * math.sqrt(left):.3f}, got {answer:.3f}."
        )
    return None
