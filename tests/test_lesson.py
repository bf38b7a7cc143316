"""A lesson's opening, its checkpoints, its headline and the checks of its exercises."""

import math
import os
import platform
from importlib.metadata import version

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.federation.apps import client_app, server_app
from utils import caching
from utils.federation import simulate
from utils.hints import LAST
from utils.lesson import (
    HEADLINE,
    CheckpointError,
    Verdict,
    checkpoint,
    exercise,
    headline,
    resumable,
    start_lesson,
)
from utils.randomness import seed_everything

# The opening -------------------------------------------------------------------------------------


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with plt.rc_context():
        yield


@pytest.mark.usefixtures("no_gpu")
def test_a_lesson_opens_with_what_it_runs_on_seeded_and_in_the_course_style(capsys):
    plt.rcdefaults()
    for options, seed in (({"seed": 5}, 5), ({}, 0)):
        seed_everything(seed)
        expected = torch.rand(3)
        start_lesson("Part 1, L1 Why", minutes=3, **options)
        assert torch.equal(torch.rand(3), expected)
        assert capsys.readouterr().out.splitlines() == [
            "Part 1, L1 Why: about 3 minutes on 2 CPU cores",
            f"Python {platform.python_version()}, torch {version('torch')}, "
            f"flwr {version('flwr')}; seed {seed}",
            f"This machine: {os.cpu_count()} CPU cores, no GPU",
        ]
    assert plt.rcParams["figure.figsize"] == [6.4, 3.8]


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("amx", "said"), [(True, "bfloat16"), (False, "float32, which takes several times as long")]
)
def test_a_lesson_with_the_language_model_says_how_it_computes(amx, said, monkeypatch, capsys):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": amx})
    start_lesson("Part 2, L1 Smarter", minutes=3)
    assert capsys.readouterr().out.endswith(f"no GPU; the language model in {said}\n")


@pytest.mark.usefixtures("no_gpu")
def test_minutes_are_given_in_words(capsys):
    for minutes, words in [(0.25, "15 seconds"), (1, "1 minute on"), (2.5, "2.5 minutes")]:
        start_lesson("L1", minutes=minutes)
        assert f"about {words}" in capsys.readouterr().out


@pytest.mark.usefixtures("no_gpu")
def test_threads_are_set_if_asked_for_and_a_gpu_is_named(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    start_lesson("L1", minutes=1)
    assert asked == []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.manual_seed_all", lambda seed: None)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Fast 9000")
    start_lesson("L1", minutes=1, threads=3)
    assert asked == [3]
    assert capsys.readouterr().out.endswith("CPU cores, Fast 9000\n")


# A run that can be interrupted -------------------------------------------------------------------


def test_a_lessons_run_is_kept_among_the_caches_until_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(caching, "CACHE_DIR", tmp_path / "data")
    folder = resumable("Part 2, L3 federated")
    seen = []
    look = server_app(2, evaluate_fn=lambda *_: seen.append(folder.exists()))
    simulate(look, client_app(), 2, checkpoint=folder)
    assert seen == [True] * 3
    assert folder.parent.parent == tmp_path / "data"
    assert not folder.exists()


def test_a_lesson_in_a_read_only_course_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(caching, "CACHE_DIR", tmp_path / "data")
    monkeypatch.setattr(os, "access", lambda path, mode: not tmp_path.samefile(path))
    assert resumable("run") is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", 3])
def test_a_runs_name_is_one_that_a_folder_can_have(name):
    with pytest.raises(ValueError, match="run is"):
        resumable(name)


# Checkpoints -------------------------------------------------------------------------------------


def test_a_claim_that_holds_is_printed_as_a_sentence(capsys):
    checkpoint("FedAvg reaches {value:.1%}.", 0.9131, at_least=0.9)
    assert capsys.readouterr().out == "Checkpoint passed. FedAvg reaches 91.3%.\n"


def test_a_value_on_or_inside_the_limits_passes():
    for value, limits in [
        (0, {"equals": 0}),
        (3.5, {"equals": 3, "within": 0.5}),
        (2.5, {"equals": 3, "within": 0.5}),
        (0, {"at_least": 0}),
        (0, {"at_most": 0}),
        (-1, {"at_least": -2, "at_most": 0}),
        (math.inf, {"at_least": 3}),
        (math.inf, {"equals": math.inf}),
    ]:
        checkpoint("{value}", value, **limits)


def test_a_value_outside_a_limit_fails_and_is_told_with_its_limits():
    for value, limits, expected in [
        (0.1, {"equals": 0}, "the value is 0.1; expected 0 ± 0"),
        (3.51, {"equals": 3, "within": 0.5}, "the value is 3.51; expected 3 ± 0.5"),
        (2.49, {"equals": 3, "within": 0.5}, "the value is 2.49; expected 3 ± 0.5"),
        (-0.1, {"at_least": 0}, "the value is -0.1; expected at least 0"),
        (0.1, {"at_most": 0}, "the value is 0.1; expected at most 0"),
        (9, {"at_least": 1, "at_most": 3}, "the value is 9; expected at least 1 and at most 3"),
        (2, {"equals": 5, "within": 1, "at_least": 1}, "expected 5 ± 1 and at least 1"),
        (math.nan, {"equals": 1, "within": 9}, "the value is nan"),
        (math.nan, {"at_least": 0}, "the value is nan"),
        (math.nan, {"at_most": 0}, "the value is nan"),
    ]:
        with pytest.raises(CheckpointError) as failure:
            checkpoint("It is {value}.", value, **limits)
        said = str(failure.value)
        assert expected in said
        assert f"does not hold here: It is {value}." in said
        assert "restart the kernel and run all cells in order" in said
        assert isinstance(failure.value, AssertionError)


def test_a_checkpoint_without_a_limit_is_refused():
    with pytest.raises(ValueError, match="needs equals=, at_least= or at_most="):
        checkpoint("{value}", 1.0, within=0.5)


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


# Exercises ---------------------------------------------------------------------------------------


@exercise("And four is even.")
def check_number(answer):
    """Is it four?"""
    return None if answer == 4 else "It is two plus two."


@exercise("Doubling is linear.")
def check_double(double):
    """Does it double, under its own name?"""
    if double.__name__ not in ("double", "<lambda>"):
        return "Call it double."
    return None if double(3) == 6 and double(number=4) == 8 else "Try 3."


def test_an_answer_gets_praise_a_hint_or_not_done_yet():
    not_done, not_right = "Not done yet", "Not right yet"
    for verdict, status, message in [
        (check_number(4), "Right", "And four is even."),
        (check_number(5), not_right, "It is two plus two."),
        (check_number(...), not_done, "Replace the ... in the cell above."),
        (check_double(lambda number: 2 * number), "Right", "Doubling is linear."),
        (check_double(lambda number: number), not_right, "Try 3."),
        (check_double(math.floor), not_right, "Call it double."),
        (check_double(lambda number: ...), not_done, "Your function still returns ... ."),
        (check_double(...), not_done, "Replace the ... in the cell above."),
        (
            check_double(lambda number: 1 / 0),
            not_right,
            "Your answer led to ZeroDivisionError: division by zero",
        ),
        (
            check_double(6),
            not_right,
            "Your answer led to AttributeError: 'int' object has no attribute '__name__'",
        ),
    ]:
        assert verdict == Verdict(status, message)
        assert bool(verdict) is (status == "Right")
        assert repr(verdict) == f"{status}. {message}"


def test_only_a_right_answer_passes_where_one_is_required(capsys):
    Verdict("Right", "Well done.").require()
    assert capsys.readouterr().out == "Right. Well done.\n"
    for status in ("Not right yet", "Not done yet"):
        with pytest.raises(AssertionError, match=rf"{status}\. Try again\."):
            Verdict(status, "Try again.").require()
        assert capsys.readouterr().out == f"{status}. Try again.\n"


def test_stopping_the_kernel_stops_a_check():
    def double(number):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_double(double)


def test_a_check_keeps_its_name_and_a_model_as_answer_its_attributes():
    assert (check_number.__name__, check_number.__doc__) == ("check_number", "Is it four?")
    check = exercise("ok")(lambda model: None if model.in_features == 2 else "wrong size")
    assert check(torch.nn.Linear(2, 1))
    assert not check(torch.nn.Linear(3, 1))


# Hints -------------------------------------------------------------------------------------------


def with_hints(*hints):
    return exercise("ok", hints)(lambda answer: None)


def test_hints_come_one_at_a_time_and_the_last_says_where_the_answer_is(capsys):
    check, other = with_hints("Look.", "Look left.", "Three left."), with_hints("Up.")
    for _ in range(4):
        check.hint()
    other.hint()
    assert capsys.readouterr().out.splitlines() == [
        "Hint 1 of 3. Look.",
        "Hint 2 of 3. Look left.",
        f"Hint 3 of 3. Three left. {LAST}",
        f"Hint 3 of 3. Three left. {LAST}",
        f"Hint 1 of 1. Up. {LAST}",
    ]


def test_a_hint_can_be_asked_for_by_its_number_and_the_next_follows_it(capsys):
    check = with_hints("Look.", "Look left.", "Three left.")
    check.hint(2)
    check.hint(1)
    check.hint()
    assert [line[:11] for line in capsys.readouterr().out.splitlines()] == [
        "Hint 2 of 3",
        "Hint 1 of 3",
        "Hint 2 of 3",
    ]
    for step in (0, 4, 1.5, "two", True):
        with pytest.raises(ValueError, match=r"step is .*from 1 to 3"):
            check.hint(step)


def test_an_exercise_without_hints_says_so(capsys):
    with_hints().hint()
    assert capsys.readouterr().out == f"This exercise has no hints. {LAST}\n"


def test_hints_that_are_no_texts_are_refused():
    for hints in ("Look.", [1], [None], None, 3):
        with pytest.raises(ValueError, match="hint"):
            exercise("ok", hints)
