"""How a model reads: the one place where cards become token ids, losses and predictions.

Only answers are scored, and logits are computed for their tokens only.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from utils.arguments import rows_of, whole_number
from utils.llm import head
from utils.llm.layers import hidden
from utils.llm.model import LLM, an_llm
from utils.llm.packing import can_be_packed, packed
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
    states, wanted = _scored(llm, batch)
    logits = head.logits(llm, states).split([len(tokens) for tokens in wanted])
    return [Prediction(*pair) for pair in zip(logits, wanted, strict=True)]


def answer_losses(llm: LLM, batch: Sequence[Tokens], *, pack: bool = False) -> list[torch.Tensor]:
    """The losses of ``read``'s predictions, with the same gradients; without them, in less time.

    ``pack`` saves time where texts are of unlike lengths or begin alike, if the model allows it
    (``utils.llm.packing``); then no gradient can be told from another card's.
    """
    pack = pack and can_be_packed(llm.body, max(len(card.ids) for card in batch))
    states, wanted = (_scored_packed if pack else _scored)(llm, batch)
    losses = head.losses(llm, states, torch.cat(wanted))
    return list(losses.split([len(tokens) for tokens in wanted]))


def _scored(llm: LLM, batch: Sequence[Tokens]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The states from which answer tokens are predicted, all cards' in a row; those tokens."""
    states = hidden(llm.body, llm.activations, [card.ids for card in batch])
    scored = torch.cat([row[_before(card)] for row, card in zip(states, batch, strict=True)])
    return scored, _wanted(llm, batch)


def _scored_packed(llm: LLM, batch: Sequence[Tokens]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The same, read as one row."""
    states, places = packed(llm.body, llm.activations, [card.ids for card in batch])
    scored = torch.cat([row[_before(card)] for row, card in zip(places, batch, strict=True)])
    return states.index_select(0, scored), _wanted(llm, batch)  # on a CPU, sums in order


def _before(card: Tokens) -> slice:
    """The places after which an answer's tokens come."""
    return slice(card.answer_start - 1, len(card.ids) - 1)


def _wanted(llm: LLM, batch: Sequence[Tokens]) -> list[torch.Tensor]:
    """The tokens of each answer, the end among them."""
    return [torch.tensor(card.ids[card.answer_start :], device=llm.device) for card in batch]


@torch.no_grad()  # not inference mode: kept activations may be trained on later
def read_all(
    llm: LLM,
    cards: Sequence[Tokens],
    batch_size: int,
    progress: bool,
    doing: str = "reading",
    how: Callable[[LLM, Sequence[Tokens]], list] = read,
) -> Iterator[tuple]:
    """Each card's number and prediction, in batches of like length, the shortest first.

    ``how`` is ``read``, or ``answer_losses`` for a card's losses in place of its prediction.

    Raises:
        ValueError: for a batch size below 1.
    """
    batch_size = whole_number("batch_size", batch_size, 1)
    order = sorted(range(len(cards)), key=lambda i: len(cards[i].ids))
    with progress_bar(progress, total=len(cards), desc=doing, unit="card") as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            yield from zip(batch, how(llm, [cards[i] for i in batch]), strict=True)
            bar.update(len(batch))


@torch.no_grad()
def read_tree(
    llm: LLM,
    ids: Sequence[int],
    parents: Sequence[int],
    at: Sequence[int],
    wanted: torch.Tensor,
) -> torch.Tensor:
    """What tokens cost the model in texts that share their beginnings.

    The texts stand in one sequence, every common beginning once: a tree, or several. A token
    sees itself and its ancestors; its position is the number of these.

    Args:
        llm: the model, with or without adapters.
        ids: the token of each node; a parent stands before its children.
        parents: the number of each node's parent, -1 where a text begins.
        at: the nodes after which to predict.
        wanted: the tokens there whose cost is asked for, int64 ``(len(at), k)``.

    Returns:
        Negative log-likelihoods (nats), float32 ``(len(at), k)``.
    """
    seen = np.eye(len(ids), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            seen[node] |= seen[parent]
    positions = torch.from_numpy(seen.sum(axis=1) - 1).to(llm.device)
    mask = torch.from_numpy(seen).to(llm.device)
    states = hidden(llm.body, llm.activations, [ids], positions[None], mask[None, None])[0]
    return head.costs(llm, states[torch.tensor(at, device=llm.device)], wanted.to(llm.device))


def option_losses(llm: LLM, groups: Sequence[Sequence[Tokens]]) -> list[list[torch.Tensor]]:
    """Cross-entropy of each answer token (nats), of groups of cards, best with common beginnings.

    What cards begin with alike, prompts or answers, is read once.
    """
    ids, parents, nodes = [], [], {}
    asked: dict[int, list[int]] = {}  # by node: the tokens there whose cost is asked for
    found = []  # of each answer token: its node, and its place among those asked for there

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
                tokens = asked.setdefault(node, [])
                if token not in tokens:
                    tokens.append(token)
                found.append((node, tokens.index(token)))
            if place < len(card.ids) - 1:  # what the last one leads to is never asked
                node = grow(node, token)
    most = max(map(len, asked.values()))
    wanted = torch.tensor([tokens + [0] * (most - len(tokens)) for tokens in asked.values()])
    costs = read_tree(llm, ids, parents, list(asked), wanted)
    row_of = {node: row for row, node in enumerate(asked)}
    losses = costs[[row_of[node] for node, _ in found], [place for _, place in found]]
    sizes = [[len(card.ids) - card.answer_start for card in cards] for cards in groups]
    in_groups = losses.split([sum(group) for group in sizes])
    return [list(part.split(group)) for part, group in zip(in_groups, sizes, strict=True)]
