import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from tests.federation.apps import client_app, server_app
from utils.federation import InvalidUpdateError, check_update, copy_content, messages, simulate


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
    monkeypatch.setattr(messages, "decode_array", lambda array: pytest.fail("decoded"))
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
    check_update(sent, reply_to(sent, {"m": MetricRecord({"num-examples": 2})}))
    with pytest.raises(InvalidUpdateError, match="the weight 'num-examples' is 0"):
        check_update(sent, reply_to(sent, {"m": MetricRecord({"num-examples": 0})}))


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
        check_update(sent, reply_to(sent, {"m": MetricRecord({"num-examples": [1, 2]})}))


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
