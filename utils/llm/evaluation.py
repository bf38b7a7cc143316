"""Judge a language model: loss on answers, multiple choice, likeness of what it writes."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import binomtest

from utils.arguments import list_of, rows_of, whole_number
from utils.data.quiz import Quiz
from utils.llm.asking import ask
from utils.llm.model import LLM
from utils.llm.reading import option_losses, read_all, tokenize
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
    """``right``: which of a quiz's questions were answered right; ``chosen``: by their numbers,
    the options that were chosen."""

    right: np.ndarray
    chosen: np.ndarray

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
    llm: LLM, cards: Iterable[dict], *, batch_size: int = 16, progress: bool = True
) -> Evaluation:
    """Loss on the answers of cards; the model is left as it is.

    Args:
        llm: the model, with or without adapters.
        cards: with ``question`` and ``answer``.
        batch_size: cards at once; it does not change the result.
        progress: show a bar.

    Raises:
        ValueError: for a batch size below 1, or no cards.
    """
    tokens = tokenize(llm, cards)
    losses = [np.empty(0)] * len(tokens)
    for i, prediction in read_all(llm, tokens, batch_size, progress, "evaluating"):
        losses[i] = prediction.losses.double().cpu().numpy()
    by_card = np.array([of_card.mean() for of_card in losses])
    return Evaluation(float(np.concatenate(losses).mean()), by_card)


def answer_quiz(
    llm: LLM,
    quiz: Sequence[Quiz],
    *,
    per_token: bool = True,
    blank: str | None = None,
    batch_size: int = 8,
    progress: bool = True,
) -> Marks:
    """Choose, for each question, the option that the model finds likeliest.

    A question's options are read side by side after one prompt, without seeing each other.

    Args:
        llm: the model, with or without adapters.
        quiz: from ``make_quiz``, ``make_triage`` or ``make_rare_diseases``.
        per_token: the likeliest per token: of definitions, or short ones would win. Off, the
            likeliest in all: of labels, or long ones would win, whose last tokens follow from
            their first.
        blank: a question that asks nothing. Options then count by how much likelier the
            question makes them than the blank one does (Holtzman et al. 2021,
            arXiv:2104.08315): a model's liking for some of them drops out.
        batch_size: questions at once; it does not change the result.
        progress: show a bar.

    Raises:
        ValueError: if the quiz has no questions, or they are none.
    """
    quiz, batch_size = list_of("quiz", quiz, "questions"), whole_number("batch_size", batch_size, 1)
    if not isinstance(per_token, bool):
        raise ValueError(f"per_token is {per_token!r}; it must be True or False")
    if not quiz or not all(isinstance(question, Quiz) for question in quiz):
        raise ValueError(
            f"the quiz has {len(quiz)} questions, the first {quiz[:1]}; make one with make_quiz"
        )

    def losses_of(asked: Sequence[tuple[str, Sequence[str]]]) -> Iterator[np.ndarray]:
        """Each option's loss, for questions and their options."""
        groups = [
            tokenize(llm, [{"question": question, "answer": text} for text in options])
            for question, options in asked
        ]
        for losses in option_losses(llm, groups):
            yield np.array([(own.mean() if per_token else own.sum()).item() for own in losses])

    chosen: list[int] = []
    before: dict[tuple[str, ...], np.ndarray] = {}
    with progress_bar(progress, total=len(quiz), desc="quiz", unit="question") as bar:
        for start in range(0, len(quiz), batch_size):
            batch = quiz[start : start + batch_size]
            options = [tuple(list_of("a question's options", q.options, "answers")) for q in batch]
            if blank is not None:
                new = list(dict.fromkeys(own for own in options if own not in before))
                if new:
                    losses = losses_of([(blank, own) for own in new])
                    before.update(zip(new, losses, strict=True))
            asked = [(q.question, own) for q, own in zip(batch, options, strict=True)]
            for own, losses in zip(options, losses_of(asked), strict=True):
                chosen.append(int(np.argmin(losses - before.get(own, 0.0))))
            bar.update(len(batch))
    return Marks(np.array(chosen) == [q.right for q in quiz], np.array(chosen))


def rouge_l(
    llm: LLM, cards: Iterable[dict], *, max_new_tokens: int = 48, progress: bool = True
) -> np.ndarray:
    """ROUGE-L of the model's own answers, by card: 1 for the card's words in its order, 0 for none.

    The F-measure of the longest common subsequence (Lin 2004), by the package rouge-score.
    Slow: the answers are written word by word.

    Raises:
        ValueError: if they are no cards, or ``max_new_tokens`` is below 1.
    """
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    cards = rows_of("cards", cards, "question", "answer")
    return np.array(
        [
            scorer.score(card["answer"], ask(llm, card["question"], max_new_tokens))[
                "rougeL"
            ].fmeasure
            for card in progress_bar(progress, iterable=cards, desc="writing answers", unit="card")
        ]
    )
