"""Exposure: how far a model prefers a canary's true secret to those it never saw.

Carlini et al. 2019, "The Secret Sharer", arXiv:1802.08232. There the rank is estimated; here
secrets are so short that it is counted.
"""

import math

import numpy as np
import torch

from utils.arguments import number
from utils.attacks.canaries import DIGITS, SECRETS, Canary, secret_position
from utils.llm.model import LLM
from utils.llm.reading import read_tree, tokenize


def exposure_of_rank(rank: float, space: int = SECRETS) -> float:
    """log2(space) - log2(rank), in bits: how much easier than by chance the secret is guessed.

    The median of a secret never seen is 1 bit, its mean 1.44; the most is log2(space), where
    the model prefers the secret to all others.

    Args:
        rank: of the secret by its loss, 1 (lowest) to ``space``.
        space: how many secrets were possible.

    Raises:
        ValueError: if the rank lies outside.
    """
    space = number("space", space, least=1)
    return math.log2(space) - math.log2(number("rank", rank, least=1, most=space))


def secret_losses(llm: LLM, canary: Canary) -> np.ndarray:
    """What each record number would cost the model, given the question and the answer so far.

    All 10,000 numbers are read at once, as a tree: below what stands before the number 10 first
    digits, below each of them 10 second ones, and so on. The last digits need not be read, only
    expected: 1 + 10 + 100 + 1,000 predictions are enough.

    Args:
        llm: the model, with or without adapters.
        canary: whose answer is followed up to its record number.

    Returns:
        Negative log-likelihood of the four digits together (nats), float64 ``(10000,)``, by
        number.

    Raises:
        ValueError: if the tokenizer does not split numbers into digits.
    """
    position, (card,) = secret_position(llm, canary), tokenize(llm, [canary.card])
    before = card.ids[: card.answer_start + position]
    digits = [ids[0] for ids in llm.text_ids(list("0123456789"))]
    ids, parents, level = list(before), list(range(-1, len(before) - 1)), [len(before) - 1]
    for _ in range(DIGITS - 1):
        parents += [parent for parent in level for _ in digits]
        ids += digits * len(level)
        level = list(range(len(ids) - 10 * len(level), len(ids)))
    at = range(len(before) - 1, len(ids))
    losses = read_tree(llm, ids, parents, at, torch.tensor([digits] * len(at))).cpu().numpy()
    total, start = np.zeros(1), 0
    for length in range(DIGITS):  # of the beginnings, in the order of their numbers
        of_level = losses[start : start + 10**length].astype(np.float64)
        total, start = (total[:, None] + of_level).ravel(), start + 10**length
    return total


def measure_exposure(llm: LLM, canary: Canary) -> float:
    """A canary's exposure in bits: exact, from the losses of all record numbers.

    A number that costs just as much counts against the secret, as in arXiv:1802.08232.

    Args:
        llm: the model, with or without adapters.
        canary: planted or not.

    Raises:
        ValueError: if the tokenizer does not split numbers into digits.
    """
    losses = secret_losses(llm, canary)
    return exposure_of_rank(int((losses <= losses[int(canary.secret)]).sum()))
