"""Arrays on the wire, the client mod with its memory, and the strategy wrapper, end to end."""

from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp.strategy import FedAvg, FedAvgM, FedMedian, FedYogi
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tests.federation.apps import client_app, client_of, final_weights, server_app, update_reply
from utils.compression import (
    Cast,
    CompressedStrategy,
    CompressionError,
    Rotation,
    TopK,
    Uniform,
    compress_update,
    decode_array,
    encode_array,
)
from utils.federation import RoundFailedError, serialized_bytes, simulate
from utils.federation.recording import round_of
from utils.randomness import random_stream

CODECS = [
    Cast(),
    Cast("bfloat16"),
    Uniform(bits=4, bucket=5),
    TopK(0.2),
    Rotation(bits=1, block=16),
    Rotation(bits=2, unbiased=False),
]
each_codec = pytest.mark.parametrize("codec", CODECS, ids=str)


@pytest.fixture(autouse=True)
def a_fixed_seed():
    with random_stream("compression"):
        yield


@pytest.fixture(autouse=True, scope="module")
def an_identity():
    """Messages can be made once a run has told this process who it is."""
    simulate(server_app(1), client_app(), 2)


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# One array ---------------------------------------------------------------------------------------


def shapes(smallest):
    return st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=smallest, max_side=7)


@each_codec
@given(
    st.data(),
    st.sampled_from(["float16", "float32", "float64"]),
    shapes(0) | st.sampled_from([(), (0,), (3, 0), (5,), (257,)]),
)
@settings(deadline=None)
def test_shape_and_dtype_survive(codec, data, dtype, shape):
    elements = st.floats(-100, 100, width=16)
    values = data.draw(st_numpy.arrays(dtype, shape, elements=elements, fill=elements))
    array = encode_array(values, codec)
    assert (array.dtype, array.shape) == (dtype, shape)
    decoded = decode_array(array)
    assert (decoded.dtype, decoded.shape) == (values.dtype, values.shape)
    assert np.isfinite(decoded).all()
    if not values.any():
        assert not decoded.any()
    if not values.size:
        assert array.data == b""


@each_codec
@given(st_numpy.arrays(st_numpy.integer_dtypes() | st_numpy.boolean_dtypes(), shapes(0)))
@settings(deadline=None)
def test_integers_and_booleans_pass_untouched(codec, values):
    array = encode_array(values, codec)
    assert array.stype == "numpy.ndarray"
    assert decode_array(array).dtype == values.dtype
    assert np.array_equal(decode_array(array), values)


@each_codec
@pytest.mark.parametrize("size", [1, 5, 16, 100, 5000])
def test_only_the_codecs_bytes_are_sent(codec, size):
    payload = len(codec.encode(gaussian(size)))
    array = encode_array(gaussian(size), codec)
    assert len(array.data) == payload
    whole = a_message(array)
    without = a_message(Array(array.dtype, array.shape, array.stype, b""))
    length_fields = 20  # each level that holds the bytes writes a length, of 1 to 4 bytes
    assert 0 <= serialized_bytes(whole) - serialized_bytes(without) - payload <= length_fields
    assert serialized_bytes(without) < 250


@each_codec
def test_the_receiver_needs_nothing_but_what_was_sent(codec):
    message = a_message(encode_array(gaussian(4, 5), codec))
    wire = message_to_proto(message).SerializeToString()
    parsed = message_from_proto(type(message_to_proto(message)).FromString(wire))
    decoded = decode_array(parsed.content["arrays"]["w"])
    assert np.array_equal(decoded, decode_array(message.content["arrays"]["w"]))


def a_message(array):
    return Message(RecordDict({"arrays": ArrayRecord({"w": array})}), 1, "train")


def test_arrays_that_are_not_compressed_are_read_as_ever():
    values = gaussian(2, 3)
    assert np.array_equal(decode_array(Array(values)), values)


def test_transposed_and_strided_arrays_keep_their_order():
    values = gaussian(6, 8)
    for view in (values.T, values[::2, ::-1], np.asfortranarray(values)):
        assert decode_array(encode_array(view, Cast())) == pytest.approx(view, rel=2**-11)


@each_codec
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_and_counted(codec, bad):
    values = gaussian(30, 40)
    values[3, 4:6] = bad
    with pytest.raises(CompressionError, match="2 of 1,200 values are NaN or infinite"):
        encode_array(values, codec)


@pytest.mark.filterwarnings("error")
def test_a_number_too_large_for_float32_is_refused_without_a_warning():
    with pytest.raises(CompressionError, match=r"1 of 2 values are NaN or infinite \(in float32\)"):
        encode_array(np.array([1, -1e300]), Cast("bfloat16"))


def with_bytes(array, data):
    return Array(array.dtype, array.shape, array.stype, data)


@each_codec
def test_bytes_that_do_not_fit_the_shape_are_refused(codec):
    array = encode_array(gaussian(3, 5), codec)
    for data in (array.data[:-1], array.data + b"\0", b""):
        with pytest.raises(
            CompressionError, match=r"bytes of .* array of shape \(3, 5\)"
        ) as raised:
            decode_array(with_bytes(array, data))
        assert str(raised.value).startswith(f"{len(data)} bytes of '{array.stype}'")
        assert f"{len(array.data)} bytes are needed" in str(raised.value)


@pytest.mark.parametrize("shape", [(6,), (3, 5), (1000,), (-1,), (-5, -1)])
def test_a_shape_that_does_not_fit_the_bytes_is_refused(shape):
    array = encode_array(gaussian(5), Uniform(8))
    with pytest.raises(CompressionError, match=r"bytes are needed|a length is negative"):
        decode_array(Array(array.dtype, shape, array.stype, array.data))


@each_codec
@pytest.mark.parametrize("change", [{"shape": (-1, -1)}, {"dtype": "foo"}], ids=str)
def test_a_shape_or_dtype_that_does_not_exist_is_refused(codec, change):
    array = encode_array(gaussian(1), codec)
    fields = {"dtype": "float32", "shape": (1,), "stype": array.stype, "data": array.data}
    with pytest.raises(CompressionError, match=r"do not hold an array of shape .* and dtype"):
        decode_array(Array(**fields | change))


@each_codec
def test_bytes_of_an_empty_array_are_refused(codec):
    array = encode_array(np.empty((0, 3), np.float32), codec)
    with pytest.raises(CompressionError, match="an empty array has no bytes"):
        decode_array(with_bytes(array, b"1"))


def test_a_position_outside_of_the_array_is_refused():
    array = encode_array(gaussian(100), TopK(0.01))
    with pytest.raises(CompressionError, match="out of bounds"):
        decode_array(with_bytes(array, b"\xff\xff" + array.data[2:]))


UNREADABLE = """
    null  5  []  [[1]]  {  {"kind":"cast"}  ["gzip"]  ["uniform",1]  ["uniform",8,512,3]
    ["topk",2]  ["rotation",1,true,1000]  ["cast","float32"]
"""


@pytest.mark.parametrize("named", ["", *UNREADABLE.split()])
def test_an_unknown_codec_is_named_with_those_that_are_known(named):
    array = Array("float32", (2,), f"compressed:{named}", b"1234")
    with pytest.raises(CompressionError, match="cast, uniform, topk, rotation") as raised:
        decode_array(array)
    assert f"cannot read 'compressed:{named}'" in str(raised.value)


# A federation with known updates -----------------------------------------------------------------

MODEL = {"w": gaussian(6, 5, seed=1), "b": gaussian(7, seed=2)}


def known(round_, client):
    """A different update for each client and round."""
    return {
        name: gaussian(*values.shape, seed=100 * round_ + 10 * client + number)
        for number, (name, values) in enumerate(MODEL.items())
    }


def nothing(round_, client):
    return {name: np.zeros_like(values) for name, values in MODEL.items()}


class FedAvgWithout(FedAvg):
    """FedAvg that leaves clients out: ``missing`` holds pairs of round and client."""

    def __init__(self, missing):
        super().__init__()
        self.missing = missing

    def configure_train(self, server_round, arrays, config, grid):
        messages = super().configure_train(server_round, arrays, config, grid)
        absent = {client for round_, client in self.missing if round_ == server_round}
        return [m for m in messages if grid.client_of[m.metadata.dst_node_id] not in absent]


def federate(
    codec,
    updates=known,
    *,
    rounds=1,
    strategy=None,
    down=None,
    error_feedback=False,
    model=MODEL,
    tamper=None,
    examples=lambda client: 1,
    weight="num-examples",
):
    """Run two clients; keep, by (round, client), what each one saw, sent and remembered.

    ``tamper(reply)`` changes what client 1 sends; ``codec=None`` runs without compression.
    """
    log = SimpleNamespace(seen={}, evaluated={}, sent={}, before={}, state={}, server={})

    def train(message, context):
        at = round_of(message), client_of(context)
        log.seen[at] = plain(message.content["arrays"])
        log.before[at] = memory_of(context)
        log.state[at[1]] = context
        new = {n: log.seen[at].get(n, 0) + update for n, update in updates(*at).items()}
        return update_reply(message, new, **{weight: examples(at[1])})

    def evaluate(message, context):
        log.evaluated[round_of(message), client_of(context)] = plain(message.content["arrays"])
        metrics = MetricRecord({"score": client_of(context), weight: examples(client_of(context))})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    def spy(message, context, call_next):
        reply = call_next(message, context)
        if message.metadata.message_type == "train":
            log.sent[round_of(message), client_of(context)] = arrays_of(reply)
            if tamper and client_of(context) == 1:
                tamper(reply)
        return reply

    def remember(round_, arrays):
        log.server[round_] = plain(arrays)

    strategy = strategy or FedAvg()
    mods = [spy]
    if codec:
        mods.append(compress_update(codec, error_feedback))
        strategy = CompressedStrategy(strategy, down)
    app = ClientApp(mods=mods)
    app.train()(train)
    app.evaluate()(evaluate)
    server = server_app(rounds, strategy, evaluate_fn=remember, arrays=model)
    log.run = simulate(server, app, 2, progress=False)
    return log


def plain(record):
    return {name: array.numpy() for name, array in record.items()}  # fails on encoded arrays


def arrays_of(message):
    return {name: decode_array(array) for name, array in message.content["arrays"].items()}


def memory_of(context):
    records = list(context.state.array_records.values())
    return {name: values for record in records for name, values in plain(record).items()}


def total(parts):
    return {name: sum(part[name] for part in parts) for name in MODEL}


def assert_close(arrays, expected, tolerance=1e-5):
    assert arrays.keys() == expected.keys()
    for name in expected:
        assert arrays[name] == pytest.approx(expected[name], abs=tolerance), name


def assert_equal(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name in expected:
        assert arrays[name].dtype == expected[name].dtype
        assert arrays[name].tobytes() == expected[name].tobytes(), name


@each_codec
@pytest.mark.parametrize("down", [None, Uniform(3)], ids=["down as is", "down in 3 bits"])
def test_the_new_model_is_the_old_one_plus_the_mean_of_the_decoded_updates(codec, down):
    log = federate(codec, rounds=2, down=down, examples=lambda client: 1 + 2 * client)
    assert not log.run.failures
    for round_ in (1, 2):
        first, second = log.sent[round_, 0], log.sent[round_, 1]
        expected = {
            name: log.server[round_ - 1][name] + 0.25 * first[name] + 0.75 * second[name]
            for name in MODEL
        }
        assert_close(log.server[round_], expected)
        for client in (0, 1):  # and what was sent is the update, as that codec writes it
            for name, true in known(round_, client).items():
                error = np.square(log.sent[round_, client][name] - true).sum()
                assert error < (1e-4 if isinstance(codec, Cast) else 1.1) * np.square(true).sum()
                assert error > 0
    assert_equal(final_weights(log.run), log.server[2])


def test_one_seed_repeats_a_run_and_clients_draw_differently():
    same = {name: gaussian(*values.shape) for name, values in MODEL.items()}
    logs = [federate(Rotation(1), lambda *at: same, rounds=2) for _ in range(2)]
    assert_equal(logs[0].server[2], logs[1].server[2])
    first = logs[0].sent
    pairs = [((1, 0), (1, 1)), ((1, 0), (2, 0))]
    assert all(not np.allclose(first[one]["w"], first[other]["w"]) for one, other in pairs)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (FedAvg, {}),
        (FedAvgM, {"server_momentum": 0.9, "server_learning_rate": 0.5}),
        (FedMedian, {}),
        (FedYogi, {}),
    ],
)
def test_any_inner_strategy_works_as_without_compression(make, options):
    plain = federate(None, rounds=3, strategy=make(**options)).server
    wrapped = federate(TopK(1.0), rounds=3, strategy=make(**options)).server
    for round_ in range(4):
        assert_close(wrapped[round_], plain[round_], 1e-4)
    assert np.abs(plain[3]["w"] - plain[2]["w"]).max() > 0.01


def test_integers_are_averaged_as_they_are_not_added_to_the_model():
    model = {"w": np.zeros(3, "f4"), "steps": np.array([10, 20]), "on": np.array([True, False])}

    def updates(round_, client):
        return {"w": np.ones(3, "f4"), "steps": np.array([2, 4]) + client, "on": False}

    log = federate(Cast(), updates, model=model, error_feedback=True)
    assert final_weights(log.run)["steps"].tolist() == [12.5, 24.5]
    assert memory_of(log.state[0]).keys() == {"w"}


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_models_of_other_precision_keep_their_dtype(dtype):
    model = {"w": np.zeros((2, 3), dtype)}
    log = federate(Uniform(), lambda *_: {"w": np.ones((2, 3), dtype)}, model=model, rounds=2)
    assert not log.run.failures
    assert log.sent[2, 1]["w"].dtype == log.seen[2, 1]["w"].dtype == dtype
    assert log.server[2]["w"] == pytest.approx(np.full((2, 3), 2.0), abs=0.02)


@each_codec
@pytest.mark.parametrize("error_feedback", [False, True], ids=["", "with error feedback"])
def test_zero_dimensional_arrays_stay_so(codec, error_feedback):
    model = {"w": np.array(1, np.float32)}

    def half(round_, client):
        return {"w": np.array(0.5, np.float32)}

    log = federate(codec, half, model=model, rounds=3, error_feedback=error_feedback)
    assert not log.run.failures
    assert log.server[3]["w"].shape == log.sent[3, 1]["w"].shape == ()
    assert log.server[3]["w"] == pytest.approx(2.5)
    assert {name: v.shape for name, v in memory_of(log.state[0]).items()} == (
        {"w": ()} if error_feedback else {}
    )


def test_a_client_without_the_mod_sends_full_weights():
    compress = compress_update(Cast())

    def only_client_0(message, context, call_next):
        mod = compress if client_of(context) == 0 else lambda m, c, call: call(m, c)
        return mod(message, context, call_next)

    app = client_app(mods=[only_client_0])  # both add 1 a round
    run = simulate(server_app(3, CompressedStrategy(FedAvg())), app, 2)
    assert not run.failures
    assert final_weights(run)["w"].tolist() == [3, 3]


# The client's memory -----------------------------------------------------------------------------


@each_codec
def test_what_was_sent_and_the_memory_add_up_to_the_true_updates(codec):
    log = federate(codec, rounds=6, error_feedback=True)
    for client in (0, 1):
        sent = [log.sent[round_, client] for round_ in range(1, 7)]
        true = [known(round_, client) for round_ in range(1, 7)]
        assert_close(total([*sent, memory_of(log.state[client])]), total(true), 1e-4)
        assert np.abs(memory_of(log.state[client])["w"]).max() > 1e-6


def test_a_client_that_missed_rounds_keeps_its_memory():
    strategy = FedAvgWithout({(2, 1), (3, 1)})
    log = federate(TopK(0.1), rounds=4, strategy=strategy, error_feedback=True)
    assert {round_ for round_, client in log.sent if client == 1} == {1, 4}
    left_out = {n: v - log.sent[1, 1][n] for n, v in known(1, 1).items()}
    assert_close(log.before[4, 1], left_out)
    sent = total([log.sent[1, 1], log.sent[4, 1], memory_of(log.state[1])])
    assert_close(sent, total([known(1, 1), known(4, 1)]))


def test_the_memory_is_the_clients_own_and_lies_in_its_state():
    log = federate(TopK(0.1), error_feedback=True)
    for client in (0, 1):
        (record,) = log.state[client].state.values()
        assert {name: array.shape for name, array in record.items()} == {"w": (6, 5), "b": (7,)}
        assert log.before[1, client] == {}
        left_out = {n: v - log.sent[1, client][n] for n, v in known(1, client).items()}
        assert_close(memory_of(log.state[client]), left_out)


def test_without_error_feedback_nothing_is_kept():
    log = federate(TopK(0.1), rounds=2)
    assert not log.state[0].state
    for name, update in known(2, 0).items():
        sent = log.sent[2, 0][name]
        assert sent == pytest.approx(np.where(sent == 0, 0, update), abs=1e-6)


def test_a_round_that_fails_leaves_the_memory_as_it_was():
    def updates(round_, client):
        return {
            n: v + (np.nan if (round_, client) == (2, 0) else 0) for n, v in known(1, 0).items()
        }

    log = federate(TopK(0.1), updates, rounds=3, error_feedback=True)
    (failure,) = log.run.failures
    assert (failure.round, failure.client) == (2, 0)
    assert_equal(log.before[3, 0], log.before[2, 0])


# What the server sends ---------------------------------------------------------------------------


def test_clients_train_and_evaluate_on_the_decoded_model():
    log = federate(TopK(1.0), rounds=2, down=Cast("bfloat16"))

    def decoded(round_):
        arrays = log.server[round_].items()
        return {n: decode_array(encode_array(v, Cast("bfloat16"))) for n, v in arrays}

    for client in (0, 1):
        for round_ in (1, 2):
            assert_equal(log.seen[round_, client], decoded(round_ - 1))
            assert_equal(log.evaluated[round_, client], decoded(round_))
    assert not np.array_equal(log.seen[1, 0]["w"], MODEL["w"])


def test_every_client_gets_the_same_bytes():
    log = federate(Cast(), down=Uniform(2))
    assert_equal(log.seen[1, 0], log.seen[1, 1])
    assert not np.array_equal(log.seen[1, 0]["w"], MODEL["w"])


def test_without_down_the_model_travels_as_it_is():
    log = federate(Cast())
    assert_equal(log.seen[1, 1], MODEL)
    assert_equal(log.evaluated[1, 1], log.server[1])


@each_codec
def test_the_servers_own_model_keeps_its_full_precision(codec):
    log = federate(Uniform(4), nothing, rounds=3, down=codec)
    assert_equal(final_weights(log.run), MODEL)
    assert not np.array_equal(log.seen[3, 0]["w"], MODEL["w"])


@pytest.mark.parametrize("make", [FedYogi, FedAvgM])
def test_inner_strategies_do_not_see_the_encoded_model(make):
    log = federate(Cast(), nothing, rounds=2, down=Rotation(1), strategy=make())
    assert_close(final_weights(log.run), MODEL, 1e-6)


# What goes wrong ---------------------------------------------------------------------------------


def test_a_nan_update_is_a_failure_that_names_the_client():
    def updates(round_, client):
        update = known(round_, client)
        update["b"][:2] = np.nan if client == 1 else 0
        return update

    log = federate(Uniform(), updates)
    (failure,) = log.run.failures
    assert str(failure).startswith("Round 1: client 1 failed to train: CompressionError: 2 of 7 va")
    assert_close(log.server[1], total([MODEL, log.sent[1, 0]]))


def test_an_update_too_large_for_float16_is_a_failure_that_names_the_client():
    log = federate(Cast(), lambda *at: {n: v * 1e6 * at[1] for n, v in known(*at).items()})
    assert "client 1 failed to train: CompressionError" in str(log.run.failures[0])
    assert "is too large for float16" in log.run.failures[0].error


def test_a_client_that_raises_is_left_out():
    def updates(round_, client):
        if client == 0:
            raise RuntimeError("out of power")
        return known(round_, client)

    log = federate(Uniform(), updates, rounds=2)
    assert [f.error for f in log.run.failures] == ["RuntimeError: out of power"] * 2
    assert_close(log.server[2], total([MODEL, log.sent[1, 1], log.sent[2, 1]]))


def test_the_inner_strategy_sees_error_replies_as_they_are():
    class Losing(FedAvg):
        def aggregate_train(self, server_round, replies):
            lost.extend(reply.has_error() for reply in replies)
            return super().aggregate_train(server_round, replies)

    lost = []
    federate(Uniform(), strategy=Losing(), tamper=lambda reply: reply.content.clear())
    assert sorted(lost) == [False, True]


def edit(**fields):
    """Change fields of the array 'w' of a reply."""

    def tamper(reply):
        array = reply.content["arrays"]["w"]
        new = {key: getattr(array, key) for key in ("dtype", "shape", "stype", "data")}
        new |= {key: change(new[key]) for key, change in fields.items()}
        reply.content["arrays"]["w"] = Array(**new)

    return tamper


def rename(reply):
    reply.content["arrays"]["v"] = reply.content["arrays"].pop("w")


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (edit(shape=lambda s: (5, 6)), r"'w' has shape (5, 6), but (6, 5) was sent"),
        (edit(shape=lambda s: (31,)), "'w' has shape (31,), but (6, 5) was sent"),
        (edit(data=lambda d: d[:-1]), "'w': 33 bytes of 'compressed:[\"uniform\",8,512]'"),
        (edit(data=lambda d: d + b"\0"), "'w': 35 bytes of"),
        (edit(data=lambda d: np.float32(np.nan).tobytes() + d[4:]), "'w' holds NaN or infinity"),
        (edit(dtype=lambda d: "float64"), "'w' has dtype float64, but float32 was sent"),
        (edit(stype=lambda s: 'compressed:["gzip"]'), "cannot read 'compressed:[\"gzip\"]'"),
        (rename, "missing ['w'], unexpected ['v']"),
    ],
)
@pytest.mark.parametrize("down", [None, Cast()], ids=["down as is", "down in float16"])
def test_a_tampered_reply_is_refused_and_its_sender_named(tamper, expected, down):
    log = federate(Uniform(), tamper=tamper, down=down)
    (failure,) = log.run.failures
    assert str(failure).startswith("Round 1: client 1 failed to train: update refused: ")
    assert expected in failure.error
    assert_close(log.server[1], total([MODEL, log.sent[1, 0]]))


PLAIN = {"stype": lambda s: "numpy.ndarray"}


def npy_cut_short(data):
    return Array(np.ones(1, np.float32)).data[:-1]


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (edit(shape=lambda s: (-1, -1)), "'w' has shape (-1, -1), but (1,) was sent"),
        (edit(shape=lambda s: (2**31 - 1,) * 9), "2147483647), but (1,) was sent"),
        (edit(dtype=lambda d: "foo"), "'w' has dtype foo, but float32 was sent"),
        (edit(stype=lambda s: "pickle"), "'w' (pickle) cannot be read: TypeError: "),
        (edit(stype=lambda s: "compressed:" + "[" * 9999), "cannot be read: RecursionError"),
        (edit(**PLAIN), "'w' (numpy.ndarray) cannot be read: ValueError: "),
        (edit(**PLAIN, data=lambda d: b""), "'w' (numpy.ndarray) cannot be read: EOFError: "),
        (edit(**PLAIN, data=npy_cut_short), "'w' (numpy.ndarray) cannot be read: ValueError: "),
    ],
)
def test_nonsense_is_refused_and_its_sender_named(tamper, expected):
    model = {"w": np.zeros(1, "f4")}
    log = federate(Uniform(), lambda *_: {"w": np.ones(1, "f4")}, model=model, tamper=tamper)
    (failure,) = log.run.failures
    assert str(failure).startswith("Round 1: client 1 failed to train: update refused: ")
    assert expected in failure.error
    assert log.server[1]["w"].tolist() == [1]


def test_extra_names_are_refused():
    def updates(round_, client):
        return known(round_, client) | ({"extra": np.ones(2)} if client == 1 else {})

    log = federate(Uniform(), updates)
    assert "client 1 failed to train" in str(log.run.failures[0])
    assert "'extra' was not among the arrays that were sent" in log.run.failures[0].error


def test_a_reply_needs_exactly_one_array_record():
    def two(message, context):
        records = dict.fromkeys(("arrays", "control"), message.content["arrays"])
        return Message(RecordDict(records), reply_to=message)

    app = client_app(two, mods=[compress_update(Cast())])
    with pytest.raises(
        RoundFailedError, match="the client's reply holds 2 ArrayRecords; exactly 1"
    ):
        simulate(server_app(1, CompressedStrategy(FedAvg())), app, 2)


# The simulation still knows the inner strategy ---------------------------------------------------


def test_the_inner_strategys_weight_is_used_and_checked():
    options = {"strategy": FedAvg(weighted_by_key="patients"), "weight": "patients"}
    log = federate(TopK(1.0), examples=lambda client: 1 + 2 * client, **options)
    shares = {0: 0.25, 1: 0.75}
    mean = total([{n: v * shares[c] for n, v in known(1, c).items()} for c in shares])
    assert_close(log.server[1], total([MODEL, mean]))
    assert log.run.metrics["clients/score"].tolist() == [0.75]

    log = federate(TopK(1.0), examples=lambda client: 1 - client, **options)
    assert log.run.failures[0].client == 1
    assert "update refused: the weight 'patients' is 0" in log.run.failures[0].error


@pytest.mark.parametrize("name", ["min_train_nodes", "min_evaluate_nodes", "min_available_nodes"])
def test_waiting_for_more_clients_than_there_are_raises_through_the_wrapper(name):
    with pytest.raises(ValueError, match=f"{name} is 5, but the simulation has 2 clients"):
        federate(Uniform(), strategy=FedAvg(**{name: 5}))


def test_the_summary_is_the_inner_strategys():
    strategy = FedAvg()
    strategy.summary = lambda: called.append(True)
    called = []
    CompressedStrategy(strategy).summary()
    assert called


@pytest.mark.parametrize(
    ("codec", "ratio"),
    [
        (Cast(), 2),
        (Uniform(8), 4 / (1 + 4 / 512)),
        (Uniform(2), 16 / (1 + 16 / 512)),
        (TopK(0.01), 66.7),
        (Rotation(1, block=1024), 32 / (1 + 32 / 1024)),
    ],
    ids=str,
)
def test_traffic_shrinks_as_the_codec_promises(codec, ratio):
    model = {"w": gaussian(64, 1024)}
    envelope = 600  # names, shapes, metrics, addresses: bytes, the same for every size

    def mean_bytes(*args, **kwargs):
        log = federate(*args, lambda *at: {"w": gaussian(64, 1024)}, model=model, **kwargs)
        return log.run.traffic.groupby(["kind", "direction"])["bytes"].mean()

    plain, up, both = mean_bytes(None), mean_bytes(codec), mean_bytes(codec, down=codec)
    assert plain["train", "up"] == pytest.approx(4 * 2**16, abs=envelope)
    expected = 4 * 2**16 / ratio
    assert up["train", "up"] == pytest.approx(expected, rel=0.005, abs=envelope)
    assert up["train", "down"] == pytest.approx(plain["train", "down"], abs=envelope)
    for kind in ("train", "evaluate"):
        assert both[kind, "down"] == pytest.approx(expected, rel=0.005, abs=envelope)
    assert both["train", "up"] == up["train", "up"]
