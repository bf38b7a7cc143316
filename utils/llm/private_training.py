"""DP-SGD: fine-tune so that no single card can be noticed in the result."""

import hashlib
import math
import warnings
from collections.abc import Iterable
from typing import Protocol

import torch

from utils.arguments import number, seed_number, whole_number
from utils.llm.model import LLM
from utils.llm.reading import Tokens, answer_losses, tokenize
from utils.progress import progress_bar

_CHUNK = 16  # cards whose gradients are computed at once; it does not change the result


class Spender(Protocol):
    """What keeps count of what has been released: see ``utils.privacy.Ledger``."""

    def spend(self, noise_multiplier: float, sampling_rate: float, times: int) -> None:
        """Enter releases before they are made; raises where they would pass the budget."""


def fine_tune_privately(
    llm: LLM,
    cards: Iterable[dict],
    *,
    noise_multiplier: float,
    max_norm: float,
    sampling_rate: float,
    steps: int,
    lr: float = 1.0,
    momentum: float = 0.0,
    seed: int = 0,
    ledger: Spender | None = None,
    progress: bool = True,
) -> list[float]:
    """Train the adapters with DP-SGD (Abadi et al. 2016, arXiv:1607.00133), by Opacus.

    Each step takes each card with the same chance, independently (Poisson sampling). A card's
    gradient, of the mean loss over its answer, is clipped to the norm S; their sum gets noise
    of standard deviation z · S, is divided by the expected number of cards, and SGD takes a
    step along it. (An adaptive optimizer that starts afresh would go by the signs alone.)

    The result is (epsilon, delta)-DP for one card, with
    ``utils.privacy.epsilon(noise_multiplier, sampling_rate, steps, delta)``. Neighbours differ
    in whether one card counts or is blank, a gradient of zero. How many cards there are is the
    same for both, and public: the divisor, ``sampling_rate`` times their number, tells it.

    Args:
        llm: trained in place.
        cards: with ``question`` and ``answer``.
        noise_multiplier: z, at least 0 (0: no privacy, for comparison).
        max_norm: the clipping norm S of one card's gradient, above 0.
        sampling_rate: the chance of each card in each step, above 0, at most 1.
        steps: at least 1.
        lr: learning rate, constant. No clipped gradient is longer than S, so with a small S it
            is larger than elsewhere.
        momentum: of SGD, 0 to below 1.
        seed: of the sampling and the noise, which are independent of each other; the same seed
            repeats the training exactly. What is released for real needs noise that nobody can
            repeat.
        ledger: told of each step before it is taken; where it refuses, its error ends the
            training, and the steps that were paid for stay.
        progress: show a bar.

    Returns:
        The mean loss of each step's cards, before the step (NaN where none was drawn). It is
        not private: keep it in the clinic.

    Raises:
        ValueError: for values out of range, no cards, or a model without trainable parameters.
    """
    from opacus.grad_sample import GradSampleHooks  # here, because they take a second to import
    from opacus.optimizers import DPOptimizer

    noise_multiplier = number("noise_multiplier", noise_multiplier, least=0)
    max_norm = number("max_norm", max_norm, above=0)
    sampling_rate = number("sampling_rate", sampling_rate, above=0, most=1)
    steps, seed = whole_number("steps", steps, 1), seed_number(seed)
    settings = {"lr": number("lr", lr, above=0)}
    settings["momentum"] = number("momentum", momentum, least=0, below=1)
    if ledger is not None and not hasattr(ledger, "spend"):
        raise ValueError(f"ledger is {ledger!r}; pass a utils.privacy.Ledger, or None")
    tokens, trained = tokenize(llm, cards), llm.trained
    sampling = stream(seed, "sampling", torch.device("cpu"))
    optimizer = DPOptimizer(
        torch.optim.SGD(trained, **settings),
        noise_multiplier=noise_multiplier,
        max_grad_norm=max_norm,
        expected_batch_size=None,
        loss_reduction="sum",
        generator=stream(seed, "noise", llm.device),
    )
    expected = sampling_rate * len(tokens)
    optimizer.attach_step_hook(lambda _: [p.grad.div_(expected) for p in trained])
    hooks = GradSampleHooks(llm.model, loss_reduction="sum")
    llm.model.train()  # the hooks ask for it
    losses: list[float] = []
    try:
        with (
            progress_bar(progress, total=steps, desc="DP-SGD", unit="step") as bar,
            warnings.catch_warnings(),
        ):
            # below the lowest adapter nothing requires a gradient, as it should be
            warnings.filterwarnings("ignore", "Full backward hook is firing when gradients")
            for _ in range(steps):
                if ledger is not None:
                    ledger.spend(noise_multiplier, sampling_rate, 1)
                drawn = torch.rand(len(tokens), generator=sampling) < sampling_rate
                optimizer.zero_grad()
                losses.append(_backward(llm, [tokens[i] for i in drawn.nonzero()[:, 0]]))
                if not drawn.any():  # then the step is noise alone
                    for p in trained:
                        p.grad_sample = p.new_zeros((0, *p.shape))
                optimizer.step()
                bar.update()
    finally:
        hooks.cleanup()
        llm.model.eval()
    return losses


def stream(seed: int, purpose: str, device: torch.device) -> torch.Generator:
    """A random stream of its own for each purpose, though the seed be the same.

    Two generators with one seed draw the same bits: the noise would be known from the sample.
    """
    digest = hashlib.blake2s(repr((seed, purpose)).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)


def _backward(llm: LLM, cards: list[Tokens]) -> float:
    """Leave each card's own gradient in the parameters; the cards' mean loss."""
    cards, total = sorted(cards, key=lambda card: len(card.ids)), 0.0
    for start in range(0, len(cards), _CHUNK):
        losses = answer_losses(llm, cards[start : start + _CHUNK])
        loss = torch.stack([own.mean() for own in losses]).sum()
        loss.backward()
        total += loss.item()
    return total / len(cards) if cards else math.nan
