"""What can be drawn out: everything from a model built to memorize, nothing from a new one."""

import math

import numpy as np
import pytest
import torch

from tests.llm.tiny import CARDS, make_tiny
from utils.attacks import (
    extractable,
    greedy_match,
    longest_match,
    make_canaries,
    measure_exposure,
    sample_answers,
    secret_position,
)
from utils.llm import ask, fine_tune, tokenize

CANARIES = make_canaries(CARDS[:4])
LEARNED = [False, True, False, True]


@pytest.fixture(scope="module")
def memorizer(bundled):
    """Trained, all of it, on two canaries until it knows them by heart."""
    llm = make_tiny(bundled.tokenizer)
    llm.model.requires_grad_(True)
    learned = [c.card for c in CANARIES[1::2]]
    fine_tune(llm, learned, epochs=130, batch_size=2, lr=5e-3, progress=False)
    llm.model.requires_grad_(False)
    return llm


def generated(llm, ids, count):
    """The next tokens by transformers' own greedy decoding, no matter where an answer ends."""
    with torch.inference_mode():
        output = llm.model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=2,
            eos_token_id=None,
        )
    return output[0, len(ids) :].tolist()


def common_start(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def test_what_was_learned_by_heart_can_be_extracted_and_the_rest_cannot(memorizer):
    matches = greedy_match(memorizer, [c.card for c in CANARIES], progress=False)
    assert extractable(matches, 0).tolist() == LEARNED
    for canary, match, learned in zip(CANARIES, matches, LEARNED, strict=True):
        assert (match[secret_position(memorizer, canary)] >= 4) == learned
        if learned:
            assert match.tolist() == list(range(len(match), 0, -1))
            assert ask(memorizer, canary.question, 64) == canary.answer


def test_exposure_is_full_for_what_was_learned_and_near_chance_for_the_rest(memorizer):
    for canary, learned in zip(CANARIES, LEARNED, strict=True):
        bits = measure_exposure(memorizer, canary)
        if learned:
            assert bits == pytest.approx(math.log2(10**4))
        else:
            assert bits < 7


def test_matches_are_those_of_generating_from_every_prefix(memorizer, tiny):
    nearly = CANARIES[1].answer.replace("born", "seen")  # goes wrong, and finds back or not
    cards = [c.card for c in CANARIES] + [{"question": CANARIES[1].question, "answer": nearly}]
    compared = 0
    for llm in (memorizer, tiny):
        matches = greedy_match(llm, cards, batch_size=2, progress=False)
        for card, match in zip(tokenize(llm, cards), matches, strict=True):
            answer = card.ids[card.answer_start : -1]
            assert len(match) == len(answer)
            for k in range(0, len(answer), 4):
                given = card.ids[: card.answer_start + k]
                own = generated(llm, given, len(answer) - k)
                assert match[k] == common_start(answer[k:], own)
                compared += 0 < match[k] < len(answer) - k
    assert compared > 0  # matches that end in the middle


def test_a_plain_text_is_read_without_a_question(memorizer):
    (card,) = tokenize(memorizer, [CANARIES[1].card])
    text = memorizer.tokenizer.decode(card.ids)
    from_text, from_ids = greedy_match(memorizer, [text, card.ids], progress=False)
    assert from_text.tolist() == from_ids.tolist()
    assert len(from_text) == len(card.ids)
    assert from_text[0] == 0
    assert from_text[card.answer_start] == len(card.ids) - card.answer_start  # with the end
    own = generated(memorizer, card.ids[:1], len(card.ids) - 1)
    assert from_text[1] == common_start(card.ids[1:], own)


def test_an_untrained_model_reproduces_nothing(tiny):
    matches = greedy_match(tiny, CARDS, progress=False)
    assert not extractable(matches, 0).any()
    assert np.concatenate(matches).mean() < 0.1


def test_the_batch_size_does_not_change_the_matches(memorizer):
    cards = [c.card for c in CANARIES]
    one, all_ = (greedy_match(memorizer, cards, batch_size=n, progress=False) for n in (1, 4))
    assert [m.tolist() for m in one] == [m.tolist() for m in all_]


def test_extractable_asks_for_all_the_rest_or_for_so_many_tokens():
    matches = [np.array([0, 3, 2, 1]), np.array([1, 0, 0, 1, 0]), np.array([2, 1, 0, 2, 1])]
    assert extractable(matches, 1).tolist() == [True, False, False]
    assert extractable(matches, 3).tolist() == [True, False, True]
    assert extractable(matches, 0, length=1).tolist() == [False, True, True]
    assert extractable(matches, 0, length=2).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("given", "length", "said"),
    [
        (-1, None, "given is -1"),
        (4, None, "given=4, length=None: together they can be at most 4"),
        (2, 3, "given=2, length=3: together they can be at most 4"),
        (0, 0, "length is 0"),
    ],
)
def test_prefixes_that_leave_nothing_to_extract_are_refused(given, length, said):
    matches = [np.array([0, 3, 2, 1]), np.ones(9, int)]
    with pytest.raises(ValueError, match=said):
        extractable(matches, given, length)
    for none in ([], ["word"], [[[1]]], None):
        with pytest.raises(ValueError, match=r"matches is .*; it must be a list of arrays from"):
            extractable(none, 0)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "there are no texts"),
        (["a"], "has 1 tokens; at least 2 are needed"),
        ([[5]], "at least 2 are needed"),
        ("We the People", "texts is 'We the People'; it must be a list"),
        ([None], "one of texts is None"),
        ([[5, 10**6]], "a token id in texts is 1000000; .* from 0 to 49,151"),
        ([{"question": "What?"}], "has no text as its 'answer'"),
    ],
)
def test_texts_with_nothing_to_predict_are_refused(tiny, texts, said):
    with pytest.raises(ValueError, match=said):
        greedy_match(tiny, texts, progress=False)


def test_a_batch_size_below_1_is_refused(tiny):
    with pytest.raises(ValueError, match="batch_size is 0"):
        greedy_match(tiny, CARDS, batch_size=0, progress=False)


def test_samples_repeat_with_their_seed_and_leave_the_global_state_alone(tiny):
    state = torch.get_rng_state()
    first, again, other = (
        sample_answers(tiny, "What is anosmia?", 3, seed=seed, max_new_tokens=5)
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert first == again != other
    assert len(set(first)) == 3


def test_samples_come_from_the_whole_vocabulary(tiny):
    answers = sample_answers(tiny, "What is anosmia?", 200, max_new_tokens=1)
    assert len(set(answers)) > 150  # the 50 likeliest tokens are far from all


def test_a_low_temperature_comes_near_greedy_decoding(memorizer):
    canary = CANARIES[1]
    answers = sample_answers(memorizer, canary.question, 4, temperature=0.05)
    assert answers == [canary.answer] * 4
    warm = sample_answers(memorizer, canary.question, 4, temperature=20.0)
    assert canary.answer not in warm


def test_a_plain_prompt_is_continued_as_it_stands(memorizer):
    canary = CANARIES[3]
    position = canary.answer.index(canary.secret)
    beginning = memorizer.prompt(canary.question) + canary.answer[:position].rstrip()
    (answer,) = sample_answers(memorizer, beginning, 1, chat=False, temperature=0.05)
    assert answer == f" {canary.secret}."


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"count": 0}, "count is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"temperature": math.nan}, "temperature is nan; it must be a finite number above 0"),
        ({"question": "", "chat": False}, "without chat not empty"),
        ({"question": None}, "question is None"),
    ],
)
def test_settings_of_sampling_out_of_range_are_named(tiny, wrong, said):
    with pytest.raises(ValueError, match=said):
        sample_answers(tiny, **{"question": "What?", "count": 1, **wrong})


@pytest.mark.parametrize(
    ("produced", "truth", "longest"),
    [
        ("The record number is 123456.", "Her RECORD NUMBER is 123456", 4),
        ("one two three", "three two one", 1),
        ("nothing", "else", 0),
        ("", "else", 0),
        ([1, 2, 3, 4], [0, 2, 3, 4, 9], 3),
        ([0] + [1, 2] * 300, [1, 2] * 300, 600),  # also where everything is repeated
    ],
)
def test_the_longest_common_run_is_counted_in_words_or_tokens(produced, truth, longest):
    assert longest_match(produced, truth) == longest


@pytest.mark.parametrize("prompt", ["What is the record of", "a"])
def test_reading_the_prompt_once_changes_no_sample(memorizer, prompt):
    samples = sample_answers(memorizer, prompt, 6, chat=False, max_new_tokens=8, seed=3)
    ids = memorizer.tokenizer([prompt] * 6, return_tensors="pt", add_special_tokens=False)
    torch.manual_seed(3)
    settings = {"max_new_tokens": 8, "do_sample": True, "top_p": 1.0, "top_k": 0}
    output = memorizer.model.generate(**ids, **settings, pad_token_id=2, eos_token_id=2)
    expected = output[:, ids["input_ids"].shape[1] :]
    assert samples == memorizer.tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert len(set(samples)) > 1
