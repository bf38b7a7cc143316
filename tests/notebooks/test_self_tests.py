"""Every lesson's self-test: two or three questions in its notebook that give nothing away."""

import importlib.util

import pytest

from tests.notebooks.test_shape import LESSONS, code
from utils.questions import LETTERS


def load_self_test(lesson):
    spec = importlib.util.spec_from_file_location("a_self_test", lesson.with_name("self_test.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.self_test


every_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)


@every_lesson
def test_a_self_test_is_short_and_every_wrong_option_is_told_why(path):
    questions = load_self_test(path).questions
    assert 2 <= len(questions) <= 3
    for question in questions:
        assert len(question.options) == 3 == len(set(question.options))
        assert question.right not in question.wrong
        for option in question.options:
            assert len(question.reply(option)) > len("Right. It is so.")


@every_lesson
def test_the_right_option_is_not_always_at_the_same_place(path):
    questions = load_self_test(path).questions
    assert len({question.options.index(question.right) for question in questions}) > 1


@every_lesson
def test_the_notebook_asks_it_and_shows_it_as_text(path):
    (cell,) = (cell for cell in code(path) if "from self_test import self_test" in cell.source)
    (output,) = cell.outputs
    test = load_self_test(path)
    assert output.output_type == "stream"
    for question in test.questions:
        assert question.ask in output.text
        for letter, option in zip(LETTERS, question.options, strict=False):
            assert f"{letter}) {option}" in output.text
        for option in question.options:
            assert question.reply(option) not in output.text, "no answer before the question"
