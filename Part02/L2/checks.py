"""Checks of the exercises in L2."""

import math
from collections import Counter

import numpy as np
import torch

from utils.lesson import exercise
from utils.randomness import random_stream


@exercise(
    "So an adapter grows with the layers' width, not with its square.",
    hints=[
        (
            "Draw one layer: A turns inputs into rank numbers, B turns these into outputs. How "
            "many numbers has each matrix?"
        ),
        (
            "Both grow with rank, one with the inputs, the other with the outputs; add them up "
            "over all layers."
        ),
    ],
)
def check_lora_size(function):
    """Exercise 1."""
    for shapes, rank in (([(576, 576), (576, 192)] * 30, 8), ([(10, 3)], 2), ([], 4)):
        answer, right = function(shapes, rank), sum(rank * (i + o) for i, o in shapes)
        if isinstance(answer, bool) or not isinstance(answer, int):
            return f"Return an integer; you return {type(answer).__name__}."
        if answer == right:
            continue
        if answer == sum(i * o for i, o in shapes):
            return "That is the size of the frozen layers; the adapter is A and B."
        if answer == sum(rank * i * o for i, o in shapes):
            return "A has rank x inputs numbers, B has outputs x rank: they add up."
        if answer in (sum(rank * i for i, _ in shapes), sum(rank * o for _, o in shapes)):
            return "There are two matrices for each layer, A and B."
        return f"For {len(shapes)} layers and rank {rank}, expected {right:,}, got {answer:,}."
    return None


@exercise(
    "The adapter is now part of the model, which is as fast as before.",
    hints=[
        "What does the layer with its adapter compute for x? Write it as one matrix times x.",
        "The product of B and A has the shape of the weight. In which order do they stand?",
        "It is scaled by alpha over rank; the rank is the number of rows of A.",
    ],
)
def check_merge(function):
    """Exercise 2."""
    with random_stream("merge exercise"):
        weight, a, b = torch.randn(4, 6), torch.randn(2, 6), torch.randn(4, 2)
    right, before = weight + 8 / 2 * b @ a, [weight.clone(), a.clone(), b.clone()]
    answer = function(weight, a, b, 8)
    if not all(torch.equal(x, y) for x, y in zip(before, (weight, a, b), strict=True)):
        return "Your function changed what it was given; make a new matrix."
    if not isinstance(answer, torch.Tensor) or answer.shape != weight.shape:
        return f"Return a tensor of shape {tuple(weight.shape)}."
    if torch.allclose(answer, right, atol=1e-5):
        return None
    hints = {
        "The adapter's output is scaled by alpha / rank.": [weight + b @ a, weight + 8 * b @ a],
        "Add the frozen weight.": [8 / 2 * b @ a],
    }
    for hint, wrong in hints.items():
        if any(torch.allclose(answer, w, atol=1e-5) for w in wrong):
            return hint
    return f"The largest difference from the right answer is {(answer - right).abs().max():.2g}."


@exercise(
    "Names are weighed whole: what follows from a name's first token costs it nothing.",
    hints=[
        (
            "A token's loss is minus the logarithm of its probability. What do you do with "
            "losses, if probabilities are multiplied?"
        ),
        ("One number for each label, the sum of its losses. The likeliest label has the smallest."),
    ],
)
def check_choice(function):
    """Exercise 3."""
    cases = [
        ([[3.0, 3.0], [1.0, 0.1, 0.1, 0.1], [2.0]], 1),
        ([[1.0], [0.5, 0.4], [0.2, 0.3, 0.9]], 1),
        ([[2.0], [2.0, 0.1, 0.1, 0.1], [3.0], [4.0, 4.0]], 0),
        ([[1.0, 0.1], [0.7, 0.7], [3.0]], 0),
    ]
    for losses, right in cases:
        answer = function([list(own) for own in losses])
        if answer == right:
            continue
        sums, means = [sum(x) for x in losses], [sum(x) / len(x) for x in losses]
        if answer == means.index(min(means)):
            return "A mean favours long names, whose last tokens follow from their first: add up."
        if answer == sums.index(max(sums)):
            return "A small loss is likely, a large one unlikely: choose the smallest."
        return f"For {losses}, expected label {right}, got {answer}."
    return None


@exercise(
    "One number a block in place of two: fewer bits, and a coarser step where a block lies to one "
    "side of zero.",
    hints=[
        (
            "The step: the largest absolute value is to be 2^(bits - 1) - 1 of them. With 4 bits, "
            "that is 7 steps up and 7 down."
        ),
        "How many steps is each weight, rounded to the nearest whole number? Then back to weights.",
        "A block of zeros has a step of 0, and nothing can be divided by that.",
    ],
)
def check_from_zero(function):
    """Of the notebook on size."""
    draw = np.random.default_rng(0)
    for block, bits in (
        (draw.normal(size=32), 4),
        (draw.uniform(-3, 1, 32), 3),
        (-draw.uniform(-3, 1, 32), 8),
        (np.zeros(32), 4),
    ):
        answer, most = function(block.copy(), bits), 2 ** (bits - 1) - 1
        if np.shape(answer) != block.shape:
            return f"Return as many weights as there are in the block: {len(block)}."
        if not block.any():
            if np.array_equal(answer, block):
                return None
            return "A block of zeros stays one; 0 / 0 is NaN."
        step = np.abs(block).max() / most
        if np.allclose(answer, np.round(block / step) * step):
            continue
        hints = {
            "Those are counts of steps; make weights of them again.": np.round(block / step),
            "Round to the *nearest* step.": np.trunc(block / step) * step,
            "The largest weight may be a negative one: its absolute value counts.": (
                np.round(block / (block.max() / most)) * (block.max() / most)
            ),
            "Half of the steps are for weights below zero: 2^(bits - 1) - 1 on each side.": (
                np.round(block / (np.abs(block).max() / (2**bits - 1)))
                * (np.abs(block).max() / (2**bits - 1))
            ),
        }
        for hint, wrong in hints.items():
            if np.allclose(answer, wrong):
                return hint
        worst = np.abs(answer - np.round(block / step) * step).max()
        return f"{bits} bits, a step of {step:.3f}: the largest difference is {worst:.3f}."


@exercise(
    "An answer may share most words with the right definition, and say the opposite.",
    hints=[
        (
            "The longest sequence of words that both have in this order, gaps allowed, is built "
            "from shorter ones: of the first i words of one and the first j of the other."
        ),
        (
            "If both end in the same word, it is one longer than without this word in both. Else "
            "it is the longer of two: leave out the last word of the one, or of the other."
        ),
        (
            "Its share of the answer's words and its share of the definition's: their harmonic "
            "mean is 2ab / (a + b), and 0 if nothing is shared."
        ),
    ],
)
def check_rouge_l(function):
    """Of the notebook on writing; the library is the judge."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    pairs = (
        ("a weakness of the face on one side", "weakness of one side of the face"),
        ("loss of the sense of taste", "an enlarged tongue"),
        ("the the the pupil", "the pupil is wide"),
        ("wide pupil that hurts", "pupil that hurts wide"),
        ("wide pupil", "a pupil that is wide even in the light"),
        ("hearing loss", "hearing loss"),
    )
    for one, two in pairs:
        answer, score = function(one.split(), two.split()), scorer.score(two, one)["rougeL"]
        if not isinstance(answer, int | float) or isinstance(answer, bool):
            return f"Return a number; you return {type(answer).__name__}."
        if math.isclose(answer, score.fmeasure, abs_tol=1e-9):
            continue
        common = (Counter(one.split()) & Counter(two.split())).total()
        in_any_order = 2 * common / len((one + " " + two).split())
        hints = {
            "That is the share of the definition's words only.": score.recall,
            "That is the share of the answer's words only.": score.precision,
            "Only words *in the same order* count.": in_any_order,
        }
        for hint, wrong in hints.items():
            if math.isclose(answer, wrong, abs_tol=1e-9):
                return hint
        return f"'{one}' for '{two}': the library says {score.fmeasure:.3f}, you {answer:.3f}."
    return None
