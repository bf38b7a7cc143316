"""Judge a language model: loss on answers, multiple choice, likeness of what it writes."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from utils.arguments import flag, list_of, rows_of, shown, whole_number
from utils.data.quiz import Quiz
from utils.llm.asking import ask
from utils.llm.model import LLM
from utils.llm.reading import answer_losses, option_losses, read_all, tokenize
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
        test = scipy.stats.binomtest(int(self.right.sum()), len(self.right))
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
    for i, own in read_all(llm, tokens, batch_size, progress, "evaluating", answer_losses):
        losses[i] = own.double().cpu().numpy()
    by_card = np.array([of_card.mean() for of_card in losses])
    return Evaluation(float(np.concatenate(losses).mean()), by_card)


def answer_quiz(
    llm: LLM,
    quiz: Sequence[Quiz],
    *,
    per_token: bool = True,
    centred: bool = False,
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
        centred: take off each option's average loss over the questions that offer it (Zhou et
            al. 2023, arXiv:2309.17249). A model's liking for some of them drops out; it needs no
            answers, only that all are right as often where they are offered.
        batch_size: questions at once; it does not change the result.
        progress: show a bar.

    Raises:
        ValueError: if the quiz has no questions, or they are none; if it is to be centred and
            an option is offered only once.
    """
    quiz, batch_size = list_of("quiz", quiz, "questions"), whole_number("batch_size", batch_size, 1)
    per_token, centred = flag("per_token", per_token), flag("centred", centred)
    if not quiz or not all(isinstance(question, Quiz) for question in quiz):
        raise ValueError(
            f"the quiz has {len(quiz)} questions, the first {quiz[:1]}; make one with make_quiz"
        )

    if centred:
        offered = Counter(option for question in quiz for option in question.options)
        option, times = offered.most_common()[-1]
        if times < 2:
            raise ValueError(
                f"centred=True takes off what an option costs on average, and {shown(option)} is "
                "offered only once; it needs a quiz whose options come again, such as make_triage's"
            )
    by_question: list[np.ndarray] = []
    with progress_bar(progress, total=len(quiz), desc="quiz", unit="question") as bar:
        for start in range(0, len(quiz), batch_size):
            groups = [
                tokenize(llm, [{"question": q.question, "answer": text} for text in options])
                for q in quiz[start : start + batch_size]
                for options in [list_of("a question's options", q.options, "answers")]
            ]
            for losses in option_losses(llm, groups):
                own = [(option.mean() if per_token else option.sum()).item() for option in losses]
                by_question.append(np.array(own))
            bar.update(len(groups))
    if centred:
        by_question = _centred(quiz, by_question)
    chosen = np.array([int(np.argmin(own)) for own in by_question])
    return Marks(chosen == [q.right for q in quiz], chosen)


def _centred(quiz: Sequence[Quiz], by_question: list[np.ndarray]) -> list[np.ndarray]:
    """Each option's loss, less its mean over the questions that offer it."""
    offered = defaultdict(list)
    for question, losses in zip(quiz, by_question, strict=True):
        for option, loss in zip(question.options, losses, strict=True):
            offered[option].append(loss)
    usual = {option: np.mean(losses) for option, losses in offered.items()}
    return [
        losses - [usual[option] for option in question.options]
        for question, losses in zip(quiz, by_question, strict=True)
    ]


def rouge_l(
    llm: LLM, cards: Iterable[dict], *, max_new_tokens: int = 48, progress: bool = True
) -> np.ndarray:
    """ROUGE-L of the model's own answers, by card: 1 for the card's words in its order, 0 for none.

    The F-measure of the longest common subsequence (Lin 2004), by the package rouge-score.
    Slow: the answers are written word by word.

    Raises:
        ValueError: if they are no cards, or ``max_new_tokens`` is below 1.
    """
    from rouge_score.rouge_scorer import RougeScorer  # takes a second to import

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
