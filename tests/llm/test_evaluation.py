"""Loss, quiz and ROUGE-L."""

import math

import numpy as np
import pytest
import torch

from utils.data import Quiz
from utils.llm import answer_quiz, evaluate, rouge_l, tokenize
from utils.llm.evaluation import Evaluation, Marks
from utils.llm.reading import read_all


def test_the_batch_size_does_not_change_the_loss(tiny, cards):
    one, all_ = (evaluate(tiny, cards, batch_size=n, progress=False) for n in (1, 5))
    assert one.by_card == pytest.approx(all_.by_card, rel=1e-5)
    assert one.loss == pytest.approx(all_.loss, rel=1e-5)


def test_the_loss_is_over_tokens_and_each_card_has_its_own(tiny, cards):
    alone = [evaluate(tiny, [card], progress=False) for card in cards]
    together = evaluate(tiny, cards, progress=False)
    assert together.by_card == pytest.approx([e.loss for e in alone], rel=1e-5)
    lengths = [
        len(tiny.tokenizer(c["answer"], add_special_tokens=False)["input_ids"]) + 1 for c in cards
    ]
    assert together.loss == pytest.approx(np.average(together.by_card, weights=lengths), rel=1e-5)


def test_perplexity_is_the_exponential_of_the_loss():
    assert Evaluation(math.log(7), np.zeros(1)).perplexity == pytest.approx(7)


def test_the_quiz_is_answered_by_the_likeliest_option(tiny, cards):
    options = [card["answer"] for card in cards[:4]]
    question = cards[0]["question"]
    losses = [
        evaluate(tiny, [{"question": question, "answer": o}], progress=False).loss for o in options
    ]
    likeliest = int(np.argmin(losses))
    quiz = [Quiz(question, options, right, "") for right in range(4)]
    marks = answer_quiz(tiny, quiz, progress=False)
    assert marks.right.tolist() == [right == likeliest for right in range(4)]
    assert marks.accuracy == 0.25
    assert marks.chosen.tolist() == [likeliest] * 4


def test_labels_are_weighed_whole_and_definitions_by_token(tiny, cards):
    """One long option and one short: the mean favours one, the sum the other."""
    question, words = cards[0]["question"], cards[1]["answer"].split()
    options = [" ".join(words), words[0]]
    tokens = tokenize(tiny, [{"question": question, "answer": text} for text in options])
    losses = [p.losses for _, p in sorted(read_all(tiny, tokens, 2, False))]
    by_sum = int(np.argmin([own.sum() for own in losses]))
    by_mean = int(np.argmin([own.mean() for own in losses]))
    for per_token, wanted in ((False, by_sum), (True, by_mean)):
        marks = answer_quiz(
            tiny, [Quiz(question, options, 0, "")], per_token=per_token, progress=False
        )
        assert marks.chosen.tolist() == [wanted]
    assert by_sum == 1


def test_centred_a_liking_for_an_option_drops_out(tiny, cards):
    """By hand: each option's loss, less its mean over the questions."""
    for layer in tiny.layers:
        torch.nn.init.normal_(layer.self_attn.o_proj.weight, std=0.5)  # the question matters
    options = [card["answer"] for card in cards[:4]]
    quiz = [Quiz(card["question"], options, 0, "") for card in cards]
    losses = np.array(
        [
            evaluate(tiny, [{"question": q.question, "answer": o} for o in options]).by_card
            for q in quiz
        ]
    )
    marks = answer_quiz(tiny, quiz, centred=True, batch_size=2, progress=False)
    assert marks.chosen.tolist() == (losses - losses.mean(axis=0)).argmin(axis=1).tolist()
    plain = answer_quiz(tiny, quiz, progress=False)
    assert plain.chosen.tolist() == losses.argmin(axis=1).tolist() != marks.chosen.tolist()
    with pytest.raises(ValueError, match=r"'[ab]' is offered only once"):
        answer_quiz(tiny, [*quiz, Quiz("What?", ["a", "b"], 0, "")], centred=True, progress=False)


def test_centred_an_options_mean_is_over_the_questions_that_offer_it(tiny, cards):
    for layer in tiny.layers:
        torch.nn.init.normal_(layer.self_attn.o_proj.weight, std=0.5)
    texts = [card["answer"] for card in cards[:5]]
    offers = [[0, 1, 2, 3], [4, 3, 2, 1], [0, 2, 4, 1], [3, 0, 1, 4], [2, 4, 0, 3]]
    quiz = [
        Quiz(card["question"], [texts[i] for i in offer], 0, "")
        for card, offer in zip(cards, offers, strict=False)
    ]
    losses = np.full((5, 5), np.nan)  # question, option
    for row, q, offer in zip(losses, quiz, offers, strict=True):
        row[offer] = evaluate(
            tiny, [{"question": q.question, "answer": o} for o in q.options], progress=False
        ).by_card
    less = losses - np.nanmean(losses, axis=0)
    wanted = [int(np.argmin(row[offer])) for row, offer in zip(less, offers, strict=True)]
    marks = answer_quiz(tiny, quiz, centred=True, batch_size=2, progress=False)
    assert marks.chosen.tolist() == wanted
    assert wanted != [int(np.argmin(r[o])) for r, o in zip(losses, offers, strict=True)]


def test_the_interval_is_wilsons():
    low, high = Marks(np.array([True] * 56 + [False] * 44), np.zeros(100)).interval
    assert (low, high) == pytest.approx((0.4623, 0.6533), abs=1e-3)


def test_rouge_l_of_known_texts(bundled, monkeypatch):
    answers = {"a?": "loss of smell", "b?": "nothing in common", "c?": "the loss of taste"}
    monkeypatch.setattr("utils.llm.evaluation.ask", lambda llm, question, tokens: answers[question])
    cards = [{"question": q, "answer": "loss of smell"} for q in answers]
    scores = rouge_l(bundled, cards, progress=False)
    assert scores == pytest.approx([1.0, 0.0, 2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3)])


def test_what_is_no_quiz_is_refused(tiny, cards):
    for wrong in ([], cards, None, "quiz"):
        with pytest.raises(ValueError, match="quiz"):
            answer_quiz(tiny, wrong, progress=False)
    quiz = [Quiz("What?", ["a", "b"], 0, "")]
    with pytest.raises(ValueError, match="batch_size is 0"):
        answer_quiz(tiny, quiz, batch_size=0, progress=False)
