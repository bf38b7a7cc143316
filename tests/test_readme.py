"""The README's tables say what the lessons say."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from utils.readme import (
    BEGIN,
    END,
    PICTURES,
    lesson_tables,
    picture,
    write_lessons,
    write_pictures,
)

ROOT = Path(__file__).parents[1]
START = "start_lesson('Part 1, L1 Why', minutes=1.25, threads=1)"
OPENING = "# L1 Why\n\nHospitals. **Why\nso?** And how."


def lesson(root, path, opening=OPENING, start=START, printed="Headline: early\nHeadline: 3 | 4\n"):
    cell = new_code_cell(start, outputs=[new_output("stream", text=printed)])
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell(opening), cell]), root / path)


def test_the_committed_readme_tells_what_the_committed_lessons_found():
    assert lesson_tables(ROOT) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_row_holds_question_minutes_and_the_last_headline(tmp_path):
    lesson(tmp_path, "Part01/L1/L1_why.ipynb")
    further = "# L1, more: a circle\n\n**What is round?**"
    lesson(tmp_path, "Part01/L1/L1_more_circle.ipynb", further, "start_lesson('', minutes=0.5)")
    lesson(tmp_path, "Part01/L1/L1_solutions.ipynb", "# no lesson")
    cores, more = lesson_tables(tmp_path).split("Some lessons go further")
    assert "| [Part 1, L1](Part01/L1/L1_why.ipynb) Why | Why so? | 1¼ | 3 &#124; 4 |" in cores
    assert "(Part01/L1/L1_more_circle.ipynb) a circle | What is round? | ½ |" in more
    assert "solutions" not in cores + more


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        ({"opening": "# L1 Why\n\nNo question."}, "question in bold"),
        ({"start": "start_lesson('')"}, "minutes"),
        ({"printed": "nothing"}, "headline"),
        ({"opening": "# Why **so?**"}, "title"),
    ],
)
def test_what_a_lesson_lacks_is_named_and_the_readme_stays(tmp_path, without, missing):
    lesson(tmp_path, "Part01/L1/L1_why.ipynb", **without)
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}{END}")
    with pytest.raises(ValueError, match=f"Part01/L1/L1_why.ipynb has no {missing}"):
        write_lessons(readme)
    assert readme.read_text() == f"{BEGIN}{END}"


def test_only_the_tables_are_written_and_only_if_they_changed(tmp_path):
    lesson(tmp_path, "Part01/L1/L1_why.ipynb")
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN} old {END}\nafter\n")
    assert write_lessons(readme)
    assert readme.read_text() == f"before\n{lesson_tables(tmp_path)}\nafter\n"
    assert not write_lessons(readme)
    readme.write_text("no place")
    with pytest.raises(ValueError, match="has no place for the lessons"):
        write_lessons(readme)


@pytest.mark.parametrize(
    ("minutes", "told"), [(0.05, "¼"), (0.7, "¾"), (1, "1"), (2.5, "2½"), (2.9, "3"), (10, "10")]
)
def test_minutes_are_told_in_quarters(tmp_path, minutes, told):
    start = f"start_lesson('', minutes={minutes})"
    lesson(tmp_path, "Part01/L1/L1_why.ipynb", start=start)
    assert f"| {told} |" in lesson_tables(tmp_path)


@pytest.mark.parametrize("name", PICTURES)
def test_a_committed_picture_is_the_committed_notebooks_and_the_readme_shows_it_in_words(name):
    assert (ROOT / name).read_bytes() == picture(ROOT, *PICTURES[name])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"\[!\[[^\]]{{40,}}\]\({name}\)\]\({PICTURES[name][0]}\)", readme)


def test_pictures_are_written_once_and_a_missing_figure_is_named(tmp_path, monkeypatch):
    drawn = [new_output("display_data", data={"image/png": "aGk="}) for _ in range(2)]
    cells = [new_code_cell("", outputs=drawn[:1]), new_code_cell("", outputs=drawn[1:])]
    nbformat.write(new_notebook(cells=cells), tmp_path / "some.ipynb")
    monkeypatch.setattr("utils.readme.PICTURES", {"figures/a.png": ("some.ipynb", 2)})
    assert write_pictures(tmp_path) == ["figures/a.png"]
    assert (tmp_path / "figures/a.png").read_bytes() == b"hi"
    assert write_pictures(tmp_path) == []
    for number in (0, 3):
        with pytest.raises(ValueError, match=rf"some.ipynb has no figure {number}; it has 2"):
            picture(tmp_path, "some.ipynb", number)
