"""Fine-tune a language model on question-answer cards, fast on two cores.

Only the answer is scored. Time is saved where nothing is learned: logits are computed for the
answer's tokens only, batches hold cards of like length, copies of a card in a batch are read
once, layers below the lowest adapter run without gradients, and on later passes over the same
cards their output comes from a cache.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from utils.llm.model import LLM
from utils.progress import progress_bar

MAX_TOKENS = 256  # of a card; what is longer is cut


class Tokens(NamedTuple):
    """One card as token ids: the prompt, then the answer and the end token."""

    ids: list[int]
    answer_start: int


def tokenize(llm: LLM, cards: Iterable[dict]) -> list[Tokens]:
    """Cards, each with a ``question`` and an ``answer``, as token ids.

    Raises:
        ValueError: if there are none, or a question leaves no room for its answer.
    """
    cards = list(cards)
    if not cards:
        raise ValueError("there are no cards")
    encode = lambda texts: llm.tokenizer(texts, add_special_tokens=False)["input_ids"]  # noqa: E731
    prompts = encode([llm.prompt(card["question"]) for card in cards])
    answers = encode([card["answer"] for card in cards])
    for card, prompt in zip(cards, prompts, strict=True):
        if len(prompt) >= MAX_TOKENS:
            raise ValueError(
                f"the question '{card['question'][:40]}…' has {len(prompt)} tokens; question and "
                f"answer together may have {MAX_TOKENS}"
            )
    end = llm.tokenizer.eos_token_id
    return [
        Tokens([*prompt, *answer, end][:MAX_TOKENS], len(prompt))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


class LowerLayers:
    """The layers below the lowest trained one, and a cache of what comes out of them.

    They are frozen, so a card's activations there never change: computed once, kept in
    memory (about 2.3 kB a token for the bundled model). Without adapters, or with adapters
    from the first layer on, there are none, and everything is computed each time.

    Args:
        llm: of the Llama family (Llama, SmolLM, Mistral, Qwen): layers in ``model.layers``.
        keep: whether to keep activations for later passes.

    Raises:
        ValueError: if the model is built otherwise.
    """

    def __init__(self, llm: LLM, keep: bool = True) -> None:
        base = llm.model.get_base_model() if hasattr(llm.model, "get_base_model") else llm.model
        self.body, self.head = getattr(base, "model", None), base.get_output_embeddings()
        parts = ("embed_tokens", "layers", "rotary_emb", "norm")
        if not all(hasattr(self.body, part) for part in parts):
            raise ValueError(
                f"'{llm.name}' is a {type(base).__name__}; training and evaluation need a model "
                "of the Llama family (Llama, SmolLM, Mistral, Qwen)"
            )
        self.first_trained = self._first_trained() or 0
        self.pad = llm.tokenizer.pad_token_id
        self.kept: dict[tuple, torch.Tensor] | None = {} if keep else None

    def _first_trained(self) -> int | None:
        for index, layer in enumerate(self.body.layers):
            if any(p.requires_grad for p in layer.parameters()):
                return index
        return None  # no adapters, or they are off

    def require_current(self) -> None:
        """Refuse to go on if lower layers are trained now than when this was made.

        Raises:
            ValueError: if so.
        """
        lowest = self._first_trained()
        if lowest is not None and lowest < self.first_trained:
            raise ValueError(
                f"these LowerLayers end before layer {self.first_trained}, but the lowest layer "
                f"that is trained is now {lowest}; make new ones after add_lora"
            )

    def hidden(self, batch: Sequence[Tokens]) -> torch.Tensor:
        """Last hidden states ``(cards, longest, width)``; beyond a card's end without meaning.

        Padding is on the right, where causal attention never looks.
        """
        states = self._lower(batch)
        return self.body.norm(self._through(states, slice(self.first_trained, None)))

    def hidden_at(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Last hidden states ``(1, n, width)`` of tokens that see each other as ``mask`` says.

        Args:
            ids, positions: ``(1, n)``, int64.
            mask: bool ``(1, 1, n, n)``, true where a token (row) sees another (column).
        """
        key = tuple(tensor.cpu().numpy().tobytes() for tensor in (ids, positions, mask))
        states = self.kept.get(key) if self.kept is not None else None
        if states is None:
            with torch.no_grad():
                states = self.body.embed_tokens(ids)
                states = self._through(states, slice(self.first_trained), positions, mask)
            if self.kept is not None and self.first_trained:
                self.kept[key] = states
        states = self._through(states, slice(self.first_trained, None), positions, mask)
        return self.body.norm(states)

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.body.embed_tokens.weight.device

    def _through(
        self,
        states: torch.Tensor,
        which: slice,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Some layers; without a mask, each token sees itself and what comes before it."""
        if positions is None:
            positions = torch.arange(states.shape[1], device=states.device)[None]
        rotary = self.body.rotary_emb(states, position_ids=positions)
        for layer in self.body.layers[which]:
            states = layer(
                states, attention_mask=mask, position_embeddings=rotary, position_ids=positions
            )
        return states

    def _lower(self, batch: Sequence[Tokens]) -> torch.Tensor:
        if self.kept is not None and self.first_trained:
            new = [card for card in batch if tuple(card.ids) not in self.kept]
            if new:
                for card, states in zip(new, self._through_lower(new), strict=True):
                    self.kept[tuple(card.ids)] = states[: len(card.ids)].clone()
            states = [self.kept[tuple(card.ids)] for card in batch]
            return nn.utils.rnn.pad_sequence(states, batch_first=True)
        return self._through_lower(batch)

    @torch.no_grad()
    def _through_lower(self, batch: Sequence[Tokens]) -> torch.Tensor:
        longest = max(len(card.ids) for card in batch)
        ids = [card.ids + [self.pad] * (longest - len(card.ids)) for card in batch]
        states = self.body.embed_tokens(torch.tensor(ids, device=self.device))
        return self._through(states, slice(self.first_trained))


def token_losses(layers: LowerLayers, batch: Sequence[Tokens]) -> list[torch.Tensor]:
    """Cross-entropy (nats) of each answer token, one tensor a card."""
    states = layers.hidden(batch)
    spans = [(card.answer_start - 1, len(card.ids) - 1) for card in batch]  # predict the next
    scored = torch.cat([states[i, a:b] for i, (a, b) in enumerate(spans)])
    wanted = [t for card in batch for t in card.ids[card.answer_start :]]
    target = torch.tensor(wanted, device=states.device)
    losses = F.cross_entropy(layers.head(scored).float(), target, reduction="none")
    return list(losses.split([b - a for a, b in spans]))


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


def _mean_loss(layers: LowerLayers, batch: Sequence[Tokens]) -> torch.Tensor:
    """Mean over all answer tokens of a batch, in which copies of a card are read only once."""
    keys = [(tuple(card.ids), card.answer_start) for card in batch]
    different = dict(zip(keys, batch, strict=True))
    losses = token_losses(layers, list(different.values()))
    of_key = dict(zip(different, losses, strict=True))
    return torch.cat([of_key[key] for key in keys]).mean()


def fine_tune(
    llm: LLM,
    cards: Iterable[dict],
    *,
    steps: int | None = None,
    epochs: int = 1,
    batch_size: int = 8,
    lr: float = 1e-3,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
    layers: LowerLayers | None = None,
    progress: bool = True,
) -> list[float]:
    """Train what is trainable of the model (its adapters) with AdamW, on the answers only.

    Args:
        llm: trained in place.
        cards: with ``question`` and ``answer``.
        steps: optimizer steps, passing over the cards as often as that takes; or
        epochs: passes over the cards, where ``steps`` is None.
        batch_size: cards a step.
        lr: learning rate, constant.
        seed: of the order of the cards; the same seed repeats the training exactly.
        on_step: called after each step with its number (from 1) and its loss.
        layers: to keep cached activations from one call to the next.
        progress: show a bar.

    Returns:
        The loss of each step: the mean over its answer tokens, before the step.

    Raises:
        ValueError: for values out of range, no cards, or a model without trainable parameters.
    """
    if (steps is not None and steps < 1) or epochs < 1 or batch_size < 1 or not 0 < lr < math.inf:
        raise ValueError(
            f"steps={steps}, epochs={epochs}, batch_size={batch_size}, lr={lr}: the first three "
            "must be at least 1, lr above 0 and finite"
        )
    trained = [p for p in llm.model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError("nothing to train: put adapters on the model with add_lora first")
    tokens = tokenize(llm, cards)
    several = epochs > 1 if steps is None else steps * batch_size > len(tokens)
    layers = layers or LowerLayers(llm, keep=several)
    layers.require_current()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(trained, lr=lr)
    batches = like_lengths(tokens, batch_size, generator)
    steps = steps or epochs * len(batches)
    losses: list[float] = []
    with progress_bar(progress, total=steps, desc="fine-tuning", unit="step") as bar:
        while len(losses) < steps:
            for batch in batches[: steps - len(losses)]:
                loss = _mean_loss(layers, [tokens[i] for i in batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                bar.update()
                bar.set_postfix(loss=f"{losses[-1]:.2f}")
                if on_step:
                    on_step(len(losses), losses[-1])
            batches = like_lengths(tokens, batch_size, generator)
    return losses
