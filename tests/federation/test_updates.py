import io
from contextlib import nullcontext

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.federation.apps import client_app, server_app
from utils.federation import InvalidUpdateError, check_update, simulate, updates
from utils.federation.grids import copy_content


@pytest.fixture(autouse=True, scope="module")
def an_identity():
    """Messages can be made once a run has told this process who it is."""
    simulate(server_app(1), client_app(), 2)


def message(content, kind="train"):
    return Message(RecordDict(content), dst_node_id=1, message_type=kind)


def reply_to(sent, content):
    return Message(RecordDict(content), reply_to=sent)


@pytest.fixture
def content():
    return RecordDict(
        {
            "arrays": ArrayRecord([np.arange(3.0)]),
            "config": ConfigRecord({"lr": 0.1, "layers": [1, 2], "key": b"k"}),
            "metrics": MetricRecord({"loss": 0.5, "by-class": [0.1, 0.2]}),
        }
    )


def test_a_copy_is_equal(content):
    copied = copy_content(content)
    assert copied == content
    assert [type(record) for record in copied.values()] == [type(r) for r in content.values()]


def test_changes_to_a_copy_do_not_reach_the_original(content):
    copied = copy_content(content)
    copied["arrays"]["0"].data = b""
    copied["arrays"]["1"] = copied["arrays"]["0"]
    copied["config"]["layers"].append(3)
    copied["metrics"]["by-class"][0] = 9.0
    del copied["metrics"]
    assert content["arrays"]["0"].numpy().tolist() == [0, 1, 2]
    assert list(content["arrays"]) == ["0"]
    assert content["config"]["layers"] == [1, 2]
    assert content["metrics"]["by-class"] == [0.1, 0.2]


def test_a_copy_shares_the_arrays_bytes(content):
    assert copy_content(content)["arrays"]["0"].data is content["arrays"]["0"].data


@given(
    hnp.arrays(
        hnp.scalar_dtypes() | hnp.unicode_string_dtypes(),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
    ),
    st.booleans(),
)
def test_a_copied_array_reads_as_flower_reads_it(values, by_columns):
    array = Array(np.asarray(values, order="F" if by_columns else "C"))
    copied = copy_content(RecordDict({"a": ArrayRecord({"x": array})}))["a"]["x"]
    assert copied == array
    assert array == copied
    theirs, ours = array.numpy(), copied.numpy()
    np.testing.assert_array_equal(ours, theirs, strict=True)
    assert ours.tobytes("A") == theirs.tobytes("A")  # NaN too, and in the same order
    assert ours.flags.writeable


def test_a_copied_array_differs_from_another(content):
    copied = copy_content(content)["arrays"]["0"]
    assert copied != Array(np.arange(4.0))
    assert copied != copied.data
    copied.stype = "compressed:[]"
    assert copied != content["arrays"]["0"]
    with pytest.raises(TypeError, match="serialization type"):
        copied.numpy()


def test_integer_and_boolean_arrays_are_fine():
    arrays = ArrayRecord([np.array([1, 2]), np.array([True])])
    sent = message({"arrays": arrays})
    check_update(sent, reply_to(sent, {"arrays": arrays}))


def test_arrays_that_hold_other_values_than_they_declare_are_refused():
    sent = message({"arrays": ArrayRecord([np.zeros(2)])})
    lying = ArrayRecord([np.zeros(2)])
    lying["0"].data = ArrayRecord([np.zeros((5, 5))])["0"].data
    with pytest.raises(InvalidUpdateError, match=r"'0' has shape \(5, 5\), but \(2,\) was sent"):
        check_update(sent, reply_to(sent, {"arrays": lying}))


@pytest.mark.parametrize("stype", ["numpy.ndarray", 'compressed:["topk",0.01]'])
@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [("float32", (2**40,), "has shape"), ("complex128", (2,), "has dtype complex128")],
)
def test_a_false_header_is_refused_before_anything_is_decoded(
    stype, dtype, shape, expected, monkeypatch
):
    monkeypatch.setattr(updates, "read_array", lambda name, array: pytest.fail("decoded"))
    sent = message({"arrays": ArrayRecord([np.zeros(2, "f4")])})
    false = ArrayRecord({"0": Array(dtype, shape, stype, b"123456")})
    with pytest.raises(InvalidUpdateError, match=expected):
        check_update(sent, reply_to(sent, {"arrays": false}))


def test_an_update_without_arrays_is_refused():
    sent = message({"arrays": ArrayRecord([np.zeros(2)])})
    with pytest.raises(InvalidUpdateError, match="holds no ArrayRecord"):
        check_update(sent, reply_to(sent, {"metrics": MetricRecord({"num-examples": 1})}))


def test_where_no_arrays_were_sent_none_are_expected():
    sent = message({"config": ConfigRecord({"ask": "mean age"})})
    check_update(sent, reply_to(sent, {"metrics": MetricRecord({"mean": 40.5})}))


def test_an_evaluation_needs_no_arrays_but_a_sound_weight():
    sent = message({"arrays": ArrayRecord([np.zeros(2)])}, kind="evaluate")
    check_update(sent, reply_to(sent, {"m": MetricRecord({"num-examples": 2})}), "num-examples")
    weightless = reply_to(sent, {"m": MetricRecord({"num-examples": 0})})
    check_update(sent, weightless)  # nobody averages by it
    with pytest.raises(InvalidUpdateError, match="the weight 'num-examples' is 0"):
        check_update(sent, weightless, "num-examples")


def test_several_records_are_checked_for_finite_values():
    two = {"model": ArrayRecord([np.zeros(2)]), "control": ArrayRecord([np.zeros(2)])}
    sent = message(two)
    check_update(sent, reply_to(sent, two))
    two["control"] = ArrayRecord([np.array([0, np.nan])])
    with pytest.raises(InvalidUpdateError, match="'0' holds NaN"):
        check_update(sent, reply_to(sent, two))


def test_a_list_is_no_weight():
    sent = message({"arrays": ArrayRecord([np.zeros(2)])}, kind="evaluate")
    with pytest.raises(InvalidUpdateError, match="positive, finite number"):
        check_update(sent, reply_to(sent, {"m": MetricRecord({"n": [1, 2]})}), "n")


@pytest.mark.parametrize(
    "values",
    [np.zeros(0), np.zeros((0, 3), "f4"), np.array(3, "f4"), np.ones((2, 3), order="F")],
)
def test_empty_scalar_and_transposed_arrays_are_fine(values):
    sent = message({"arrays": ArrayRecord([values])})
    check_update(sent, reply_to(sent, {"arrays": ArrayRecord([np.asarray(values + 1)])}))


def test_the_last_value_of_an_array_is_looked_at_too():
    sent = message({"arrays": ArrayRecord([np.zeros(5, "f4")])})
    bad = np.array([0, 0, 0, 0, -np.inf], "f4")
    with pytest.raises(InvalidUpdateError, match="in 1 of its 5 values"):
        check_update(sent, reply_to(sent, {"arrays": ArrayRecord([bad])}))


@pytest.mark.parametrize(
    ("dtype", "answer", "fine"),
    [
        ("f8", "f4", True),
        ("f4", "f8", True),
        ("i8", "i4", True),
        ("f4", "i8", False),
        ("i8", "f4", False),
        ("f4", "?", False),
        ("f4", "c16", False),
    ],
)
def test_a_float_may_answer_a_float_of_another_width(dtype, answer, fine):
    sent = message({"arrays": ArrayRecord([np.zeros(2, dtype)])})
    reply = reply_to(sent, {"arrays": ArrayRecord([np.zeros(2, answer)])})
    with nullcontext() if fine else pytest.raises(InvalidUpdateError, match="has dtype"):
        check_update(sent, reply)


def test_an_unknown_encoding_is_refused():
    sent = message({"arrays": ArrayRecord([np.zeros(2)])})
    pickled = ArrayRecord({"0": Array("float64", (2,), "pickle", b"cos\nsystem\n")})
    with pytest.raises(InvalidUpdateError, match="written as 'pickle', which nobody here can read"):
        check_update(sent, reply_to(sent, {"arrays": pickled}))


def test_numpys_bytes_that_hold_objects_are_refused():
    sent = message({"arrays": ArrayRecord([np.zeros(2)])})
    objects = io.BytesIO()
    np.save(objects, np.array([{}, {}]), allow_pickle=True)
    evil = ArrayRecord({"0": Array("float64", (2,), "numpy.ndarray", objects.getvalue())})
    with pytest.raises(InvalidUpdateError, match="Python objects"):
        check_update(sent, reply_to(sent, {"arrays": evil}))


def test_an_update_is_what_training_changed_and_can_be_applied_again():
    received = {"w": np.array([1.0, 2.0], "f4"), "steps": np.array(3)}
    trained = {"w": np.array([1.5, 1.0], "f4"), "steps": np.array(9)}
    update = updates.update_of(received, trained)
    assert {name: values.tolist() for name, values in update.items()} == {"w": [0.5, -1.0]}
    again = updates.apply_update(received, update)
    assert again["w"].tolist() == [1.5, 1.0]
    assert again["w"].dtype == np.float32
    assert again["steps"] == 3


@pytest.mark.parametrize(
    ("trained", "fault"),
    [({}, r"missing \['w'\]"), ({"w": np.zeros(3)}, r"has shape \(3,\), but \(2,\)")],
)
def test_an_update_of_another_model_is_refused(trained, fault):
    with pytest.raises(InvalidUpdateError, match=fault):
        updates.update_of({"w": np.zeros(2)}, trained)
