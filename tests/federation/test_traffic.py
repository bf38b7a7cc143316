import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_to_proto
from flwr.serverapp import ServerApp
from hypothesis import given
from hypothesis import strategies as st

from tests.federation.apps import client_app, server_app
from utils.federation import TrafficMeter, serialized_bytes, simulate


def a_message(values):
    content = RecordDict({"arrays": ArrayRecord([values]), "config": ConfigRecord({"lr": 0.1})})
    return Message(content, dst_node_id=1, message_type="train.fast")


@pytest.fixture(autouse=True, scope="module")
def an_identity():
    """Messages can be made once a run has told this process who it is."""
    simulate(server_app(1), client_app(), 2)


@pytest.mark.parametrize("count", [0, 1, 1000, 250_000])
def test_bytes_are_those_of_the_serialized_message(count):
    message = a_message(np.zeros(count, "float32"))
    wire = message_to_proto(message).SerializeToString()
    assert serialized_bytes(message) == len(wire)
    parsed = message_from_proto(type(message_to_proto(message)).FromString(wire))
    assert parsed.content["arrays"]["0"].numpy().shape == (count,)


_ARRAYS = st.builds(
    Array,
    dtype=st.text(max_size=9),
    shape=st.lists(st.integers(0, 2**31 - 1), max_size=4).map(tuple),
    stype=st.text(max_size=20),
    data=st.sampled_from([0, 1, 127, 128, 16_383, 16_384, 2_097_152]).map(bytes),
)
_PLAIN = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(), st.lists(st.floats(), max_size=3))
_RECORDS = st.one_of(
    st.dictionaries(st.text(), _ARRAYS, max_size=3).map(ArrayRecord),
    st.dictionaries(st.text(), _PLAIN, max_size=3).map(MetricRecord),
    st.dictionaries(
        st.text(), st.one_of(_PLAIN, st.booleans(), st.text(), st.binary()), max_size=3
    ).map(ConfigRecord),
)


@given(st.dictionaries(st.text(max_size=200), _RECORDS, max_size=3), st.text(max_size=200))
def test_the_computed_length_is_protobufs_to_the_byte(records, group):
    content = RecordDict(records)
    assert serialized_bytes(content) == recorddict_to_proto(content).ByteSize()
    message = Message(content, 1, "train", group_id=group)
    assert serialized_bytes(message) == message_to_proto(message).ByteSize()
    failed = Message(Error(3, group), reply_to=message)
    assert serialized_bytes(failed) == message_to_proto(failed).ByteSize()


def test_content_weighs_less_than_its_message_by_the_addresses():
    sizes = [(serialized_bytes(m), serialized_bytes(m.content)) for m in map(a_message, LONG)]
    addresses = [message - content for message, content in sizes]
    assert all(20 < size < 300 for size in addresses)
    assert max(addresses) - min(addresses) <= 3  # lengths take a byte or two more to write


LONG = [np.zeros(n, "float32") for n in (1, 1000, 100_000)]


def test_the_envelope_of_an_array_is_small_and_constant():
    small, large = (serialized_bytes(a_message(np.zeros(n, "float32"))) for n in (10_000, 20_000))
    assert abs(large - small - 40_000) <= 4  # a length may take one byte more to write
    assert 128 < small - 40_000 < 400  # NumPy's header of 128 bytes, names, shape, addresses


def test_every_message_is_counted_in_both_directions():
    traffic = simulate(server_app(2), client_app(), 3).traffic
    assert traffic.columns.tolist() == list(TrafficMeter.COLUMNS)
    counts = traffic.groupby(["round", "kind", "direction"]).size()
    assert len(counts) == 2 * 2 * 2
    assert (counts == 3).all()
    up = traffic[traffic["direction"] == "up"].groupby("kind")["bytes"].min()
    assert up["train"] > up["evaluate"]  # an evaluation returns no arrays


def test_a_client_that_fails_still_received_and_its_error_is_counted():
    def crash(message, context):
        if context.node_config["partition-id"] == 0:
            raise RuntimeError("x" * 5000)
        return good(message, context)

    good = client_app()._registered_funcs["train.default"]
    traffic = simulate(server_app(1), client_app(crash), 2).traffic
    mine = traffic[(traffic["client"] == 0) & (traffic["kind"] == "train")]
    assert mine["direction"].tolist() == ["down", "up"]
    assert mine["bytes"].iloc[1] > 5000


def test_bytes_grow_with_metrics_too():
    def reply(size):
        record = MetricRecord({"values": [0.5] * size, "num-examples": 1})
        return serialized_bytes(Message(RecordDict({"m": record}), 1, "evaluate"))

    assert reply(1001) - reply(1) == pytest.approx(8000, rel=0.01)


def test_the_kind_is_the_message_type_without_its_action():
    meter = TrafficMeter()
    meter.record(a_message(np.zeros(1)), round=1, client=0, direction="up")
    assert meter.table()["kind"].tolist() == ["train"]


def test_an_unknown_direction_is_refused():
    with pytest.raises(ValueError, match="direction is 'sideways'; it must be one of"):
        TrafficMeter().record(a_message(np.zeros(1)), round=1, client=0, direction="sideways")


def test_an_empty_meter_has_its_columns():
    assert TrafficMeter().table().columns.tolist() == list(TrafficMeter.COLUMNS)


def test_a_content_that_the_server_changes_and_sends_again_is_measured_again():
    app = ServerApp()

    @app.main()
    def main(grid, context):
        content = RecordDict({"config": ConfigRecord({"server-round": 1})})
        for size in (10, 5000):
            content["config"]["note"] = "x" * size
            grid.send_and_receive([Message(content, n, "query") for n in grid.get_node_ids()])

    answers = ClientApp()

    @answers.query()
    def query(message, context):
        return Message(RecordDict(), reply_to=message)

    traffic = simulate(app, answers, 2).traffic
    down = traffic[traffic["direction"] == "down"]["bytes"].tolist()
    assert min(down[2:]) - max(down[:2]) > 4900
