"""Checks of the exercises in L2."""

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
