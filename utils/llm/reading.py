"""How a model reads: the one place where cards become token ids, losses and predictions.

Only answers are scored, and logits are computed for their tokens only.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from utils.arguments import rows_of, whole_number
from utils.hardware import products_of_bfloat16
from utils.llm.layers import hidden
from utils.llm.model import LLM, an_llm
from utils.progress import progress_bar

MAX_TOKENS = 512  # of a card; what is longer is cut


class Tokens(NamedTuple):
    """One card as token ids: the prompt, then the answer and the end token."""

    ids: list[int]
    answer_start: int


class Prediction(NamedTuple):
    """What the model expects at a card's answer tokens.

    ``logits``: float32 ``(answer tokens, vocabulary)``; ``wanted``: the true tokens, int64.
    """

    logits: torch.Tensor
    wanted: torch.Tensor

    @property
    def losses(self) -> torch.Tensor:
        """Cross-entropy of each answer token (nats)."""
        return F.cross_entropy(self.logits, self.wanted, reduction="none")


def tokenize(llm: LLM, cards: Iterable[dict]) -> list[Tokens]:
    """Cards, each with a ``question`` and an ``answer``, as token ids.

    A card's text is text: a control token in it neither ends the answer nor forges a turn.

    Raises:
        ValueError: if they are no cards, there are none, or a question leaves no room for its
            answer.
    """
    cards = rows_of("cards", cards, "question", "answer")
    before, after = an_llm(llm).turn_ids()
    questions = llm.text_ids([card["question"] for card in cards])
    answers = llm.text_ids([card["answer"] for card in cards])
    tokens = []
    for card, question, answer in zip(cards, questions, answers, strict=True):
        prompt = [*before, *question, *after]
        if len(prompt) >= MAX_TOKENS:
            raise ValueError(
                f"the question '{card['question'][:40]}…' has {len(prompt)} tokens; question and "
                f"answer together may have {MAX_TOKENS}"
            )
        ids = [*prompt, *answer, llm.tokenizer.eos_token_id]
        tokens.append(Tokens(ids[:MAX_TOKENS], len(prompt)))
    return tokens


def read(llm: LLM, batch: Sequence[Tokens]) -> list[Prediction]:
    """What the model expects of some cards, read at once; what is trained gets gradients."""
    states = hidden(llm.body, llm.activations, [card.ids for card in batch])
    spans = [(card.answer_start - 1, len(card.ids) - 1) for card in batch]  # predict the next
    scored = torch.cat([row[a:b] for row, (a, b) in zip(states, spans, strict=True)])
    logits = _head(llm, scored).split([b - a for a, b in spans])
    wanted = [torch.tensor(card.ids[card.answer_start :], device=llm.device) for card in batch]
    return [Prediction(*pair) for pair in zip(logits, wanted, strict=True)]


@torch.no_grad()  # not inference mode: kept activations may be trained on later
def read_all(
    llm: LLM, cards: Sequence[Tokens], batch_size: int, progress: bool, doing: str = "reading"
) -> Iterator[tuple[int, Prediction]]:
    """Each card's number and prediction, in batches of like length, the shortest first.

    Raises:
        ValueError: for a batch size below 1.
    """
    batch_size = whole_number("batch_size", batch_size, 1)
    order = sorted(range(len(cards)), key=lambda i: len(cards[i].ids))
    with progress_bar(progress, total=len(cards), desc=doing, unit="card") as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            yield from zip(batch, read(llm, [cards[i] for i in batch]), strict=True)
            bar.update(len(batch))


@torch.no_grad()
def read_tree(
    llm: LLM, ids: Sequence[int], parents: Sequence[int], at: Sequence[int]
) -> torch.Tensor:
    """What the model expects after some tokens of texts that share their beginnings.

    The texts stand in one sequence, every common beginning once: a tree, or several. A token
    sees itself and its ancestors; its position is the number of these.

    Args:
        llm: the model, with or without adapters.
        ids: the token of each node; a parent stands before its children.
        parents: the number of each node's parent, -1 where a text begins.
        at: the nodes after which to predict.

    Returns:
        Logits float32 ``(len(at), vocabulary)``.
    """
    seen = np.eye(len(ids), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            seen[node] |= seen[parent]
    positions = torch.from_numpy(seen.sum(axis=1) - 1).to(llm.device)
    mask = torch.from_numpy(seen).to(llm.device)
    states = hidden(llm.body, llm.activations, [ids], positions[None], mask[None, None])[0]
    return _head(llm, states[torch.tensor(at, device=llm.device)])


def option_losses(llm: LLM, groups: Sequence[Sequence[Tokens]]) -> list[list[torch.Tensor]]:
    """Cross-entropy of each answer token (nats), of groups of cards, best with common beginnings.

    What cards begin with alike, prompts or answers, is read once.
    """
    ids, parents, nodes = [], [], {}
    predicted, wanted = {}, []  # after which node, once each; which token of which prediction

    def grow(after: int, token: int) -> int:
        """The node of a token after another one's."""
        if (after, token) not in nodes:
            nodes[after, token] = len(ids)
            ids.append(token)
            parents.append(after)
        return nodes[after, token]

    for card in (card for cards in groups for card in cards):
        node = -1
        for place, token in enumerate(card.ids):
            if place >= card.answer_start:
                wanted.append((predicted.setdefault(node, len(predicted)), token))
            if place < len(card.ids) - 1:  # what the last one leads to is never asked
                node = grow(node, token)
    log_p = read_tree(llm, ids, parents, list(predicted)).log_softmax(dim=1)
    rows, tokens = torch.tensor(wanted, device=llm.device).T
    sizes = [[len(card.ids) - card.answer_start for card in cards] for cards in groups]
    in_groups = (-log_p[rows, tokens]).split([sum(group) for group in sizes])
    return [list(part.split(group)) for part, group in zip(in_groups, sizes, strict=True)]


def _head(llm: LLM, states: torch.Tensor) -> torch.Tensor:
    """Logits, float32. Where they are measured (no gradients), they are computed so as well:

    bfloat16 has steps of a sixteenth at a logit of 16, and whole groups of answers would tie.
    """
    head = llm.base.get_output_embeddings()
    if torch.is_grad_enabled() or head.bias is not None:
        return head(states).float()
    with products_of_bfloat16(states.dtype == head.weight.dtype == torch.bfloat16):
        return F.linear(states.float(), head.weight.float())
