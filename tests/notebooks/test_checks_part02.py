"""The exercises' checks of Part 2, as in test_checks_part01."""

import re

import pytest

from tests.notebooks.test_checks_part01 import load_checks

L2 = load_checks("Part02/L2")


def lora_size(shapes, rank):
    return sum(rank * (i + o) for i, o in shapes)


def merge(weight, a, b, alpha):
    return weight + alpha / len(a) * b @ a


def choose(losses):
    means = [sum(own) / len(own) for own in losses]
    return means.index(min(means))


def sums(losses):
    totals = [sum(own) for own in losses]
    return totals.index(min(totals))


def largest(losses):
    means = [sum(own) / len(own) for own in losses]
    return means.index(max(means))


RIGHT = {
    "L2.1": (L2.check_lora_size, lora_size),
    "L2.2": (L2.check_merge, merge),
    "L2.3": (L2.check_choice, choose),
}
WRONG = {
    "L2.1 full": (L2.check_lora_size, lambda s, r: sum(i * o for i, o in s), "frozen layers"),
    "L2.1 product": (L2.check_lora_size, lambda s, r: r * sum(i * o for i, o in s), "add up"),
    "L2.1 one": (L2.check_lora_size, lambda s, r: sum(r * i for i, _ in s), "two matrices"),
    "L2.1 float": (L2.check_lora_size, lambda *a: float(lora_size(*a)), "Return an integer"),
    "L2.1 off": (L2.check_lora_size, lambda *a: lora_size(*a) + 1, "expected 460,800"),
    "L2.2 unscaled": (L2.check_merge, lambda w, a, b, s: w + b @ a, "alpha / rank"),
    "L2.2 by alpha": (L2.check_merge, lambda w, a, b, s: w + s * b @ a, "alpha / rank"),
    "L2.2 adapter": (L2.check_merge, lambda w, a, b, s: s / 2 * b @ a, "Add the frozen weight"),
    "L2.2 in place": (L2.check_merge, lambda w, a, b, s: w.add_(s / 2 * b @ a), "new matrix"),
    "L2.2 shape": (L2.check_merge, lambda w, a, b, s: merge(w, a, b, s).T, r"shape \(4, 6\)"),
    "L2.2 minus": (L2.check_merge, lambda w, a, b, s: w - s / 2 * b @ a, "largest difference"),
    "L2.3 sums": (L2.check_choice, sums, "favour short options"),
    "L2.3 largest": (L2.check_choice, largest, "choose the smallest"),
    "L2.3 no such option": (L2.check_choice, lambda x: 7, "expected option 1"),
}


@pytest.mark.parametrize(("check", "answer"), RIGHT.values(), ids=RIGHT)
def test_a_right_answer_passes(check, answer):
    verdict = check(answer)
    assert verdict, verdict.message


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG.values(), ids=WRONG)
def test_a_wrong_answer_gets_its_hint(check, answer, hint):
    verdict = check(answer)
    assert not verdict
    assert verdict.status == "Not right yet"
    assert re.search(hint, verdict.message), verdict.message


@pytest.mark.parametrize("check", [L2.check_lora_size, L2.check_merge, L2.check_choice])
def test_an_untouched_exercise_is_not_done_yet(check):
    assert check(...).status == "Not done yet"
    assert check(lambda *arguments: ...).status == "Not done yet"
