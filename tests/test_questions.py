"""A self-test: printed where nothing can be clicked, clicked in the lab, and its answers kept."""

import ipywidgets
import pytest

from utils import logbook
from utils.logbook import VARIABLE, begin, noted, read
from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question("2 + 2?", "four", "Count.", {"five": "One too many.", "three": "One too few."}),
    Question("<b>?", "A tag", "It is.", {"a bee": "No & never."}),
)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.json"))
    monkeypatch.setattr(logbook, "_lesson", [])
    begin("A lesson")
    return tmp_path / "progress.json"


@pytest.fixture
def shown(monkeypatch):
    boxes = []
    monkeypatch.setattr("IPython.display.display", boxes.append)
    return boxes


def test_without_the_lab_it_is_printed_with_how_to_answer(capsys, shown, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    self_test()
    assert shown == []
    assert capsys.readouterr().out == (
        "1. 2 + 2?\n   a) five\n   b) four\n   c) three\n\n"
        "2. <b>?\n   a) a bee\n   b) A tag\n\n"
        'Answer with a letter for each question, for example self_test("a a").\n'
    )


def test_without_ipywidgets_it_is_printed_in_the_lab_as_well(file, capsys, shown, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    self_test()
    assert shown == []
    assert "c) three" in capsys.readouterr().out


def test_letters_get_right_or_why_not_and_are_kept(file, capsys):
    self_test("b a")
    assert capsys.readouterr().out == "1. Right. Count.\n2. Not so. No & never.\n"
    assert noted("self-test") == {"2 + 2?": "four", "<b>?": "a bee"}
    self_test("C,B")
    assert capsys.readouterr().out == "1. Not so. One too few.\n2. Right. It is.\n"
    assert read(file)["A lesson"]["self-test"] == {"2 + 2?": "three", "<b>?": "A tag"}


def test_answers_that_are_no_letters_of_it_are_refused_whole(file):
    for answers in ("", "b", "a c", "a b a", "1 2", "four", ["a", "b"], 3):
        with pytest.raises(ValueError, match="answers is"):
            self_test(answers)
    assert noted("self-test") == {}


def test_in_the_lab_a_click_is_answered_and_remembered(file, shown, capsys):
    self_test()
    (heading, buttons, reply), (tag, _, _) = (box.children for box in shown)
    assert capsys.readouterr().out == ""
    assert isinstance(buttons, ipywidgets.RadioButtons)
    assert (buttons.value, reply.value) == (None, "")
    assert heading.value == "<b>1. 2 + 2?</b>"
    assert "&lt;b&gt;" in tag.value
    buttons.value = "five"
    assert reply.value == "Not so. One too many."
    buttons.value = "four"
    assert reply.value == "Right. Count."
    shown[1].children[1].value = "a bee"
    assert shown[1].children[2].value == "Not so. No &amp; never."
    assert noted("self-test") == {"2 + 2?": "four", "<b>?": "a bee"}
    self_test()
    _, buttons, reply = shown[2].children
    assert (buttons.value, reply.value) == ("four", "Right. Count.")


def test_an_answer_that_is_no_longer_an_option_is_forgotten(file, shown):
    logbook.note("self-test", "2 + 2?", "an old option")
    self_test()
    assert shown[0].children[1].value is None
