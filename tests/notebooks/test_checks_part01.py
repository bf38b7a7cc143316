"""The exercises' checks: right answers pass (in the solutions), wrong ones get their hint."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def load_checks(lesson):
    path = ROOT / lesson / "checks.py"
    spec = importlib.util.spec_from_file_location(lesson.replace("/", "_"), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


L1, L2 = load_checks("Part01/L1"), load_checks("Part01/L2")


def changed_in_place(updates, sizes):
    updates[0]["w"] += updates[1]["w"]
    updates[0]["w"] /= 2
    return {"w": updates[0]["w"]}


WRONG = {
    "L1.1 precision": (
        L1.check_accuracy_by_digit,
        lambda m: m.diagonal() / m.sum(dim=0),
        "column sums",
    ),
    "L1.1 overall": (
        L1.check_accuracy_by_digit,
        lambda m: m.diagonal() / m.sum(),
        "digit 7 should be 0.75",
    ),
    "L1.1 scalar": (L1.check_accuracy_by_digit, lambda m: 0.9, "yours is a float"),
    "L1.1 counts": (L1.check_accuracy_by_digit, lambda m: m.sum(), r"of shape \(\)"),
    "L1.2 loudest": (
        L1.check_majority_vote,
        lambda p: p.mean(dim=0).argmax(dim=1),
        "Votes count, not volume",
    ),
    "L1.2 first model": (
        L1.check_majority_vote,
        lambda p: p[0].argmax(dim=1),
        "you chose",
    ),
    "L1.2 ties": (
        L1.check_majority_vote,
        lambda p: p.argmax(dim=2).mode(dim=0).values.where(torch.tensor(p.shape[1] > 1), 8),
        "In a tie",
    ),
    "L1.2 shape": (L1.check_majority_vote, lambda p: p.argmax(dim=2), r"of shape \(3, 3\)"),
    "L1.3 two sets": (L1.check_missing_sets, [{1, 2, 3}, {4, 5, 6}], "three sets of three"),
    "L1.3 four digits": (L1.check_missing_sets, [{1, 2, 3, 4}, {5, 6, 7}, {8, 9, 0}], "three sets"),
    "L1.3 no digits": (L1.check_missing_sets, [{10, 2, 3}, {5, 6, 7}, {8, 9, 0}], "from 0 to 9"),
    "L1.3 lost": (L1.check_missing_sets, [{1, 2, 3}] * 3, r"Nobody knows \[1, 2, 3\]"),
    "L1.3 works": (L1.check_missing_sets, [{1, 3, 7}, {2, 5, 8}, {4, 6, 9}], "still reaches 0.9"),
    "L1.3 nonsense": (L1.check_missing_sets, 7, "led to TypeError"),
    "L2.1 weighted": (
        L2.check_equal_average,
        lambda u, n: {"w": sum(x["w"] * k for x, k in zip(u, n, strict=True)) / sum(n)},
        "still weights by examples",
    ),
    "L2.1 empty": (
        L2.check_equal_average,
        lambda u, n: {"w": sum(x["w"] for x in u) / len(u)},
        "0 examples and should be left out",
    ),
    "L2.1 sum": (
        L2.check_equal_average,
        lambda u, n: {"w": u[0]["w"] + u[1]["w"]},
        r"is \[1.5, 1\]",
    ),
    "L2.1 in place": (L2.check_equal_average, changed_in_place, "changed the updates"),
    "L2.1 list": (L2.check_equal_average, lambda u, n: [1.5, 1], "Return a dictionary"),
    "L2.2 above": (
        L2.check_rounds_to_reach,
        lambda a, t: next((i for i, x in enumerate(a) if x > t), None),
        "target 0.8, expected 1",
    ),
    "L2.2 last": (
        L2.check_rounds_to_reach,
        lambda a, t: next((i for i, x in enumerate(a) if x >= t), len(a)),
        "expected None, got 5",
    ),
    "L2.3 no evaluation": (
        L2.check_bytes,
        lambda r, c, p: r * c * 2 * p * 4 / 1e6,
        "also sent to evaluate",
    ),
    "L2.3 one way": (L2.check_bytes, lambda r, c, p: r * c * p * 4 / 1e6, "every direction"),
    "L2.3 four ways": (L2.check_bytes, lambda r, c, p: r * c * 4 * p * 4 / 1e6, "holds no weights"),
    "L2.3 bytes": (L2.check_bytes, lambda r, c, p: r * c * 3 * p * 4, "a megabyte 10"),
}


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG.values(), ids=WRONG)
def test_a_wrong_answer_gets_its_hint(check, answer, hint):
    verdict = check(answer)
    assert not verdict
    assert verdict.status == "Not right yet"
    assert re.search(hint, verdict.message), verdict.message


@pytest.mark.parametrize(
    "check",
    [
        L1.check_accuracy_by_digit,
        L1.check_majority_vote,
        L1.check_missing_sets,
        L2.check_equal_average,
        L2.check_rounds_to_reach,
        L2.check_bytes,
    ],
)
def test_an_untouched_exercise_is_not_done_yet(check):
    assert check(...).status == "Not done yet"
    if check is not L1.check_missing_sets:
        assert check(lambda *arguments: ...).status == "Not done yet"
