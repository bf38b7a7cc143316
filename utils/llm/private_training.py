"""DP-SGD: fine-tune so that no single card can be noticed in the result."""

import math
import warnings
from collections.abc import Iterable

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer

from utils.llm.model import LLM
from utils.llm.training import LowerLayers, Tokens, token_losses, tokenize
from utils.progress import progress_bar

_CHUNK = 16  # cards whose gradients are computed at once; it does not change the result


def fine_tune_privately(
    llm: LLM,
    cards: Iterable[dict],
    *,
    noise_multiplier: float,
    max_norm: float,
    sampling_rate: float,
    steps: int,
    lr: float = 1e-3,
    seed: int = 0,
    layers: LowerLayers | None = None,
    progress: bool = True,
) -> list[float]:
    """Train the adapters with DP-SGD (Abadi et al. 2016, arXiv:1607.00133), by Opacus.

    Each step takes each card with the same chance, independently (Poisson sampling). A card's
    gradient, of the mean loss over its answer, is clipped to the norm S; their sum gets noise
    of standard deviation z · S and is divided by the expected number of cards; AdamW takes it
    from there. The result is (epsilon, delta)-DP for the presence of one card, with
    ``utils.privacy.epsilon(noise_multiplier, sampling_rate, steps, delta)``.

    Args:
        llm: trained in place.
        cards: with ``question`` and ``answer``.
        noise_multiplier: z, at least 0 (0: no privacy, for comparison).
        max_norm: the clipping norm S of one card's gradient, above 0.
        sampling_rate: the chance of each card in each step, above 0, at most 1.
        steps: at least 1.
        lr: learning rate, constant.
        seed: of the sampling and the noise; the same seed repeats the training exactly. What
            is released for real needs noise that nobody can repeat.
        layers: to keep cached activations from one call to the next.
        progress: show a bar.

    Returns:
        The mean loss of each step's cards, before the step (NaN where none was drawn). It is
        not private: keep it in the clinic.

    Raises:
        ValueError: for values out of range, no cards, or a model without trainable parameters.
    """
    if steps < 1 or not 0 < lr < math.inf or not 0 <= noise_multiplier < math.inf:
        raise ValueError(
            f"steps={steps}, lr={lr}, noise_multiplier={noise_multiplier}: steps must be at least "
            "1, lr above 0, the noise multiplier at least 0, and all finite"
        )
    if not 0 < max_norm < math.inf or not 0 < sampling_rate <= 1:
        raise ValueError(
            f"max_norm={max_norm}, sampling_rate={sampling_rate}: max_norm must be above 0 and "
            "finite, the sampling rate above 0 and at most 1"
        )
    trained = [p for p in llm.model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError("nothing to train: put adapters on the model with add_lora first")
    tokens = tokenize(llm, cards)
    layers = layers or LowerLayers(llm, keep=steps * sampling_rate > 1)
    layers.require_current()
    generator = torch.Generator().manual_seed(seed)
    expected = sampling_rate * len(tokens)
    optimizer = DPOptimizer(
        torch.optim.AdamW(trained, lr=lr),
        noise_multiplier=noise_multiplier,
        max_grad_norm=max_norm,
        expected_batch_size=None,
        loss_reduction="sum",
        generator=torch.Generator(layers.device).manual_seed(seed),
    )
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
                drawn = torch.rand(len(tokens), generator=generator) < sampling_rate
                optimizer.zero_grad()
                losses.append(_backward(layers, [tokens[i] for i in drawn.nonzero()[:, 0]]))
                if not drawn.any():  # then the step is noise alone
                    for p in trained:
                        p.grad_sample = p.new_zeros((0, *p.shape))
                optimizer.step()
                bar.update()
    finally:
        hooks.cleanup()
        llm.model.eval()
    return losses


def _backward(layers: LowerLayers, cards: list[Tokens]) -> float:
    """Leave each card's own gradient in the parameters; the cards' mean loss."""
    cards, total = sorted(cards, key=lambda card: len(card.ids)), 0.0
    for start in range(0, len(cards), _CHUNK):
        losses = token_losses(layers, cards[start : start + _CHUNK])
        loss = torch.stack([own.mean() for own in losses]).sum()
        loss.backward()
        total += loss.item()
    return total / len(cards) if cards else math.nan
