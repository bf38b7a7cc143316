"""Simulated patients: what the exams may and may not share with the patients to learn from."""

import re
from collections import Counter

import pytest

from utils.data import (
    DEPARTMENTS,
    SPECIALTIES,
    load_cards,
    load_diseases,
    make_rare_diseases,
    make_triage,
    shared_parts,
)


def told(question):
    """The complaints or findings of a question."""
    return re.split(r", | and ", re.match(r"A patient has (.*)\. Wh", question)[1])


@pytest.fixture(scope="module")
def triage():
    return make_triage(40, 12)


@pytest.fixture(scope="module")
def rare():
    return make_rare_diseases(8, 3)


@pytest.fixture(scope="module")
def cards():
    return [card for split in load_cards().values() for card in split]


def as_asked(card):
    return card["question"].removeprefix("What is ").removesuffix("?")


def test_every_department_has_as_many_patients_and_questions(triage):
    assert Counter(triage.patients["answer"]) == dict.fromkeys(DEPARTMENTS, 40)
    for quiz in triage.exams.values():
        assert Counter(q.group for q in quiz) == dict.fromkeys(DEPARTMENTS, 12)
        assert {tuple(q.options) for q in quiz} == {tuple(DEPARTMENTS)}
        assert all(q.options[q.right] == q.group for q in quiz)


def test_complaints_belong_to_the_department_and_to_no_other(triage, cards):
    systems = {as_asked(card): card["organ_systems"] for card in cards}
    for row in triage.patients.select(range(100)):
        match = re.match(r"A patient has (.*) and (.*)\. Which", row["question"])
        for complaint in match.groups():
            if complaint in systems:  # a term may itself say "and"
                assert systems[complaint] == [DEPARTMENTS[row["answer"]]]


def test_no_family_of_complaints_stands_on_both_sides(triage, cards):
    family = {as_asked(card): card["family"] for card in cards}
    sides = [triage.patients["question"], [q.question for q in triage.exams["clinical"]]]
    learned, examined = (
        {family[part] for question in side for part in told(question) if part in family}
        for side in sides
    )
    assert len(learned) > 200
    assert len(examined) > 100
    assert not learned & examined


def test_lay_words_are_those_that_training_never_showed(triage, cards):
    lay = {text.lower() for card in cards for text in card["lay_terms"]}
    clinical = {as_asked(card).lower() for card in cards}
    parts = [part.lower() for q in triage.exams["lay"] for part in told(q.question)]
    assert sum(part in lay for part in parts) > 0.8 * len(parts)  # the others hold an "and"
    term = {text.lower(): card["term"] for card in cards for text in card["lay_terms"]}
    assert not [part for part in parts if part in term and shared_parts(part, term[part])]
    learned = {part.lower() for question in triage.patients["question"] for part in told(question)}
    assert not set(parts) & learned
    assert sum(part in clinical for part in parts) < 0.05 * len(parts)


def test_a_complaint_comes_again_only_when_all_have_come(triage):
    for quiz in triage.exams.values():
        for department in DEPARTMENTS:
            asked = [q.question for q in quiz if q.group == department]
            assert len(set(asked)) == len(asked)


def test_rare_patients_have_findings_of_their_disease(rare):
    known = {disease["name"]: set(disease["findings"]) for disease in load_diseases()}
    names = Counter(rare.patients["answer"])
    assert len(names) == 6 * len(SPECIALTIES)
    assert set(names.values()) == {8}
    for row in rare.patients:
        findings = {text.lower() for text in known[row["answer"]]}
        parts = re.match(r"A patient has (.*)\. What", row["question"])[1].lower()
        assert sum(finding in parts for finding in findings) >= 5


def test_no_finding_repeats_the_name_of_its_disease(rare):
    for row in rare.patients:
        said = row["question"].removesuffix("What is the diagnosis?")
        assert not shared_parts(row["answer"], said.replace("patient", ""))


def test_options_are_of_one_specialty_and_in_any_place(rare):
    specialty = dict(zip(rare.patients["answer"], rare.patients["department"], strict=True))
    for q in rare.exams["rare"]:
        assert len(set(q.options)) == 4
        assert {specialty[name] for name in q.options} == {q.group}
    places = Counter(q.right for q in rare.exams["rare"])
    assert min(places.values()) > 0.12 * len(rare.exams["rare"])


def test_new_patients_are_new(rare):
    learned = set(rare.patients["question"])
    assert not learned & {q.question for q in rare.exams["rare"]}


def test_the_seed_repeats_the_patients(triage, rare):
    assert make_triage(40, 12).exams == triage.exams
    assert make_triage(40, 12, seed=1).exams != triage.exams
    assert make_rare_diseases(8, 3).exams == rare.exams


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: make_triage(0), "per_department is 0"),
        (lambda: make_triage(exam=1.5), "exam is 1.5"),
        (lambda: make_rare_diseases(diseases=3), "diseases is 3"),
        (lambda: make_rare_diseases(diseases=400), "diseases=400 is too many; the ontology has"),
        (lambda: make_rare_diseases(seed=-1), "seed is -1"),
    ],
)
def test_numbers_out_of_range_are_named(make, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        make()
