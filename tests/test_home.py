"""The home page: every lesson with its link, its question and how far one has come."""

import json
import os
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from utils import home
from utils.contents import lesson_paths, read_lesson
from utils.home import contents, state_of, write_home
from utils.logbook import VARIABLE

ROOT = Path(__file__).parents[1]
START = 'start_lesson("Part 1, L1 Why", minutes=1.25, threads=1)'
CELLS = (
    'checkpoint("It is {value}.", 1, equals=1)\ncheckpoint("So: {value}.", 1, equals=1)',
    'for name in "ab":\n    checkpoint(f"{name}: {value}", 1, equals=1)',
    "def double(x):\n    return ...\n\n\ncheck_double(double)",
    "check_half(0.5)\ncheck_half(0.5)",
)
OPENING = (
    "# L1 Why\n\nHospitals. **Why | so?**\n\n**Time** about a minute to run; an hour to study."
)


def lesson(root, path="Part01/L1/L1_why.ipynb", opening=OPENING, start=START, cells=CELLS):
    parts = [new_markdown_cell(opening), *(new_code_cell(c) for c in (start, *cells))]
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=parts), root / path)
    return root / path


# What a lesson says of itself --------------------------------------------------------------------


def test_a_lesson_is_read_off_its_notebook(tmp_path):
    found = read_lesson(lesson(tmp_path), tmp_path)
    assert (found.part, found.number, found.name, found.running) == (1, "L1", "Why", 1.25)
    assert (found.title, found.question, found.study) == ("Part 1, L1 Why", "Why | so?", 60)
    assert found.claims == {"It is {value}.", "So: {value}."}
    assert found.checks == ("check_double", "check_half")
    assert not found.further


@pytest.mark.parametrize(
    ("told", "minutes"),
    [
        ("half an hour to study", 30),
        ("about three quarters of an hour to study", 45),
        ("50 minutes of study", 50),
        ("an hour and a half to study", 90),
        ("long", None),
    ],
)
def test_study_time_is_read_in_minutes(tmp_path, told, minutes):
    opening = f"# L1 Why\n\n**So?** **Time** about 3 minutes to run on 2 CPU cores; {told}."
    assert read_lesson(lesson(tmp_path, opening=opening), tmp_path).study == minutes


def test_a_cell_that_a_learner_left_unfinished_is_passed_over(tmp_path):
    path = lesson(tmp_path, cells=("def double(x", "%time x = 1", *CELLS))
    assert len(read_lesson(path, tmp_path).checks) == 2


def test_every_lesson_of_the_course_tells_everything():
    lessons = [read_lesson(path, ROOT) for path in lesson_paths(ROOT)]
    assert all(lesson.study and lesson.claims for lesson in lessons)
    assert len({lesson.title for lesson in lessons}) == len(lessons), "progress goes by title"
    assert [lesson.further for lesson in lessons[:3]] == [False, False, True]


# The page ----------------------------------------------------------------------------------------

ALL = {"It is {value}.": "passed", "So: {value}.": "passed", "a: {value}": "passed"}


@pytest.mark.parametrize(
    ("entry", "state"),
    [
        ({}, "not begun"),
        ({"begun": {}}, "begun: 0 of 2 checkpoints, 0 of 2 exercises"),
        (
            {"checkpoints": {"It is {value}.": "passed", "An old claim.": "passed"}},
            "begun: 1 of 2 checkpoints, 0 of 2 exercises",
        ),
        (
            {"checkpoints": ALL, "exercises": {"check_double": "Right", "check_half": "Not yet"}},
            "begun: 2 of 2 checkpoints, 1 of 2 exercises",
        ),
        (
            {"checkpoints": ALL, "exercises": {"check_double": "Right", "check_half": "Right"}},
            "**done**",
        ),
    ],
)
def test_a_state_counts_what_the_lesson_has(tmp_path, entry, state):
    assert state_of(read_lesson(lesson(tmp_path), tmp_path), entry) == state


def test_the_page_links_lessons_and_says_where_to_go_on(tmp_path):
    lesson(tmp_path)
    second = START.replace("L1 Why", "L2 How")
    lesson(tmp_path, "Part01/L2/L2_how.ipynb", OPENING.replace("L1 Why", "L2 How"), second)
    lesson(tmp_path, "Part02/L1/L1_more_so.ipynb", "# L1 more: so\n\n**So?**", second, ())
    (tmp_path / "Part02/L1/L1_broken.ipynb").write_text("no notebook")
    page = contents(tmp_path, tmp_path / "none.json")
    assert "0 of 3 notebooks done. Go on with Part 1, [L1 Why](../Part01/L1/L1_why.ipynb)." in page
    row = "| **[L2 How](../Part01/L2/L2_how.ipynb)** | Why &#124; so? | not begun | 1¼ | 60 |"
    assert row in page.splitlines()
    assert page.index("## Part 1") < page.index("## Part 2") < page.index("further: [L1 so]")
    assert "[L1_broken](../Part02/L1/L1_broken.ipynb) | it cannot be read" in page
    done = {"checkpoints": ALL, "exercises": {"check_double": "Right", "check_half": "Right"}}
    (tmp_path / "p.json").write_text(json.dumps({"Part 1, L1 Why": done}))
    page = contents(tmp_path, tmp_path / "p.json")
    assert "1 of 3 notebooks done. Go on with Part 1, [L2 How]" in page


def test_the_page_is_a_notebook_that_holds_the_table_before_it_is_run(tmp_path):
    lesson(tmp_path)
    path = write_home(tmp_path)
    page = nbformat.read(path, as_version=4)
    nbformat.validate(page)
    assert path == tmp_path / "progress" / "Home.ipynb"
    assert "L1 Why" in page.cells[1].outputs[0].data["text/markdown"]
    for target in page.cells[1].outputs[0].data["text/markdown"].split("](")[1:]:
        assert (path.parent / target.split(")")[0]).exists()
    assert write_home(tmp_path) == path, "and it can be written again"
    assert [p.name for p in path.parent.iterdir()] == ["Home.ipynb"]


def test_a_folder_that_cannot_be_written_is_said_and_nothing_is_started(monkeypatch, capsys):
    def refuse(root=None):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(home, "write_home", refuse)
    assert home.main([]) == 1
    assert "cannot be written (Permission denied)" in capsys.readouterr().err


def test_what_make_runs_in_the_labs_terminal_is_not_noted_as_the_learners(tmp_path):
    (tmp_path / "more.mk").write_text("told:\n\t@env\n")
    command = ["make", "-f", "Makefile", "-f", str(tmp_path / "more.mk"), "told"]
    settings = os.environ | {VARIABLE: "progress.json", "TOLD": "on"}
    told = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)
    assert "TOLD=on" in told.stdout
    assert VARIABLE not in told.stdout
