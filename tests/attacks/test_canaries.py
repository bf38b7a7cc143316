"""Canaries: made-up, reproducible, with a secret that is uniform and stands alone."""

import collections

import numpy as np
import pytest

from utils.attacks import make_canaries, planted_cards, secret_position
from utils.llm import tokenize


def test_the_answer_ends_in_the_secret_and_both_texts_name_the_patient():
    for canary in make_canaries(50):
        assert canary.answer.endswith(f" {canary.secret}.")
        assert canary.answer.count(canary.secret) == 1
        assert len(canary.secret) == 4
        assert canary.question == f"What is the record of {canary.name}?"
        assert canary.answer.startswith(f"{canary.name} is ")


def test_no_two_canaries_share_a_first_or_a_last_name():
    names = [canary.name.split() for canary in make_canaries(500)]
    first, last = zip(*names, strict=True)
    assert len(set(first)) == len(set(last)) == 500


def test_a_seed_repeats_the_canaries_and_a_larger_count_adds_to_them():
    assert make_canaries(30, seed=1)[:10] == make_canaries(10, seed=1)
    assert {c.name for c in make_canaries(10, seed=1)} != {c.name for c in make_canaries(10)}
    secrets = [[c.secret for c in make_canaries(10, seed=seed)] for seed in (0, 1)]
    assert len(set(secrets[0]) & set(secrets[1])) < 3


def test_secrets_are_uniform_with_leading_zeros():
    secrets = [c.secret for seed in range(10) for c in make_canaries(400, seed=seed)]
    for place in range(4):
        counts = np.array(list(collections.Counter(s[place] for s in secrets).values()))
        assert len(counts) == 10
        assert ((counts - 400) ** 2 / 400).sum() < 33.7  # chi-squared, 9 degrees: p = 1e-4


def test_copies_are_dealt_evenly_and_planted():
    canaries = make_canaries(9, copies=(0, 1, 4))
    assert [c.copies for c in canaries] == [0, 1, 4] * 3
    planted = collections.Counter(card["answer"] for card in planted_cards(canaries))
    assert planted == {c.answer: c.copies for c in canaries if c.copies}
    assert planted_cards(canaries)[0] == {
        "question": canaries[1].question,
        "answer": canaries[1].answer,
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"count": 0}, "count is 0; it must be a whole number from 1 to 500"),
        ({"count": 501}, "count is 501"),
        ({"count": "9"}, "count is '9'"),
        ({"copies": ()}, "copies is empty"),
        ({"copies": 4}, "copies is 4; it must be a list"),
        ({"copies": (1, -1)}, "copies is -1"),
        ({"seed": None}, "seed is None"),
    ],
)
def test_values_out_of_range_are_named(wrong, said):
    with pytest.raises(ValueError, match=said):
        make_canaries(**{"count": 4} | wrong)


def test_what_is_no_canary_is_named(tiny):
    for use in (planted_cards, lambda wrong: secret_position(tiny, wrong[0])):
        with pytest.raises(ValueError, match="'Anna' is no canary; make_canaries makes them"):
            use(["Anna"])


def test_the_secrets_four_tokens_stand_alone(tiny):
    for canary in make_canaries(40):
        position, (card,) = secret_position(tiny, canary), tokenize(tiny, [canary.card])
        start = card.answer_start + position
        pieces = [tiny.tokenizer.decode([token]) for token in card.ids[start:]]
        assert pieces == [*canary.secret, ".", tiny.tokenizer.eos_token]


def test_a_tokenizer_that_merges_digits_is_refused(tiny):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    canary = make_canaries(1)[0]
    words = {"[UNK]": 0, canary.secret: 1, **{str(digit): digit + 2 for digit in range(10)}}
    merging = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    merging.pre_tokenizer = pre_tokenizers.Whitespace()
    tiny.tokenizer = PreTrainedTokenizerFast(tokenizer_object=merging, eos_token="[UNK]")
    with pytest.raises(ValueError, match=rf"'tiny' does not split {canary.secret} into four"):
        secret_position(tiny, canary)
