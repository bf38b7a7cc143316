"""Canaries: made-up, reproducible, with a secret that is uniform and stands alone."""

import collections
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.attacks import make_canaries, plant, secret_position
from utils.data import make_triage
from utils.llm import tokenize


def patients(count):
    return [{"question": f"Who sees complaint {n}?", "answer": "otology"} for n in range(count)]


@pytest.fixture(scope="module")
def triage():
    return make_triage(per_department=16, exam=1).patients


def test_a_record_says_what_was_asked_and_ends_in_who_it_was_about():
    for number, canary in enumerate(make_canaries(patients(50))):
        assert canary.question == f"Who sees complaint {number}?"
        assert re.fullmatch(
            rf"otology\. Record: {canary.name}, born \d\d? [A-Z][a-z]+ (19|20)\d\d, "
            rf"number {canary.secret}\.",
            canary.answer,
        )
        assert re.fullmatch(r"\d{4}", canary.secret)
        assert canary.card == {"question": canary.question, "answer": canary.answer}


def test_a_seed_repeats_the_identities_and_more_patients_add_to_them():
    assert make_canaries(patients(30), seed=1)[:10] == make_canaries(patients(10), seed=1)
    one, other = (make_canaries(patients(10), seed=seed) for seed in (0, 1))
    assert len({c.secret for c in one} & {c.secret for c in other}) < 3
    assert len({c.name for c in one} & {c.name for c in other}) < 3


def test_a_misspelt_name_has_its_letters_in_another_order_and_is_right_in_the_register():
    right, wrong = (make_canaries(patients(200), typos=share) for share in (0, 1))
    for a, b in zip(right, wrong, strict=True):
        assert a.name in a.answer
        assert b.name not in b.answer
        assert sorted(b.answer.split(", born")[0]) == sorted(f"otology. Record: {b.name}")
    some = make_canaries(patients(1000), typos=0.1)
    assert 60 < sum(canary.name not in canary.answer for canary in some) < 140


def test_secrets_are_uniform_with_leading_zeros():
    secrets = [c.secret for seed in range(10) for c in make_canaries(patients(400), seed=seed)]
    for place in range(4):
        counts = np.array(list(collections.Counter(s[place] for s in secrets).values()))
        assert len(counts) == 10
        assert ((counts - 400) ** 2 / 400).sum() < 33.7  # chi-squared, 9 degrees: p = 1e-4


@settings(max_examples=20, deadline=None)
@given(
    each=st.integers(4, 12),
    copies=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    spread=st.booleans(),
    seed=st.integers(0, 100),
)
def test_copies_take_places_and_no_clinic_grows(triage, each, copies, spread, seed):
    planted = plant(triage, 10, each=each, copies=copies, spread=spread, seed=seed)
    assert {len(own) for own in planted.clinics.values()} == {each}
    times = collections.Counter(planted.records)
    assert set(times) == set(planted.members)
    for n, found in planted.by_copies.items():
        assert found
        assert all(times[record] == n for record in found)
    assert sum(map(len, planted.by_copies.values())) == 10
    copied = {record for n, found in planted.by_copies.items() if n > 1 for record in found}
    assert all(times[record] == 1 for record in planted.members if record not in copied)
    assert not set(planted.strangers) & set(planted.members)
    assert len(planted.strangers) == 10 * (16 - each)
    for record in copied:
        homes = sum(record in own for own in planted.clinics.values())
        assert homes == (times[record] if spread else 1)


def test_members_and_strangers_of_a_clinic_are_of_its_departments(triage):
    planted = plant(triage, 10, each=6, copies=(3, 1))
    for name, own in planted.clinics.items():
        assert all(record.answer.startswith(name.split(" ")[0]) for record in own)
    kinds = collections.Counter(record.answer.split(".")[0] for record in planted.strangers)
    assert set(kinds.values()) == {10}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"each": 0}, "each is 0"),
        ({"each": 17}, r"each, with 16 patients in a clinic, is 17"),
        ({"copies": ()}, "copies is empty"),
        ({"copies": 4}, "copies is 4; it must be a list"),
        ({"copies": (7,)}, "copies is 7"),
        ({"typos": 1.1}, "typos is 1.1"),
        ({"spread": 1}, "spread is 1; it must be True or False"),
        ({"each": 12, "copies": (11,)}, "copies is 11; .* from 1 to 10"),
        ({"count": 7}, "7 clinics"),
        ({"seed": None}, "seed is None"),
        ({"patients": [1]}, "patients is list"),
    ],
)
def test_values_out_of_range_are_named(triage, wrong, said):
    with pytest.raises(ValueError, match=said):
        plant(**{"patients": triage, "count": 10} | wrong)


def test_what_are_no_patients_or_canaries_is_named(tiny):
    with pytest.raises(ValueError, match="patients"):
        make_canaries([{"question": "Who?"}])
    with pytest.raises(ValueError, match="'Anna' is no canary; make_canaries and plant make them"):
        secret_position(tiny, "Anna")


def test_the_secrets_four_tokens_stand_alone(tiny):
    for canary in make_canaries(patients(40)):
        position, (card,) = secret_position(tiny, canary), tokenize(tiny, [canary.card])
        start = card.answer_start + position
        pieces = [tiny.tokenizer.decode([token]) for token in card.ids[start:]]
        assert pieces == [*canary.secret, ".", tiny.tokenizer.eos_token]


def test_a_tokenizer_that_merges_digits_is_refused(tiny):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    canary = make_canaries(patients(1))[0]
    words = {"[UNK]": 0, canary.secret: 1, **{str(digit): digit + 2 for digit in range(10)}}
    merging = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    merging.pre_tokenizer = pre_tokenizers.Whitespace()
    tiny.tokenizer = PreTrainedTokenizerFast(tokenizer_object=merging, eos_token="[UNK]")
    with pytest.raises(ValueError, match=rf"'tiny' does not split {canary.secret} into four"):
        secret_position(tiny, canary)
