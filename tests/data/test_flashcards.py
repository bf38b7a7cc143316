"""The cards, their split, and the quiz."""

import numpy as np
import pytest
from datasets import Dataset
from flwr_datasets.partitioner import NaturalIdPartitioner
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from utils import caching
from utils.data import Quiz, load_cards, make_quiz, shared_parts
from utils.data.flashcards import SIMILAR, tfidf


@pytest.fixture(scope="module")
def cards():
    return load_cards()


def test_there_are_thousands_of_cards_under_real_organ_systems(cards):
    assert 13_000 < len(cards["train"]) < 15_000
    assert 0.07 < len(cards["held_out"]) / len(cards["train"]) < 0.13
    systems = set(cards["train"]["organ_system"])
    assert {"cardiovascular system", "nervous system", "eye"} <= systems
    assert len(systems) == 23


def test_a_known_card_is_complete(cards):
    rows = [row for split in cards.values() for row in split if row["term"] == "Hemiplegia"]
    (card,) = rows
    assert card["question"] == "What is hemiplegia?"
    assert card["answer"].startswith("Paralysis (complete loss of muscle function) in the arm")
    assert card["organ_system"] == "nervous system"
    assert card["lay_terms"] == ["Paralysis on one side of body"]


def test_cards_are_clean(cards):
    for row in (row for split in cards.values() for row in split):
        assert "obsolete" not in row["term"].lower()
        assert 4 <= len(row["answer"].split()) <= 80
        assert "  " not in row["answer"]
        assert '\\"' not in row["answer"]
        assert row["organ_system"] in row["organ_systems"]


def test_near_duplicates_do_not_straddle_the_split(cards):
    texts = {
        name: [f"{c['term']}. {c['term']}. {c['answer']}" for c in split]
        for name, split in cards.items()
    }
    vectors = tfidf(texts["train"] + texts["held_out"])
    train, held_out = vectors[: len(texts["train"])], vectors[len(texts["train"]) :]
    assert (held_out @ train.T).max() < SIMILAR
    assert not set(cards["train"]["family"]) & set(cards["held_out"]["family"])
    families = len(set(cards["train"]["family"]))
    assert families < 0.8 * len(cards["train"])  # there are families to keep together


def test_a_random_split_would_have_straddled(cards):
    """The test above can fail: within the training cards, near-duplicates are common."""
    some = tfidf([f"{c['term']}. {c['term']}. {c['answer']}" for c in cards["train"]])
    likeness = (some[:500] @ some[500:].T).max(axis=1).toarray()
    assert (likeness >= SIMILAR).mean() > 0.1


def test_flower_partitions_them_by_organ_system(cards):
    partitioner = NaturalIdPartitioner(partition_by="organ_system")
    partitioner.dataset = cards["train"]
    assert partitioner.num_partitions == 23
    for i in (0, 7):
        assert len(set(partitioner.load_partition(i)["organ_system"])) == 1


def test_a_truncated_cache_is_rebuilt_as_it_was(monkeypatch, tmp_path, cards):
    monkeypatch.setattr(caching, "CACHE_DIR", tmp_path)
    load_cards()
    (file,) = tmp_path.glob("hpo-*/train.parquet")
    file.write_bytes(file.read_bytes()[:1000])
    again = load_cards()
    assert again["train"][:100] == cards["train"][:100]
    assert again["held_out"].num_rows == cards["held_out"].num_rows


def test_quiz_options_are_plausible(cards):
    by_answer = {}
    for row in cards["train"]:
        by_answer.setdefault(row["answer"], []).append(row)
    quiz = make_quiz(cards["train"], 150)
    ratios = []
    for q in quiz:
        assert len(set(q.options)) == 4
        right = q.options[q.right]
        assert any(row["question"] == q.question for row in by_answer[right])
        for i, option in enumerate(q.options):
            assert any(row["organ_system"] == q.group for row in by_answer[option])
            if i != q.right:
                ratios.append(len(option) / len(right))
    assert 0.8 < np.median(ratios) < 1.25
    assert np.bincount([q.right for q in quiz], minlength=4).min() > 20  # no favourite place
    longest = np.mean([max(q.options, key=len) == q.options[q.right] for q in quiz])
    assert longest < 0.4  # length alone does not tell


def guesses_right(quiz):
    """The chance that who only looks for the question's words finds the right option."""
    shares = []
    for q in quiz:
        clues = [shared_parts(q.question, option) for option in q.options]
        most = max(clues)
        shares.append((clues[q.right] == most) / clues.count(most))
    return np.mean(shares)


def test_words_of_the_question_do_not_give_the_answer_away(cards):
    assert guesses_right(make_quiz(cards["train"], 150)) < 0.3
    assert guesses_right(make_quiz(cards["train"], 150, clues=True)) > 0.7


def test_a_guesser_who_never_reads_the_question_gains_nothing(cards):
    """Options with and without clues differ in style: whoever mixes them gives the answer away."""

    def no_clue(card):
        return not shared_parts(card["question"], card["answer"])

    known, new = cards["train"].select(range(4000)), cards["train"].select(range(4000, 14_000))
    guesser = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10))
    guesser.fit(known["answer"], [no_clue(card) for card in known])

    def score(quiz):
        return np.mean([guesser.predict_proba(q.options)[:, 1].argmax() == q.right for q in quiz])

    quiz = make_quiz(new, 300)
    assert score(quiz) < 0.32
    clues = iter([card["answer"] for card in new if not no_clue(card)])
    mixed = [
        Quiz(q.question, [q.options[q.right], *(next(clues) for _ in range(3))], 0, "")
        for q in quiz
    ]
    assert score(mixed) > 0.4  # the guesser does see the difference


def test_clues_are_runs_of_five_letters_within_words():
    assert shared_parts("What is cardiomyopathy?", "A disease of the Cardiac muscle.") == 1
    assert shared_parts("What is a short face?", "A lack of a fine voice.") == 0


def test_the_same_seed_gives_the_same_quiz(cards):
    first, again, other = (make_quiz(cards["held_out"], 20, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_quiz_that_cannot_be_made_says_why(cards):
    with pytest.raises(ValueError, match=r"count of questions on .* is 0"):
        make_quiz(cards["held_out"], 0)
    same = Dataset.from_list([{**cards["train"][0]}] * 10)
    with pytest.raises(ValueError, match="only 0 of 5 questions"):
        make_quiz(same, 5)
    with pytest.raises(ValueError, match="has no text as its 'family'"):
        make_quiz([{"question": "a", "answer": "b", "organ_system": "c"}], 1)
    with pytest.raises(ValueError, match="question and answer must be text"):
        shared_parts("What?", None)
