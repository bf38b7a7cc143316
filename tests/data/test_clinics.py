"""Cards dealt out to clinics."""

import itertools
from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.data import (
    load_cards,
    make_clinics,
    organ_system_of,
    shuffle_clinics,
    split_by_department,
)


@pytest.fixture(scope="module")
def train():
    return load_cards()["train"]


def terms(clinics):
    return Counter(term for own in clinics.values() for term in own["term"])


def test_twenty_clinics_hold_every_card_once(train):
    clinics = make_clinics(train, 20)
    assert len(clinics) == 20
    assert terms(clinics) == Counter(train["term"])


def test_a_clinic_has_the_organ_systems_of_its_name(train):
    for name, own in make_clinics(train, 20).items():
        assert set(own["organ_system"]) == set(organ_system_of(name).split(", "))


def test_large_systems_are_split_and_small_ones_joined(train):
    clinics = make_clinics(train, 20)
    share = len(train) / 20
    assert {"nervous system 1", "nervous system 2"} <= clinics.keys()
    assert any("voice" in name and "breast" in name for name in clinics)
    assert all(share / 2 <= len(own) <= 1.5 * share for own in clinics.values())


def test_shuffled_clinics_keep_their_sizes_and_lose_their_subjects(train):
    clinics = make_clinics(train, 20)
    shuffled = shuffle_clinics(clinics)
    assert [len(own) for own in shuffled.values()] == [len(own) for own in clinics.values()]
    assert terms(shuffled) == terms(clinics)
    assert all(len(set(own["organ_system"])) > 15 for own in shuffled.values())


def test_the_seed_deals_the_cards(train):
    some = train.select(range(500))
    dealt = [make_clinics(some, 5, seed=seed) for seed in (1, 1, 2)]
    firsts = [[own["term"][:] for own in clinics.values()] for clinics in dealt]
    assert firsts[0] == firsts[1] != firsts[2]
    again = [shuffle_clinics(dealt[0], seed=seed) for seed in (1, 1, 2)]
    orders = [[own["term"][:] for own in clinics.values()] for clinics in again]
    assert orders[0] == orders[1] != orders[2]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=60), st.data())
def test_any_cards_are_dealt_to_any_number_of_clinics(systems, data):
    count = data.draw(st.integers(1, len(systems)))
    cards = Dataset.from_list([{"term": i, "organ_system": s} for i, s in enumerate(systems)])
    clinics = make_clinics(cards, count)
    assert len(clinics) == count
    assert terms(clinics) == Counter(range(len(systems)))


@pytest.mark.parametrize("count", [0, 6])
def test_more_clinics_than_cards_are_refused(count, train):
    said = f"count of clinics for 5 cards is {count}; .* from 1 to 5"
    with pytest.raises(ValueError, match=said):
        make_clinics(train.select(range(5)), count)


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        (Dataset.from_list([{"question": "a"}]), r"cards is \['question'\]; .* 'organ_system'"),
        (None, "cards is NoneType"),
        (Dataset.from_list([{"organ_system": None}]), "card 0 has None as its organ_system"),
    ],
)
def test_cards_without_organ_systems_are_refused(cards, said):
    with pytest.raises(ValueError, match=said):
        make_clinics(cards, 1)


def test_a_clinic_named_wrongly_is_answered_with_its_neighbours(train):
    clinics = make_clinics(train, 20)
    with pytest.raises(ValueError, match="no clinic 'eyes'; names like it: eye"):
        clinics["eyes"]
    for wrong in ({}, None, {"eye": ["a card"]}):
        with pytest.raises(ValueError, match="Datasets by name"):
            shuffle_clinics(wrong)
    with pytest.raises(ValueError, match="clinic is None"):
        organ_system_of(None)


@pytest.fixture(scope="module")
def patients():
    departments = [name for name in "abcde" for _ in range(24)]
    return Dataset.from_dict({"department": departments, "number": range(120)})


@pytest.mark.parametrize(("count", "each"), [(5, 1), (20, 1), (10, 2), (20, 2), (5, 3), (5, 5)])
def test_departments_are_split_evenly_and_every_patient_is_in_one_clinic(patients, count, each):
    clinics = split_by_department(patients, count, each=each)
    assert len(clinics) == count
    assert sorted(n for own in clinics.values() for n in own["number"]) == list(range(120))
    sizes = [Counter(own["department"]) for own in clinics.values()]
    assert all(len(size) == each for size in sizes)
    shares = {n for size in sizes for n in size.values()}
    assert max(shares) - min(shares) <= 1


def test_departments_meet_different_neighbours(patients):
    together = {frozenset(c["department"]) for c in split_by_department(patients, each=2).values()}
    assert together == {frozenset(pair) for pair in itertools.combinations("abcde", 2)}


def test_the_seed_deals_the_patients(patients):
    first, again, other = (
        [own["number"] for own in split_by_department(patients, 10, seed=seed).values()]
        for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("count", "each", "said"),
    [
        (7, 1, "7 clinics of 1 departments cannot share 5 departments evenly; take a multiple"),
        (25, 2, "below 25"),
        (10, 6, "each of 5 departments is 6"),
        (0, 1, "count of clinics is 0"),
    ],
)
def test_departments_that_cannot_be_shared_say_why(patients, count, each, said):
    with pytest.raises(ValueError, match=said):
        split_by_department(patients, count, each=each)
    with pytest.raises(ValueError, match="a column 'department' is needed"):
        split_by_department(patients.remove_columns("department"))


def test_no_clinic_is_left_without_patients(patients):
    few = patients.select(range(0, 120, 10))
    with pytest.raises(ValueError, match=r"a has 3 patients, for 4 clinics; make more"):
        split_by_department(few, 20)
