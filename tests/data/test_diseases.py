"""Rare diseases as they are annotated."""

import math

import pytest

from utils.data import load_diseases
from utils.data.diseases import frequency


@pytest.fixture(scope="module")
def diseases():
    return load_diseases()


def test_there_are_twelve_thousand_and_their_columns_agree(diseases):
    assert 12_000 < len(diseases) < 13_000
    assert len(set(diseases["id"])) == len(diseases)
    for disease in diseases:
        sizes = {len(disease[name]) for name in ("findings", "frequencies", "organ_systems")}
        assert sizes == {len(set(disease["findings"]))}
        assert all(disease["organ_systems"])


def test_a_known_disease_has_its_findings_with_their_frequencies(diseases):
    (row,) = [d for d in diseases if d["name"] == "Huntington disease" and "ORPHA" in d["id"]]
    share = dict(zip(row["findings"], row["frequencies"], strict=True))
    assert share["Chorea"] == 0.895  # very frequent: 80 to 99% of patients
    systems = dict(zip(row["findings"], row["organ_systems"], strict=True))
    assert systems["Chorea"] == ["nervous system"]


def test_what_patients_do_not_have_is_no_finding(diseases):
    rows = {d["id"]: d["findings"] for d in diseases}
    assert "Motor delay" not in rows["ORPHA:1401"]  # CHAND syndrome, annotated as NOT
    assert "Ankyloblepharon" in rows["ORPHA:1401"]
    assert "Autosomal dominant inheritance" not in {f for found in rows.values() for f in found}


@pytest.mark.parametrize(
    ("field", "share"),
    [("3/4", 0.75), ("0/2", 0.0), ("17%", 0.17), ("12.5%", 0.125), ("HP:0040283", 0.17)],
)
def test_frequencies_are_read_as_shares(field, share):
    assert frequency(field) == pytest.approx(share)


def test_no_frequency_is_not_a_number():
    assert math.isnan(frequency(""))


@pytest.mark.parametrize("field", ["often", "3/0", "5/4", "-1/4", "120%", "1/2/3", "x%", None])
def test_what_is_no_frequency_is_named(field):
    with pytest.raises(ValueError, match=r"frequency is .*'3/7'"):
        frequency(field)
