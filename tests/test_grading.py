"""The autograded exercises, graded by nbgrader itself: right, wrong and tampered submissions."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from utils.classroom.grading import BEGIN, END, assignment, with_solution, write_assignments

ROOT = Path(__file__).parents[1]
FOLDERS = sorted({path.parent for path in ROOT.glob("Part0*/L*/L*_solutions.ipynb")})
TOOLS = Path(sys.prefix) / "classroom"
LESSON = "Part01/L7"  # three exercises, quickly checked
NAME, NOTEBOOK = "Part01_L7", "L7_exercises.ipynb"

# The instructor's version ------------------------------------------------------------------------

STUB = '''def double(x):
    """Twice."""
    return ...


check_double(double)'''


def test_a_worked_answer_is_put_between_marks_and_the_stub_stays_around_it():
    solution = (
        'def double(x):\n    """2 x."""\n    y = x + x\n    return y\n\n\ncheck_double(double)'
    )
    assert with_solution(STUB, solution).splitlines() == [
        "def double(x):",
        '    """Twice."""',
        f"    {BEGIN}",
        "    y = x + x",
        "    return y",
        f"    {END}",
        "    return ...",
    ]
    value = with_solution("two = ...  # a number\n\ncheck_two(two)", "one = 1\ntwo = 2")
    assert value.splitlines() == ["two = ...  # a number", BEGIN, "two = 2", END]


def test_a_stub_that_nothing_answers_is_named():
    with pytest.raises(ValueError, match=r"does not answer this stub: def double\(x\)"):
        with_solution(STUB, "def triple(x):\n    return 3 * x")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: f"{p.parent.name} {p.name}")
def test_every_exercise_of_a_lesson_is_in_its_assignment_for_one_point(folder):
    nbformat.validate(assignment(folder))
    cells = assignment(folder).cells
    graded = [c for c in cells if c.metadata.get("nbgrader", {}).get("grade")]
    answers = [c for c in cells if c.metadata.get("nbgrader", {}).get("solution")]
    checks = re.findall(r"^def (check_\w+)", (folder / "checks.py").read_text(), re.MULTILINE)
    assert sorted(c.metadata.nbgrader.grade_id for c in graded) == sorted(checks)
    assert all(c.metadata.nbgrader.points == 1 and c.metadata.nbgrader.locked for c in graded)
    assert len(answers) == len(graded)
    for cell in answers:
        compile(cell.source, "answer", "exec")
        assert cell.source.count(BEGIN) == cell.source.count(END) == 1
    prose = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    assert prose.count("**") >= 2 * len(graded)
    assert "solutions.ipynb" not in prose


# nbgrader ----------------------------------------------------------------------------------------

needs_nbgrader = pytest.mark.skipif(
    not (TOOLS / "nbgrader").exists(), reason="nbgrader is not here; 'make classroom' installs it"
)


@pytest.fixture(scope="module")
def grading(tmp_path_factory):
    """nbgrader's folder as ``make classroom`` leaves it, with the students' version made."""
    root = tmp_path_factory.mktemp("course")
    (root / "utils").symlink_to(ROOT / "utils")
    folder = root / "build" / "classroom" / "grading"
    assert write_assignments([ROOT / LESSON], folder) == [NAME]
    nbgrader(folder, "generate_assignment", NAME, "--create")
    return folder


def nbgrader(folder: Path, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(TOOLS)},  # not what Ray has put there in other tests
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def submit(folder: Path, student: str, version: str) -> Path:
    target = folder / "submitted" / student / NAME
    shutil.copytree(folder / version / NAME, target)
    return target / NOTEBOOK


def change(path: Path, grade_id: str, source: str) -> None:
    notebook = nbformat.read(path, as_version=4)
    (cell,) = (
        c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id
    )
    cell.source = source
    nbformat.write(notebook, path)


@needs_nbgrader
def test_students_get_the_stubs_and_no_answers(grading):
    release = nbformat.read(grading / "release" / NAME / NOTEBOOK, as_version=4)
    text = "\n".join(cell.source for cell in release.cells)
    assert text.count("# YOUR CODE HERE\n    return ...") == 3
    assert "SOLUTION" not in text
    assert "np.sort" not in text


@needs_nbgrader
def test_nbgrader_gives_a_right_submission_all_points_and_others_what_they_earned(grading):
    submit(grading, "right", "source")
    partly = submit(grading, "partly", "source")
    change(partly, "krum_scores", "def krum_scores(updates, f):\n    return updates.sum(axis=1)")
    change(partly, "tolerated_liars", "def tolerated_liars(rule, n):\n    return 1 / 0")
    cheat = submit(grading, "cheat", "release")  # changes the locked checks, and their module
    change(cheat, "check_krum_scores", "assert True")
    checks = cheat.with_name("checks.py")
    checks.write_text(
        re.sub(r"(?m)^def (check_.*)$", r"def \1\n    return None\n", checks.read_text())
    )
    nbgrader(grading, "autograde", NAME, "--create")
    assert scores(grading) == {"right": 3, "partly": 1, "cheat": 0}, errors(grading)


def scores(folder: Path) -> dict[str, float]:
    nbgrader(folder, "export")
    with (folder / "grades.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {float(row["max_score"]) for row in rows} == {3}
    return {row["student_id"]: float(row["score"]) for row in rows}


def errors(folder: Path) -> list[tuple]:
    """What went wrong in the notebooks that were graded: student, error, what it said."""
    return [
        (path.parts[-3], output.ename, output.evalue)
        for path in (folder / "autograded").glob("*/*/*.ipynb")
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
