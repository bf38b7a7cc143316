"""Every exercise helps in steps, and no step is the answer."""

import ast

import pytest

from tests.notebooks.test_checks import load_checks
from tests.notebooks.test_shape import LESSONS, MORE, NOTEBOOKS, code, prose

FOLDERS = sorted({path.parent.relative_to(path.parents[2]).as_posix() for path in LESSONS})
SOLUTIONS = [path for path in NOTEBOOKS if path.stem.endswith("_solutions")]
SHORTEST = 12  # characters without blanks: less is no answer yet


def checks_of(folder: str) -> dict:
    return {n: c for n, c in vars(load_checks(folder)).items() if n.startswith("check_")}


EXERCISES = [
    pytest.param(check, id=f"{folder} {name}")
    for folder in FOLDERS
    for name, check in checks_of(folder).items()
]


def answer_lines(source: str) -> set[str]:
    """The lines that answer an exercise, without blanks: each statement but its frame."""
    lines = set()
    for node in ast.walk(ast.parse(source)):
        simple = ast.Assign | ast.Return | ast.AugAssign | ast.Expr
        if isinstance(node, simple) and not isinstance(getattr(node, "value", None), ast.Constant):
            text = ast.unparse(node)
            value = ast.unparse(node.value) if getattr(node, "value", None) else text
            lines |= {"".join(each.split()) for each in (text, value)}
    return {line for line in lines if len(line) >= SHORTEST and not line.startswith("check_")}


ANSWERS = {
    line
    for path in SOLUTIONS
    for cell in code(path)
    if ".require()" in cell.source
    for line in answer_lines(cell.source)
}


def gives_away(hint: str) -> set[str]:
    plain = "".join(hint.replace("`", "").replace('"', "'").split())
    return {line for line in ANSWERS if line in plain}


def test_there_are_exercises_and_answers():
    assert len(EXERCISES) >= 30
    assert len(ANSWERS) >= len(EXERCISES)


@pytest.mark.parametrize("check", EXERCISES)
def test_an_exercise_has_two_or_three_hints_none_of_which_is_the_answer(check):
    assert 2 <= len(check.hints) <= 3
    assert len(set(check.hints)) == len(check.hints)
    for hint in check.hints:
        assert 30 <= len(hint) <= 240
        assert not gives_away(hint), hint


def test_a_hint_that_holds_a_line_of_the_answer_is_found():
    assert gives_away("Write `return np.floor(values + np.random.random(values.shape))`.")
    assert gives_away("It is matrix.diagonal() / matrix.sum(dim=1), of course.")
    assert not gives_away("Divide the diagonal by the sums of the rows.")


@pytest.mark.parametrize(
    "path", [p for p in LESSONS + MORE if "\ncheck_" in "".join(c.source for c in code(p))]
)
def test_a_lesson_with_exercises_says_how_to_ask_for_a_hint(path):
    assert ".hint()`" in prose(path)
