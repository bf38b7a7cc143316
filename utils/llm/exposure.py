"""Exposure: how far a model prefers a canary's true secret to those it never saw.

Carlini et al. 2019, "The Secret Sharer", arXiv:1802.08232.
"""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import beta, skewnorm

from utils.llm.canaries import DIGITS, SECRETS, Canary, secret_position
from utils.llm.evaluation import option_losses
from utils.llm.model import LLM
from utils.llm.training import LowerLayers, Tokens, tokenize

_MOST = 100  # beginnings that the search for a rank follows at once
_FEW = 10  # with fewer samples below the truth, its rank is uncertain by a third or more


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


class Exposure(NamedTuple):
    """An estimate of exposure, in bits.

    ``at_least``: a lower bound that needs no fit, with 95% confidence; ``extrapolated``:
    whether ``bits`` comes from a fitted curve, because the sample ends too early.
    """

    bits: float
    at_least: float
    extrapolated: bool


def estimate_exposure(
    true_loss: float, sampled_losses: np.ndarray, space: int = SECRETS
) -> Exposure:
    """Exposure from a random sample of the space, as in arXiv:1802.08232.

    - By sampling, where at least 10 samples cost no more than the truth: their share of the
      sample stands for that of the space. Ties count against the truth, as in the paper.
    - With fewer, a sample can only give a bound (none of 500: about 7 bits). Instead the share
      is read from a skew-normal distribution fitted to the sampled losses: an extrapolation,
      as good as the fit's tail.
    - Probabilities sum to 1, so at most exp(loss) secrets are as likely as the true one. Where
      that says more, it counts: a secret likelier than 1/2 has rank 1, whatever the fit.

    Args:
        true_loss: of the secret (nats), as from ``secret_losses``.
        sampled_losses: of other secrets, drawn uniformly, ``(n,)``, n ≥ 50.
        space: how many secrets were possible.

    Raises:
        ValueError: if there are fewer than 50 samples, or a loss is negative or not finite.
    """
    losses = np.asarray(sampled_losses, float)
    every = np.r_[true_loss, losses.ravel()]
    if losses.ndim != 1 or len(losses) < 50 or not np.isfinite(every).all() or every.min() < 0:
        raise ValueError(
            f"the true loss is {true_loss}, the sampled ones have shape {losses.shape}: at least "
            "50 of them are needed, and all must be finite and not negative"
        )
    beaten_by, count = int((losses <= true_loss).sum()), len(losses)
    by_sum = min(math.floor(math.exp(min(true_loss, 100))), space)  # the rank is no higher
    most = beta.ppf(0.95, beaten_by + 1, count - beaten_by) if beaten_by < count else 1.0
    at_least = exposure(min(max(most * space, 1), by_sum), space)  # Clopper-Pearson, one-sided
    extrapolated = beaten_by < _FEW
    if not extrapolated:
        rank = 1 + (space - 1) * beaten_by / count
    elif np.ptp(losses) > 0:
        share = float(skewnorm.cdf(true_loss, *skewnorm.fit(losses)))
        rank = min(max(share * space, 1), space)
    else:  # all others are alike, and none comes before the truth
        rank = 1
    return Exposure(exposure(min(rank, by_sum), space), at_least, extrapolated and rank < by_sum)


@torch.inference_mode()
def secret_rank(llm: LLM, canary: Canary, most: int = _MOST) -> int | None:
    """The exact rank of a secret among all 10^6, found without trying them all, if it is low.

    A number that starts with digits less likely than the whole secret cannot come before it.
    So the tree of digits is searched in breadth, and such branches are cut; the paper's own
    extraction searches the same tree. Numbers as likely count against the truth.

    Args:
        llm: the model, with or without adapters.
        canary: its answer is followed up to its record number.
        most: beginnings followed at once; all are read in one sequence, each sees its own digits.

    Returns:
        The rank, or None where too many beginnings are likelier than the secret.

    Raises:
        ValueError: if the tokenizer does not split numbers into digits, or most is below 1.
    """
    if most < 1:
        raise ValueError(f"most is {most}; at least 1 beginning must be followed")
    (card,), position = tokenize(llm, [canary.card]), secret_position(llm, canary)
    ids = torch.tensor([card.ids[: card.answer_start + position]], device=llm.device)
    digits = torch.tensor(list(_digit_tokens(llm).values()), device=llm.device)
    limit = secret_losses(llm, canary, [canary.secret])[0] + 1e-3  # for rounding
    output = llm.model(ids, use_cache=True, logits_to_keep=1)
    seen, losses = torch.ones(ids.shape, dtype=torch.bool), torch.zeros(1)
    for length in range(DIGITS):
        log_p = output.logits[0].double().log_softmax(dim=1)[:, digits].cpu()
        costs = losses[:, None] - log_p
        kept, digit = (costs <= limit).nonzero(as_tuple=True)
        if length == DIGITS - 1:
            break
        if not 0 < len(kept) <= most:
            return None
        losses = costs[kept, digit]
        seen = torch.cat([seen[kept], torch.eye(len(kept), dtype=torch.bool)], dim=1)
        output = llm.model(
            digits[digit][None],
            past_key_values=output.past_key_values,
            attention_mask=seen[None, None].to(llm.device),
            position_ids=torch.full((1, len(kept)), ids.shape[1] + length, device=llm.device),
        )
    return max(1, len(kept))


def measure_exposure(
    llm: LLM,
    canary: Canary,
    *,
    samples: int = 200,
    seed: int = 0,
    layers: LowerLayers | None = None,
) -> Exposure:
    """A canary's exposure: exact where its rank is low, else estimated from a sample.

    Args:
        llm: the model, with or without adapters.
        canary: planted or not.
        samples: record numbers to compare with, at least 50.
        seed: of their draw; the same seed compares all canaries with the same numbers.
        layers: to keep cached activations from one call to the next.

    Raises:
        ValueError: for fewer than 50 samples, if the tokenizer does not split numbers, or
            ``layers`` were made for other adapters.
    """
    draw = random.Random(f"exposure {seed}")  # not the numbers that make_canaries drew
    others: list[str] = []
    while len(others) < samples:
        number = f"{draw.randrange(SECRETS):0{DIGITS}d}"
        if number != canary.secret:
            others.append(number)
    true, *losses = secret_losses(llm, canary, [canary.secret, *others], layers=layers)
    estimate = estimate_exposure(true, np.array(losses))
    # at most e^loss numbers are as likely as the truth, mostly far fewer
    low = min(losses) > true and true < 2 * math.log(_MOST)
    rank = secret_rank(llm, canary) if low else None
    return estimate if rank is None else Exposure(exposure(rank), exposure(rank), False)


def _digit_tokens(llm: LLM) -> dict[str, int]:
    return {d: llm.tokenizer(d, add_special_tokens=False)["input_ids"][0] for d in "0123456789"}
