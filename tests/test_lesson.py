import dataclasses
import math
import os
import platform
from importlib.metadata import version

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.lesson import (
    HEADLINE,
    CheckpointError,
    Verdict,
    checkpoint,
    exercise,
    headline,
    start_lesson,
)
from utils.randomness import seed_everything


@pytest.fixture
def _old_style():
    with plt.rc_context():
        yield


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.mark.usefixtures("_old_style", "no_gpu")
class TestStartLesson:
    def test_it_says_what_the_lesson_runs_on(self, capsys):
        start_lesson("Part 1, L1 Why", minutes=3, seed=5)
        assert capsys.readouterr().out.splitlines() == [
            "Part 1, L1 Why: about 3 minutes on 2 CPU cores",
            f"Python {platform.python_version()}, torch {version('torch')}, "
            f"flwr {version('flwr')}; seed 5",
            f"This machine: {os.cpu_count()} CPU cores, no GPU",
        ]

    @pytest.mark.parametrize(
        ("minutes", "words"),
        [(0.5, "30 seconds"), (0.25, "15 seconds"), (2, "2 minutes"), (2.5, "2.5 minutes")],
    )
    def test_less_than_a_minute_is_given_in_seconds(self, capsys, minutes, words):
        start_lesson("L1", minutes=minutes)
        assert f"about {words} on" in capsys.readouterr().out

    def test_it_seeds_the_generators(self):
        seed_everything(5)
        expected = torch.rand(3)
        start_lesson("L1", minutes=1, seed=5)
        assert torch.equal(torch.rand(3), expected)

    def test_the_seed_is_zero_unless_told_otherwise(self, capsys):
        seed_everything(0)
        expected = torch.rand(3)
        start_lesson("L1", minutes=1)
        assert torch.equal(torch.rand(3), expected)
        assert "seed 0" in capsys.readouterr().out

    def test_it_sets_the_style_of_the_figures(self):
        plt.rcdefaults()
        start_lesson("L1", minutes=1)
        assert plt.rcParams["figure.figsize"] == [6.4, 3.8]

    @pytest.mark.parametrize(("options", "calls"), [({"threads": 3}, [3]), ({}, [])])
    def test_torch_gets_the_asked_number_of_threads_or_keeps_its_own(
        self, monkeypatch, options, calls
    ):
        asked = []
        monkeypatch.setattr("torch.set_num_threads", asked.append)
        start_lesson("L1", minutes=1, **options)
        assert asked == calls

    def test_a_gpu_is_named_where_there_is_one(self, monkeypatch, capsys):
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.manual_seed_all", lambda seed: None)
        monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Fast 9000")
        start_lesson("L1", minutes=1)
        assert capsys.readouterr().out.endswith("CPU cores, Fast 9000\n")


def test_a_claim_that_holds_is_printed_as_a_sentence(capsys):
    checkpoint("FedAvg reaches {value:.1%}.", 0.9131, at_least=0.9)
    assert capsys.readouterr().out == "Checkpoint passed. FedAvg reaches 91.3%.\n"


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        (3, {"equals": 3}),
        (0, {"equals": 0}),
        (3.5, {"equals": 3, "within": 0.5}),
        (2.5, {"equals": 3, "within": 0.5}),
        (3, {"at_least": 3}),
        (0, {"at_least": 0}),
        (3, {"at_most": 3}),
        (0, {"at_most": 0}),
        (-1, {"at_least": -2, "at_most": 0}),
        (math.inf, {"at_least": 3}),
    ],
)
def test_a_value_on_or_inside_the_limits_passes(value, limits):
    checkpoint("{value}", value, **limits)


@pytest.mark.parametrize(
    ("value", "limits", "expected"),
    [
        (3.1, {"equals": 3}, "the value is 3.1; expected 3 ± 0"),
        (0.1, {"equals": 0}, "the value is 0.1; expected 0 ± 0"),
        (3.51, {"equals": 3, "within": 0.5}, "the value is 3.51; expected 3 ± 0.5"),
        (2.49, {"equals": 3, "within": 0.5}, "the value is 2.49; expected 3 ± 0.5"),
        (2.9, {"at_least": 3}, "the value is 2.9; expected at least 3"),
        (-0.1, {"at_least": 0}, "the value is -0.1; expected at least 0"),
        (3.1, {"at_most": 3}, "the value is 3.1; expected at most 3"),
        (0.1, {"at_most": 0}, "the value is 0.1; expected at most 0"),
        (9, {"at_least": 1, "at_most": 3}, "the value is 9; expected at least 1 and at most 3"),
        (0, {"at_least": 1, "at_most": 3}, "the value is 0; expected at least 1 and at most 3"),
        (2, {"equals": 5, "within": 1, "at_least": 1}, "expected 5 ± 1 and at least 1"),
    ],
)
def test_a_value_outside_a_limit_fails_and_is_told_with_its_limits(value, limits, expected):
    with pytest.raises(CheckpointError, match=expected.replace("+", r"\+")):
        checkpoint("{value}", value, **limits)


def test_a_failed_claim_repeats_its_sentence_and_says_what_to_do(capsys):
    with pytest.raises(CheckpointError) as failure:
        checkpoint("FedAvg reaches {value:.1%}.", 0.5, at_least=0.9)
    assert "does not hold here: FedAvg reaches 50.0%." in str(failure.value)
    assert "restart the kernel and run all cells in order" in str(failure.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("limits", [{"equals": 1, "within": 9}, {"at_least": 0}, {"at_most": 0}])
def test_nan_never_holds(limits):
    with pytest.raises(CheckpointError, match="the value is nan"):
        checkpoint("{value}", math.nan, **limits)


def test_a_checkpoint_without_a_limit_is_refused():
    with pytest.raises(ValueError, match="needs equals=, at_least= or at_most="):
        checkpoint("{value}", 1.0, within=0.5)


def test_a_failed_checkpoint_is_a_failed_assertion():
    assert issubclass(CheckpointError, AssertionError)


@settings(deadline=None)
@given(st.integers(-99, 99), st.integers(-99, 99), st.integers(0, 99))
def test_equals_within_means_the_interval_around_the_number(value, equals, within):
    def holds(**limits) -> bool:
        try:
            checkpoint("{value}", value, **limits)
        except CheckpointError:
            return False
        return True

    inside = holds(at_least=equals - within, at_most=equals + within)
    assert holds(equals=equals, within=within) == inside


def test_a_headline_is_one_line_that_starts_with_its_mark(capsys):
    headline("91.3% with 5 hospitals")
    assert capsys.readouterr().out == f"{HEADLINE}91.3% with 5 hospitals\n"
    assert HEADLINE == "Headline: "


@pytest.mark.parametrize(
    ("status", "truth"), [("Right", True), ("Not right yet", False), ("Not done yet", False)]
)
def test_only_a_right_verdict_is_true(status, truth):
    assert bool(Verdict(status, "Because.")) is truth


def test_a_verdict_shows_as_a_sentence():
    assert repr(Verdict("Right", "Well done.")) == "Right. Well done."


def test_a_verdict_is_final():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Verdict("Not right yet", "Hm.").status = "Right"


def test_requiring_a_right_answer_prints_the_verdict(capsys):
    Verdict("Right", "Well done.").require()
    assert capsys.readouterr().out == "Right. Well done.\n"


@pytest.mark.parametrize("status", ["Not right yet", "Not done yet"])
def test_requiring_any_other_answer_prints_the_verdict_and_raises(capsys, status):
    with pytest.raises(AssertionError, match=rf"{status}\. Try again\."):
        Verdict(status, "Try again.").require()
    assert capsys.readouterr().out == f"{status}. Try again.\n"


@exercise("And four is even.")
def check_number(answer):
    """Is it four?"""
    return None if answer == 4 else "It is two plus two."


@exercise("Doubling is linear.")
def check_double(double):
    """Does it double?"""
    return None if double(3) == 6 and double(number=4) == 8 else "Try 3."


def test_a_right_answer_gets_the_praise():
    assert check_number(4) == Verdict("Right", "And four is even.")


def test_a_wrong_answer_gets_the_hint():
    assert check_number(5) == Verdict("Not right yet", "It is two plus two.")


def test_an_answer_left_as_three_dots_is_not_done_yet():
    assert check_number(...) == Verdict("Not done yet", "Replace the ... in the cell above.")


def test_a_right_function_gets_the_praise():
    assert check_double(lambda number: 2 * number) == Verdict("Right", "Doubling is linear.")


def test_a_wrong_function_gets_the_hint():
    assert check_double(lambda number: number) == Verdict("Not right yet", "Try 3.")


def test_a_function_that_returns_three_dots_is_not_done_yet():
    expected = Verdict("Not done yet", "Your function still returns ... .")
    assert check_double(lambda number: ...) == expected


def test_an_exception_in_the_learners_function_becomes_a_hint_that_names_it():
    expected = Verdict("Not right yet", "Your answer led to ZeroDivisionError: division by zero")
    assert check_double(lambda number: 1 / 0) == expected


def test_an_answer_of_the_wrong_type_becomes_a_hint_that_names_the_exception():
    verdict = check_double(6)
    assert verdict.status == "Not right yet"
    assert verdict.message.startswith("Your answer led to TypeError: 'int' object is not callable")


def test_stopping_the_kernel_stops_a_check():
    def interrupted(number):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_double(interrupted)


def test_a_check_keeps_its_name_and_docstring():
    assert (check_number.__name__, check_number.__doc__) == ("check_number", "Is it four?")


def test_a_check_sees_the_name_of_the_learners_function():
    @exercise("Named.")
    def check_name(function):
        return None if function.__name__ == "fedavg" else "Call it fedavg."

    def fedavg():
        pass

    assert check_name(fedavg)


def test_an_answer_may_be_a_model_and_keeps_its_attributes():
    check = exercise("ok")(lambda model: None if model.in_features == 2 else "wrong size")
    assert check(torch.nn.Linear(2, 1))
    assert not check(torch.nn.Linear(3, 1))


def test_infinity_equals_itself():
    checkpoint("It is {value}.", math.inf, equals=math.inf)


def test_one_minute_is_singular(capsys):
    start_lesson("L", minutes=1)
    assert "about 1 minute on" in capsys.readouterr().out
