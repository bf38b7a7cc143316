"""The exercises' checks: right answers pass, wrong ones get their hint.

The answers are in ``answers_part01`` and ``answers_part02``. (That right answers pass is seen in
the solutions, too.)
"""

import functools
import importlib.util
import re
from pathlib import Path

import pytest

from tests.notebooks import answers_part01, answers_part02

ROOT = Path(__file__).parents[2]
PARTS = {"Part01": answers_part01, "Part02": answers_part02}
TAKE_NO_FUNCTION = {"check_missing_sets"}


@functools.cache
def load_checks(lesson):
    path = ROOT / lesson / "checks.py"
    spec = importlib.util.spec_from_file_location(lesson.replace("/", "_"), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases(kind):
    """One case an answer: the check itself, the answer, and for wrong ones the hint."""
    return [
        pytest.param(
            getattr(load_checks(f"{part}/{name.split('.')[0]}"), check), *rest, id=f"{part} {name}"
        )
        for part, answers in PARTS.items()
        for name, (check, *rest) in getattr(answers, kind).items()
    ]


def exercises():
    """Every check that there are answers for, once."""
    found = dict.fromkeys(case.values[0] for kind in ("RIGHT", "WRONG") for case in cases(kind))
    return [pytest.param(check, id=check.__name__) for check in found]


@pytest.mark.parametrize(("check", "answer"), cases("RIGHT"))
def test_a_right_answer_passes(check, answer):
    verdict = check(answer)
    assert verdict, verdict.message


@pytest.mark.parametrize(("check", "answer", "hint"), cases("WRONG"))
def test_a_wrong_answer_gets_its_hint(check, answer, hint):
    verdict = check(answer)
    assert not verdict
    assert verdict.status == "Not right yet"
    assert re.search(hint, verdict.message), verdict.message


@pytest.mark.parametrize("check", exercises())
def test_an_untouched_exercise_is_not_done_yet(check):
    assert check(...).status == "Not done yet"
    if check.__name__ not in TAKE_NO_FUNCTION:
        assert check(lambda *arguments: ...).status == "Not done yet"
