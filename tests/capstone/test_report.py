"""Result files, the table, the figure, the seal, the command."""

import json

import numpy as np
import pytest

from utils.capstone import report
from utils.capstone.__main__ import FOLDER, main
from utils.capstone.rooms import Entry
from utils.capstone.scoring import BUDGETS, Score, read_entry, result_of
from utils.capstone.sealing import seal, unseal

EXAMS = {"clinical": 0.8, "lay": 0.6, "rare": 0.4}
LEAKS = {"copied": 3.0, "never": 1.0, "outsider": 0.6, "server": 0.9}


def one(seed=1, **spent):
    return Score(seed, EXAMS, {"MB": 5.0, "ε": 8.0, "minutes": 1.0} | spent, LEAKS, rounds=3)


def result(name, *scores):
    return result_of(Entry(name, f"# {name}"), list(scores))


def test_a_result_that_is_written_is_read_again_whole(tmp_path):
    path = report.write_result(result("mine", one(), one(2, ε=float("inf"))), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert json.loads(path.read_text(), parse_constant=pytest.fail)  # plain JSON
    found = report.read_result(path)
    assert found["scores"] == [one(), one(2, ε=float("inf"))]
    assert found["scores"][0].utility == pytest.approx(0.6)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"scores": []}', '{"scores": [{"seed": 1}]}'])
def test_a_file_that_is_no_result_is_named(tmp_path, text):
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(report.ResultError, match=r"odd\.json is no result"):
        report.read_results([tmp_path])


def test_budgets_count_on_every_seed(tmp_path):
    both = result("a", one()), result("b", one(), one(2, MB=12.1))
    kept, broken = (report.read_result(report.write_result(some, tmp_path)) for some in both)
    assert report.within(kept)
    assert not report.within(broken)
    assert one(2, MB=12.1, minutes=7.0).broken.keys() == {"MB", "minutes"}
    assert set(BUDGETS) == {"MB", "ε", "minutes"}


def test_entries_within_their_budgets_come_first_then_the_most_useful(tmp_path):
    low = one()
    low.exams = {"clinical": 0.1, "lay": 0.1, "rare": 0.1}
    for some in (result("cheap", low), result("good", one()), result("over", one(MB=99.0))):
        report.write_result(some, tmp_path)
    found = report.read_results([tmp_path])
    assert [each["entry"] for each in found] == ["good", "cheap", "over"]
    shown = report.table(found)
    assert list(shown["verdict"]) == ["within", "within", "breaks MB"]
    assert shown["utility"][0] == pytest.approx(0.6)


def test_a_refused_entry_has_a_row_and_no_mark(tmp_path):
    report.write_result(result("cheat", Score(1, refused="refused: it opened a socket")), tmp_path)
    report.write_result(result("fair", one()), tmp_path)
    found = report.read_results([tmp_path])
    assert set(report.table(found)["verdict"]) == {"refused", "within"}
    drawn = report.figure(found)
    assert [text.get_text() for text in drawn.axes[0].texts] == ["1"]
    legend = drawn.axes[1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["1 fair"]
    assert "socket" in report.in_words(found[1]["scores"][0])


def test_what_luck_does_is_what_luck_does():
    """An attack that knows nothing, tried often: 5% lie outside of the figure's grey bands."""
    draw, (auc, bits) = np.random.default_rng(0), report.luck()
    members = draw.normal(size=(2000, 2, 54))
    wins = (members[:, 0, :, None] > members[:, 1, None, :]).mean((1, 2))
    assert 0.03 < (abs(wins - 0.5) > auc).mean() < 0.07
    ranks = draw.integers(1, 129, size=(2000, 20))
    exposure = 7 - np.log2(ranks)
    apart = exposure[:, :8].mean(1) - exposure[:, 8:].mean(1)
    assert 0.02 < (abs(apart) > bits).mean() < 0.08


def test_the_budgets_told_are_the_budgets_kept():
    told = (FOLDER / "capstone.ipynb").read_text(encoding="utf-8")
    for words in ("| traffic | {MB:g} MB |", "ε = {ε:g}, δ", "| computing | {minutes:g} minutes |"):
        assert words.format(**BUDGETS) in told


def test_words_say_which_budget_was_broken_and_by_how_much():
    said = report.in_words(one(MB=24.0, ε=float("inf")))
    assert "MB 24 of 12, 2.0 times the budget" in said
    assert "ε ∞ of 8, beyond the budget" in said
    assert "minutes 1 of 6;" in said


def test_what_is_sealed_is_unsealed_and_damage_is_named(tmp_path):
    path = tmp_path / "strong.sealed"
    path.write_text(seal("print('é')"))
    assert unseal(path) == Entry("strong", "print('é')")
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ValueError, match="is no sealed entry"):
        unseal(path)


def test_an_entry_that_cannot_be_read_or_is_too_long_is_told_so(tmp_path, capsys):
    assert main([str(tmp_path / "none.py")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    (tmp_path / "long.py").write_text("#" * 100_001)
    assert main([str(tmp_path / "long.py")]) == 2
    assert "what it knows, it learns" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["x.py", "--seeds", "0"])


def test_the_references_can_be_read_and_their_results_are_theirs():
    """A reference that was changed must be scored anew."""
    import hashlib

    kept = {one["entry"]: one for one in report.read_results([FOLDER / "results"])}
    for name in ("naive", "sensible"):
        entry = read_entry(FOLDER / "references" / f"{name}.py")
        assert kept[name]["sha256"] == hashlib.sha256(entry.source.encode()).hexdigest()
        assert len(kept[name]["scores"]) == 5
    strong = unseal(FOLDER / "references" / "strong.sealed")
    assert kept["strong"]["sha256"] == hashlib.sha256(strong.source.encode()).hexdigest()
    for three in zip(*(kept[n]["scores"] for n in ("naive", "sensible", "strong")), strict=True):
        assert len({one.seed for one in three}) == 1
        assert [one.utility for one in three] == sorted(one.utility for one in three)
