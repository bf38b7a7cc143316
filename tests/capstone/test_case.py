"""The case that entries are scored on."""

from collections import Counter

import pytest

from utils.capstone.case import CARELESS, CLINICS, COPIED, COPIES, make_case

CASE = make_case(21)


def of_role(role):
    return [clinic for clinic in CASE.clinics if clinic.role == role]


def test_one_seed_makes_one_case_and_another_another():
    assert make_case(21) == CASE
    assert make_case(22).clinics[0].records != CASE.clinics[0].records


def test_there_are_twenty_clinics_four_careless_one_that_crashes_one_that_lies():
    roles = Counter(clinic.role for clinic in CASE.clinics)
    assert roles == {
        "honest": CLINICS - CARELESS - 2,
        "careless": CARELESS,
        "crashes": 1,
        "lies": 1,
    }


def test_only_careless_clinics_leave_identifiers_in_and_copy():
    for clinic in CASE.clinics:
        triage = [r["answer"] for r in clinic.records if r["question"].endswith("see them?")]
        named = [any(letter.isdigit() for letter in answer) for answer in triage]
        copies = sorted(Counter(clinic.patients).values())[-COPIED:]
        if clinic.role == "careless":
            assert all(named)
            assert copies == [COPIES] * COPIED
        else:
            assert not any(named)
            assert set(copies) == {1}


def test_copies_of_a_record_differ_at_most_in_the_order_of_complaints():
    for clinic in of_role("careless"):
        times = Counter(clinic.patients)
        for patient in (p for p, n in times.items() if n == COPIES):
            own = [r for r, p in zip(clinic.records, clinic.patients, strict=True) if p == patient]
            assert len({r["answer"] for r in own}) == 1
            words = {tuple(sorted(r["question"].replace(".", "").split())) for r in own}
            assert len(words) == 1
            assert len({r["question"] for r in own}) <= 2


def test_planted_records_stand_in_the_clinics_and_the_never_planted_nowhere():
    everywhere = [tuple(r.values()) for clinic in CASE.clinics for r in clinic.records]
    for planted in CASE.copied:
        assert tuple(planted.record.values()) in everywhere
    answers = {answer for _, answer in everywhere}
    assert not [one for one in CASE.never if one.record["answer"] in answers]
    assert len(CASE.copied) == CARELESS * COPIED


def test_no_answer_depends_on_a_question_of_the_exams():
    """No question of an exam occurs among the records, public ones among them."""
    records = [r for clinic in CASE.clinics for r in [*clinic.records, *clinic.strangers]]
    known = {r["question"] for r in [*records, *CASE.public]}
    assert not [q for quiz in CASE.exams.values() for q in quiz if q.question in known]


def test_every_answer_begins_with_exactly_one_label():
    labels = CASE.labels["departments"] + CASE.labels["diseases"]
    for clinic in CASE.clinics:
        for record in clinic.records:
            begins = [label for label in labels if record["answer"].startswith(label)]
            assert max(begins, key=len)
    options = {option for quiz in CASE.exams.values() for q in quiz for option in q.options}
    assert options <= set(labels)


@pytest.mark.parametrize("seed", [21, 305])  # in case 305 two patients had the same complaints
def test_no_two_patients_of_a_clinic_have_the_same_complaints(seed):
    for clinic in make_case(seed).clinics:
        owners: dict[tuple, set[int]] = {}
        for record, patient in zip(clinic.records, clinic.patients, strict=True):
            words = record["question"].replace(".", "").split()
            key = tuple(words if "diagnosis?" in words else sorted(words))
            owners.setdefault(key, set()).add(patient)
        assert all(len(some) == 1 for some in owners.values())


def test_strangers_are_nobodys_patients():
    for clinic in CASE.clinics:
        assert not [r for r in clinic.strangers if r in clinic.records]


def test_public_patients_are_a_hundred_and_bring_no_labels():
    assert [list(record) for record in CASE.public] == [["question"]] * 100


def test_a_seed_is_a_whole_number():
    with pytest.raises(ValueError, match="seed"):
        make_case(-1)
