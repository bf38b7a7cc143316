"""What counts as a number, a name or a list, and the sentence for what does not."""

import math

import numpy as np
import pytest
import torch

from utils.arguments import (
    dict_of,
    flag,
    floats,
    function,
    functions,
    list_of,
    number,
    one_of,
    rows_of,
    seed_number,
    shown,
    text,
    whole_number,
)


def said_of(check, *args, **limits) -> str:
    with pytest.raises(ValueError, match="; it must be ") as raised:
        check(*args, **limits)
    return str(raised.value)


def test_whole_numbers_of_python_and_numpy_within_the_limits_come_back_as_int():
    for value in (2, 8, np.int64(3), np.uint8(8)):
        got = whole_number("bits", value, 2, 8)
        assert type(got) is int
        assert got == value
    assert whole_number("bits", 10**400, 2) == 10**400


def test_what_is_no_whole_number_or_out_of_range_is_named_with_the_limits():
    for value in (1, 9, -4, 3.0, np.float32(3), "3", None, True, np.True_, math.nan, [3]):
        assert said_of(whole_number, "bits", value, 2, 8) == (
            f"bits is {value!r}; it must be a whole number from 2 to 8"
        )
    assert said_of(whole_number, "size", 0, 1, 2**20).endswith("from 1 to 1,048,576")
    assert said_of(whole_number, "rounds", 0, 1).endswith("a whole number of at least 1")


def test_finite_numbers_within_the_limits_come_back_as_float():
    for value in (0, 1, 0.5, np.float32(0.5), np.int64(1)):
        got = number("share", value, least=0, most=1)
        assert type(got) is float
        assert got == value
    assert number("lr", 1e300) == 1e300
    assert number("lr", -1e300) == -1e300


def test_limits_that_may_not_be_reached_are_not():
    assert number("share", 0.5, above=0, below=1) == 0.5
    for value in (0, 1):
        said = said_of(number, "share", value, above=0, below=1)
        assert said == f"share is {value}; it must be a finite number above 0 and below 1"


def test_what_is_no_finite_number_or_out_of_range_is_named_with_the_limits():
    odd = (math.nan, math.inf, -math.inf, np.float32("nan"), 10**400, True, np.True_, "1", None, 1j)
    for value in odd:
        assert said_of(number, "lr", value).endswith("; it must be a finite number")
    for value in (*odd, -0.1, 1.1):
        said = said_of(number, "lr", value, least=0, most=1)
        assert said.endswith("; it must be a finite number at least 0 and at most 1")
        assert said.startswith("lr is ")


def test_a_name_is_one_of_those_allowed_or_all_of_them_are_given():
    assert one_of("source", "mnist", ("bundled", "mnist")) == "mnist"
    for value in ("MNIST", "", None, 3, ["mnist"]):
        assert said_of(one_of, "source", value, ("bundled", "mnist")) == (
            f"source is {value!r}; it must be one of: 'bundled', 'mnist'"
        )


def test_anything_that_can_be_gone_through_is_a_list_but_not_a_string():
    for value in ([1, 2], (1, 2), {1: "a", 2: "b"}, np.array([1, 2]), iter([1, 2])):
        got = list_of("labels", value, "labels")
        assert got == [1, 2]
        assert {type(item) for item in got} == {int}
    for value in ("12", b"12", None, 12):
        assert said_of(list_of, "labels", value, "labels") == (
            f"labels is {value!r}; it must be a list of labels"
        )
    assert said_of(list_of, "labels", np.array(12), "labels").startswith("labels is 12;")


def test_a_seed_has_63_bits():
    assert seed_number(np.int64(7)) == 7
    assert seed_number(2**63 - 1) == 2**63 - 1
    for value in (-1, 2**63, 0.5, None):
        assert said_of(seed_number, value).startswith("seed is ")


def test_true_and_false_of_python_and_numpy_are_flags_and_nothing_else():
    for value in (True, np.True_):
        assert flag("clues", value) is True
    assert flag("clues", np.False_) is False
    for value in (None, 0, 1, "False", [], np.array([True]), math.nan):
        assert said_of(flag, "clues", value).startswith("clues is ")


def test_text_is_a_string_and_nothing_else():
    assert text("question", "") == ""
    for value in (None, 3, b"word", ["word"], math.nan):
        assert said_of(text, "question", value) == f"question is {value!r}; it must be text"


def test_what_can_be_called_is_a_function_and_an_example_is_given():
    assert function("on_epoch", print, "print") is print
    assert functions("mods", (len, print), "mods") == [len, print]
    with pytest.raises(TypeError, match="on_epoch is 3; it must be a function, such as print"):
        function("on_epoch", 3, "print")
    with pytest.raises(TypeError, match="one of mods is 'word'; it must be a function"):
        functions("mods", ["word"], "mods")
    with pytest.raises(ValueError, match="mods is None; it must be a list of mods"):
        functions("mods", None, "mods")


def test_a_dictionary_is_handed_on_and_what_is_none_is_named():
    settings = {"lr": 0.1}
    assert dict_of("config", settings, "settings") is settings
    for value in (None, [("lr", 0.1)], "lr", dict):
        assert said_of(dict_of, "config", value, "settings").endswith(
            "dictionary of settings by name"
        )


def test_what_are_no_numbers_becomes_one_nan():
    assert floats([[1, 2]]).tolist() == [[1, 2]]
    gradient = torch.ones(2, requires_grad=True)
    for value in ("word", [[1], [1, 2]], None, 10**400, ["a"], object(), gradient):
        found = floats(value)
        assert found.shape == ()
        assert np.isnan(found)


def test_rows_are_dictionaries_with_text_and_a_single_thing_is_no_list_of_them():
    rows = ({"question": "Who?"}, {"question": "What?"})
    assert rows_of("cards", iter(rows), "question") == list(rows)
    for value in (None, "cards", {"question": "Who?"}, dict, 3, torch.tensor(1.0), np.array(1)):
        with pytest.raises(ValueError, match=r"cards is a .*; pass a list of cards"):
            rows_of("cards", value, "question")
    with pytest.raises(ValueError, match="number 1 of the cards has no text as its 'question'"):
        rows_of("cards", [rows[0], {"question": None}], "question")
    with pytest.raises(ValueError, match="there are no cards"):
        rows_of("cards", [], "question")


def test_a_long_value_is_shown_on_one_short_line():
    for value in (np.zeros((50, 50)), "x" * 10_000, list(range(1000))):
        assert len(shown(value)) < 100
        assert "\n" not in shown(value)
