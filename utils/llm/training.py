"""Fine-tune a language model on question-answer cards, fast on two cores.

Time is saved where nothing is learned: only answers are scored, a batch has no padding outside
of attention, what its cards begin with alike is read once (``utils.llm.packing``), and layers
below the lowest adapter are run once a card (``utils.llm.layers``).
"""

from collections.abc import Callable, Iterable, Sequence

import torch

from utils.arguments import MANY, flag, function, number, seed_number, whole_number
from utils.llm.model import LLM
from utils.llm.reading import Tokens, answer_losses, tokenize
from utils.progress import progress_bar


def like_lengths(cards: Sequence[Tokens], size: int, generator: torch.Generator) -> list[list[int]]:
    """Batches of indices: in random order, each of cards of like length.

    All cards are shuffled, cut into pools of 16 batches, sorted within each pool by length.
    """
    order = torch.randperm(len(cards), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), 16 * size):
        pool = sorted(order[start : start + 16 * size], key=lambda i: len(cards[i].ids))
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def at_random(cards: Sequence[Tokens], size: int, generator: torch.Generator) -> list[list[int]]:
    """Batches of indices in random order; the last one of a pass may be smaller."""
    order = torch.randperm(len(cards), generator=generator).tolist()
    return [order[start : start + size] for start in range(0, len(order), size)]


def _mean_loss(llm: LLM, batch: Sequence[Tokens]) -> torch.Tensor:
    """Mean over all answer tokens of a batch."""
    return torch.cat(answer_losses(llm, batch, pack=True)).mean()


def fine_tune(
    llm: LLM,
    cards: Iterable[dict],
    *,
    steps: int | None = None,
    epochs: int = 1,
    batch_size: int = 8,
    lr: float = 1e-3,
    cosine: bool = False,
    alike: bool = True,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
    progress: bool = True,
) -> list[float]:
    """Train what is trainable of the model (its adapters) with AdamW, on the answers only.

    Args:
        llm: trained in place.
        cards: with ``question`` and ``answer``.
        steps: optimizer steps, passing over the cards as often as that takes; or
        epochs: passes over the cards, where ``steps`` is None.
        batch_size: cards a step.
        lr: learning rate, constant; or
        cosine: falling from ``lr`` to zero along half a cosine, over all steps.
        alike: batches of cards of like length, which saves time. Where answers are short
            labels, length tells the label, and such batches teach one label at a time: then
            turn it off.
        seed: of the order of the cards; on a CPU, the same seed repeats the training exactly.
        on_step: called after each step with its number (from 1) and its loss.
        progress: show a bar.

    Returns:
        The loss of each step: the mean over its answer tokens, before the step.

    Raises:
        ValueError: for values out of range, no cards, or a model without trainable parameters.
        TypeError: if ``on_step`` is no function.
    """
    steps = steps if steps is None else whole_number("steps", steps, 1, MANY)
    epochs, lr = whole_number("epochs", epochs, 1, MANY), number("lr", lr, above=0)
    batch_size = whole_number("batch_size", batch_size, 1)
    alike, cosine, seed = flag("alike", alike), flag("cosine", cosine), seed_number(seed)
    if on_step is not None:
        function("on_step", on_step, "lambda step, loss: print(step, loss)")
    tokens = tokenize(llm, cards)
    optimizer = torch.optim.AdamW(llm.trained, lr=lr)
    generator = torch.Generator().manual_seed(seed)
    deal = like_lengths if alike else at_random
    batches = deal(tokens, batch_size, generator)
    steps = steps or epochs * len(batches)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses: list[float] = []
    with progress_bar(progress, total=steps, desc="fine-tuning", unit="step") as bar:
        while len(losses) < steps:
            for batch in batches[: steps - len(losses)]:
                loss = _mean_loss(llm, [tokens[i] for i in batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if cosine:
                    falling.step()
                losses.append(loss.item())
                bar.update()
                bar.set_postfix(loss=f"{losses[-1]:.2f}")
                if on_step:
                    on_step(len(losses), losses[-1])
            batches = deal(tokens, batch_size, generator)
    return losses
