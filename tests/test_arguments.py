"""What counts as a number, a name or a list, and the sentence for what does not."""

import math

import numpy as np
import pytest

from utils.arguments import list_of, number, one_of, shown, whole_number


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


def test_a_long_value_is_shown_on_one_short_line():
    for value in (np.zeros((50, 50)), "x" * 10_000, list(range(1000))):
        assert len(shown(value)) < 100
        assert "\n" not in shown(value)
