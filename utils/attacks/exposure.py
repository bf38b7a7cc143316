"""Exposure: how far a model prefers a canary's true secret to those it never saw.

Carlini et al. 2019, "The Secret Sharer", arXiv:1802.08232.
"""

import math
import random
from collections.abc import Sequence

import numpy as np
import torch

from utils.attacks.canaries import DIGITS, SECRETS, Canary, secret_position
from utils.llm.evaluation import option_losses
from utils.llm.model import LLM
from utils.llm.training import LowerLayers, Tokens, tokenize


def exposure(rank: float, space: int = SECRETS) -> float:
    """log2(space) - log2(rank), in bits: how much easier than by chance the secret is guessed.

    The median of a secret never seen is 1 bit, its mean 1.44; the most is log2(space), where
    the model prefers the secret to all others.

    Args:
        rank: of the secret by its loss, 1 (lowest) to ``space``.
        space: how many secrets were possible.

    Raises:
        ValueError: if the rank lies outside.
    """
    if not 1 <= rank <= space:
        raise ValueError(f"rank is {rank}; in a space of {space} it can be 1 to {space}")
    return math.log2(space) - math.log2(rank)


def secret_losses(
    llm: LLM,
    canary: Canary,
    candidates: Sequence[str],
    *,
    batch_size: int = 64,
    layers: LowerLayers | None = None,
) -> np.ndarray:
    """What each record number would cost the model, given the question and the answer so far.

    The candidates are read side by side after one prompt, without seeing each other.

    Args:
        llm: the model, with or without adapters.
        canary: whose answer is followed up to its record number.
        candidates: record numbers of six digits, as text.
        batch_size: candidates at once; it does not change the result.
        layers: to keep cached activations from one call to the next, for the same candidates.

    Returns:
        Negative log-likelihood of the six digits together (nats), float64 ``(candidates,)``.

    Raises:
        ValueError: if a candidate is not six digits, there are none, the tokenizer does not
            split numbers into digits, or ``layers`` were made for other adapters.
    """
    wrong = [c for c in candidates if len(c) != DIGITS or not (c.isascii() and c.isdigit())]
    if wrong or not len(candidates) or batch_size < 1:
        raise ValueError(
            f"{len(candidates)} candidates, of which not six digits: {wrong[:3] or 'none'}; "
            f"batch_size={batch_size}. Candidates and batch_size must be at least 1"
        )
    (card,), position = tokenize(llm, [canary.card]), secret_position(llm, canary)
    start = card.answer_start + position
    digit = _digit_tokens(llm)
    tokens = [Tokens([*card.ids[:start], *(digit[d] for d in c)], start) for c in candidates]
    layers = layers or LowerLayers(llm, keep=False)
    losses: list[float] = []
    for first in range(0, len(tokens), batch_size):
        (group,) = option_losses(layers, [tokens[first : first + batch_size]])
        losses += [own.double().sum().item() for own in group]
    return np.array(losses)


@torch.inference_mode()
def draw_secrets(llm: LLM, canary: Canary, count: int, *, seed: int = 0) -> dict[str, float]:
    """Record numbers as the model would write them, drawn digit by digit, and their losses.

    All draws are read in one sequence, in which each beginning sees its own digits only.

    Args:
        llm: the model, with or without adapters.
        canary: whose answer is followed up to its record number.
        count: of draws, at least 1.
        seed: the same seed gives the same draws.

    Returns:
        Negative log-likelihood of the six digits together (nats) by number. A number drawn
        twice is there once; draws that are no number (a word among the digits) are left out.

    Raises:
        ValueError: if the tokenizer does not split numbers into digits, or count is below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}; at least 1 number must be drawn")
    (card,), position = tokenize(llm, [canary.card]), secret_position(llm, canary)
    ids = torch.tensor([card.ids[: card.answer_start + position]], device=llm.device)
    digits = torch.tensor(list(_digit_tokens(llm).values()), device=llm.device)
    generator, seen = np.random.default_rng(seed), torch.ones(ids.shape, dtype=torch.bool)
    starts, counts, losses = [""], np.array([count]), np.zeros(1)
    output = llm.model(ids, use_cache=True, logits_to_keep=1)
    for length in range(1, DIGITS + 1):
        log_p = output.logits[0].double().log_softmax(dim=1)[:, digits].cpu().numpy()
        p = np.exp(log_p)
        drawn = generator.multinomial(counts, np.c_[p, 1 - np.minimum(p.sum(axis=1), 1)])[:, :10]
        before, digit = drawn.nonzero()  # the beginnings to go on with, and how
        counts, losses = drawn[before, digit], losses[before] - log_p[before, digit]
        starts = [f"{starts[i]}{d}" for i, d in zip(before, digit, strict=True)]
        if length == DIGITS or not starts:
            break
        seen = torch.cat([seen[before], torch.eye(len(starts), dtype=torch.bool)], dim=1)
        position_ids = torch.full((1, len(starts)), ids.shape[1] + length - 1, device=llm.device)
        output = llm.model(
            digits[digit][None],
            past_key_values=output.past_key_values,
            attention_mask=seen[None, None].to(llm.device),
            position_ids=position_ids,
        )
    return dict(zip(starts, losses.tolist(), strict=True))


def estimate_rank(
    true_loss: float,
    losses: Sequence[float] | np.ndarray,
    *,
    uniform: int,
    by_model: int = 0,
    space: int = SECRETS,
) -> float:
    """The rank of a secret by its loss, from a sample of the others.

    Each number below the truth counts as many as it stands for: one over the chance that it is
    in the sample (Horvitz and Thompson 1952), which is known, because numbers are drawn in two
    known ways. The model's own draws find what it prefers, however rare; the uniform ones
    cover the rest. The sum is right on average, and exact where all favourites are drawn.
    Ties count against the truth, as in arXiv:1802.08232. It is kept between

    - a cautious convention: a sample that would hardly have found numbers as likely as the
      truth does not show that there are none, so the rank is at least one over the truth's own
      chance to be drawn;
    - and a fact: probabilities sum to 1, so at most exp(true_loss) numbers are as likely.

    Args:
        true_loss: of the secret (nats), as from ``secret_losses``.
        losses: of all different other secrets that were drawn, either way.
        uniform: so many were drawn from the space with equal chances, without replacement.
        by_model: so many draws were made by the model, with chances exp(-loss).
        space: how many secrets are possible.

    Raises:
        ValueError: if the counts are out of range, more losses are there than draws, or a loss
            is negative or not finite.
    """
    losses = np.asarray(losses, float)
    every = np.r_[true_loss, losses.ravel()]
    draws = uniform + by_model
    if not (0 <= uniform <= space and by_model >= 0 and draws) or losses.shape[1:]:
        raise ValueError(
            f"uniform={uniform}, by_model={by_model}, losses of shape {losses.shape}: uniform can "
            f"be 0 to {space}, by_model at least 0, one of them above 0, and losses a vector"
        )
    if len(losses) > draws or not np.isfinite(every).all() or every.min() < 0:
        raise ValueError(
            f"{len(losses)} losses from {draws} draws, between {every.min()} and {every.max()}: "
            "at most one a draw, all finite and not negative"
        )
    below = np.r_[true_loss, losses[losses <= true_loss]]
    missed = (1 - uniform / space) * (1 - np.exp(-below)) ** by_model
    least, *others = 1 / (1 - missed)
    by_sum = max(1, math.floor(math.exp(min(true_loss, 100))))
    return float(min(max(1 + sum(others), least), by_sum, space))


def measure_exposure(
    llm: LLM,
    canary: Canary,
    *,
    samples: int = 200,
    seed: int = 0,
    layers: LowerLayers | None = None,
) -> float:
    """A canary's exposure in bits, by ``estimate_rank``.

    Standard error, with 50 samples: none at rank 1 where the model often writes the number
    (where it rarely does, the estimate is cautious: a few bits low), a quarter to half a
    bit for ranks of tens to a thousand, two thirds of a bit above that.

    Args:
        llm: the model, with or without adapters.
        canary: planted or not.
        samples: record numbers drawn uniformly, at least 10; as many are drawn by the model,
            unless a fifth of the uniform ones already come before the truth.
        seed: of the draws; the same seed compares all canaries with the same uniform numbers.
        layers: to keep cached activations from one call to the next.

    Raises:
        ValueError: for fewer than 10 samples, if the tokenizer does not split numbers, or
            ``layers`` were made for other adapters.
    """
    if samples < 10:
        raise ValueError(f"samples is {samples}; at least 10 numbers are needed")
    draw = random.Random(f"exposure {seed}")  # not the numbers that make_canaries drew
    others = [f"{number:0{DIGITS}d}" for number in draw.sample(range(SECRETS), samples)]
    true, *losses = secret_losses(llm, canary, [canary.secret, *others], layers=layers)
    sample = dict(zip(others, losses, strict=True))
    by_model = samples if (np.array(losses) <= true).mean() < 0.2 else 0
    if by_model:
        sample |= draw_secrets(llm, canary, by_model, seed=seed)
    sample.pop(canary.secret, None)
    rank = estimate_rank(true, [*sample.values()], uniform=samples, by_model=by_model)
    return exposure(rank)


def _digit_tokens(llm: LLM) -> dict[str, int]:
    return {d: llm.tokenizer(d, add_special_tokens=False)["input_ids"][0] for d in "0123456789"}
