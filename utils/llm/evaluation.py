"""Judge a language model: loss on answers, multiple choice, likeness of what it writes."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import binomtest

from utils.data.quiz import Quiz
from utils.llm.model import LLM, ask
from utils.llm.training import LowerLayers, Tokens, token_losses, tokenize
from utils.progress import progress_bar


class Evaluation(NamedTuple):
    """``loss``: mean cross-entropy over all answer tokens (nats); ``by_card``: each card's
    own mean, in the order of the cards."""

    loss: float
    by_card: np.ndarray

    @property
    def perplexity(self) -> float:
        """exp(loss): among how many equally likely tokens the model hesitates."""
        return math.exp(self.loss)


class Marks(NamedTuple):
    """Which of a quiz's questions were answered right."""

    right: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of right answers; guessing among four gives 0.25."""
        return float(self.right.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the accuracy over questions (Wilson)."""
        test = binomtest(int(self.right.sum()), len(self.right))
        low, high = test.proportion_ci(method="wilson")
        return float(low), float(high)


def evaluate(
    llm: LLM,
    cards: Iterable[dict],
    *,
    batch_size: int = 16,
    layers: LowerLayers | None = None,
    progress: bool = True,
) -> Evaluation:
    """Loss on the answers of cards; the model is left as it is.

    Args:
        llm: the model, with or without adapters.
        cards: with ``question`` and ``answer``.
        batch_size: cards at once; it does not change the result.
        layers: to keep cached activations from one call to the next.
        progress: show a bar.

    Raises:
        ValueError: for a batch size below 1, no cards, or ``layers`` made for other adapters.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    layers = layers or LowerLayers(llm, keep=False)
    layers.require_current()
    losses = _losses(layers, tokenize(llm, cards), batch_size, progress)
    by_card = np.array([own.mean() for own in losses])
    return Evaluation(float(np.concatenate(losses).mean()), by_card)


@torch.inference_mode()
def answer_quiz(
    llm: LLM, quiz: Sequence[Quiz], *, batch_size: int = 8, progress: bool = True
) -> Marks:
    """Choose, for each question, the option that the model finds likeliest per token.

    Likelihood is normalized by length: otherwise short options would win. A question's options
    are read side by side after one prompt, without seeing each other.

    Args:
        llm: the model, with or without adapters.
        quiz: from ``make_quiz``.
        batch_size: questions at once; it does not change the result.
        progress: show a bar.

    Raises:
        ValueError: if the quiz has no questions.
    """
    if not quiz or batch_size < 1:
        raise ValueError(f"{len(quiz)} questions, batch_size={batch_size}: both at least 1")
    layers, right = LowerLayers(llm, keep=False), []
    with progress_bar(progress, total=len(quiz), desc="quiz", unit="question") as bar:
        for start in range(0, len(quiz), batch_size):
            batch = quiz[start : start + batch_size]
            groups = [
                tokenize(llm, [{"question": q.question, "answer": text} for text in q.options])
                for q in batch
            ]
            for q, losses in zip(batch, option_losses(layers, groups), strict=True):
                right.append(int(np.argmin([own.mean().item() for own in losses])) == q.right)
            bar.update(len(batch))
    return Marks(np.array(right))


@torch.no_grad()  # not inference mode: cached activations may be trained on later
def option_losses(
    layers: LowerLayers, groups: Sequence[Sequence[Tokens]]
) -> list[list[torch.Tensor]]:
    """Cross-entropy of each answer token, of groups of cards that share a prompt.

    All stand in one sequence: a group's prompt once, then its options. An option sees the
    prompt and itself, and its positions go on from the prompt's end.

    Raises:
        ValueError: if ``layers`` were made for other adapters.
    """
    layers.require_current()
    ids, positions, group, option, before, wanted = [], [], [], [], [], []
    for number, cards in enumerate(groups):
        start, first = cards[0].answer_start, len(ids)
        for part, text in enumerate([cards[0].ids[:start], *(c.ids[start:] for c in cards)]):
            offset = start if part else 0
            if part:  # each token is predicted at the one before it
                before += [first + start - 1, *range(len(ids), len(ids) + len(text) - 1)]
                wanted += text
            ids += text
            positions += range(offset, offset + len(text))
            group += [number] * len(text)
            option += [part] * len(text)
    tensor = lambda values: torch.tensor(values, device=layers.device)  # noqa: E731
    group, option = tensor(group), tensor(option)
    seen = (group[:, None] == group) & ((option[:, None] == option) | (option == 0))
    mask = (seen & torch.ones_like(seen).tril())[None, None]
    states = layers.hidden_at(tensor(ids)[None], tensor(positions)[None], mask)[0]
    logits = layers.head(states[tensor(before)]).float()
    losses = F.cross_entropy(logits, tensor(wanted), reduction="none")
    sizes = [[len(card.ids) - card.answer_start for card in cards] for cards in groups]
    in_groups = losses.split([sum(own) for own in sizes])
    return [list(part.split(own)) for part, own in zip(in_groups, sizes, strict=True)]


def rouge_l(
    llm: LLM, cards: Iterable[dict], *, max_new_tokens: int = 48, progress: bool = True
) -> np.ndarray:
    """ROUGE-L of the model's own answers, by card: 1 for the card's words in its order, 0 for none.

    The F-measure of the longest common subsequence (Lin 2004), by the package rouge-score.
    Slow: the answers are written word by word.
    """
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    cards = list(cards)
    return np.array(
        [
            scorer.score(card["answer"], ask(llm, card["question"], max_new_tokens))[
                "rougeL"
            ].fmeasure
            for card in progress_bar(progress, iterable=cards, desc="writing answers", unit="card")
        ]
    )


@torch.no_grad()  # not inference mode: cached activations may be trained on later
def _losses(
    layers: LowerLayers, tokens: Sequence[Tokens], batch_size: int, progress: bool
) -> list[np.ndarray]:
    """Cross-entropy of each answer token, by card, computed in batches of like length."""
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i].ids))
    losses: list[np.ndarray] = [np.empty(0)] * len(tokens)
    with progress_bar(progress, total=len(tokens), desc="evaluating", unit="card") as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            for i, own in zip(batch, token_losses(layers, [tokens[i] for i in batch]), strict=True):
                losses[i] = own.cpu().numpy().astype(np.float64)
            bar.update(len(batch))
    return losses
