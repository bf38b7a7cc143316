"""A client's mod with its memory, and the server's strategy, end to end."""

from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, FedAvgM, FedMedian, FedYogi

from tests.federation.apps import client_app, client_of, final_weights, server_app, update_reply
from utils.compression import (
    Cast,
    CompressedStrategy,
    Rotation,
    TopK,
    Uniform,
    compress_update,
    decode_array,
    encode_array,
    server,
)
from utils.federation import RoundFailedError, simulate
from utils.federation.recording import round_of
from utils.federation.records import as_record
from utils.randomness import random_stream

CODECS = [
    Cast(),
    Uniform(bits=4, bucket=5),
    TopK(0.2),
    Rotation(bits=1, block=16),
    Rotation(bits=2, unbiased=False),
]


@pytest.fixture(autouse=True)
def a_fixed_seed():
    with random_stream("compression"):
        yield


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


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
        nodes = list(grid.get_node_ids())
        absent = {nodes[client] for round_, client in self.missing if round_ == server_round}
        return [m for m in messages if m.metadata.dst_node_id not in absent]


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
    held=None,
    clients_hold=None,
    checkpoint=None,
):
    """Run two clients; keep, by (round, client), what each one saw, sent and remembered.

    ``tamper(reply)`` changes what client 1 sends; ``codec=None`` runs without compression; with
    ``held``, a model, changes are sent down, and clients hold that one, or ``clients_hold``.
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
        mine = clients_hold or held
        start = mine and (lambda context: as_record(mine))
        mods.append(compress_update(codec, error_feedback, held=start))
        strategy = CompressedStrategy(strategy, down, held=held and as_record(held))
    app = ClientApp(mods=mods)
    app.train()(train)
    app.evaluate()(evaluate)
    server = server_app(rounds, strategy, evaluate_fn=remember, arrays=model)
    log.run = simulate(server, app, 2, progress=False, checkpoint=checkpoint)
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


# The update, there and back ----------------------------------------------------------------------


def test_the_new_model_is_the_old_one_plus_the_mean_of_the_decoded_updates():
    for codec in CODECS:
        log = federate(codec, rounds=2, down=Uniform(3), examples=lambda client: 1 + 2 * client)
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
                    assert error < (1e-4 if codec == Cast() else 1.1) * np.square(true).sum()
                    assert error > 0
        assert_equal(final_weights(log.run), log.server[2])


def test_one_seed_repeats_a_run_and_clients_draw_differently():
    same = {name: gaussian(*values.shape) for name, values in MODEL.items()}
    logs = [federate(Rotation(1), lambda *at: same, rounds=2) for _ in range(2)]
    assert_equal(logs[0].server[2], logs[1].server[2])
    first = logs[0].sent
    pairs = [((1, 0), (1, 1)), ((1, 0), (2, 0))]
    assert all(not np.allclose(first[one]["w"], first[other]["w"]) for one, other in pairs)


def test_any_inner_strategy_works_as_without_compression():
    for make, options in [
        (FedAvg, {}),
        (FedAvgM, {"server_momentum": 0.9, "server_learning_rate": 0.5}),
        (FedMedian, {}),
        (FedYogi, {}),
    ]:
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
    assert final_weights(log.run)["steps"] == pytest.approx([12.5, 24.5], abs=0.5)
    assert memory_of(log.state[0]).keys() == {"w"}


def test_models_of_other_precision_or_without_dimensions_stay_what_they_are():
    for values in (np.zeros((2, 3), "f2"), np.zeros((2, 3), "f8"), np.zeros((), "f4")):
        for error_feedback in (False, True):
            log = federate(
                Uniform(),
                lambda *_, values=values: {"w": np.ones_like(values)},
                model={"w": values},
                rounds=2,
                error_feedback=error_feedback,
            )
            assert not log.run.failures
            assert log.sent[2, 1]["w"].dtype == log.seen[2, 1]["w"].dtype == values.dtype
            assert log.server[2]["w"].shape == values.shape
            assert log.server[2]["w"] == pytest.approx(values + 2, abs=0.02)


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


def test_what_was_sent_and_the_memory_add_up_to_the_true_updates():
    for codec in CODECS:
        log = federate(codec, rounds=4, error_feedback=True)
        for client in (0, 1):
            assert log.before[1, client] == {}
            sent = [log.sent[round_, client] for round_ in range(1, 5)]
            true = [known(round_, client) for round_ in range(1, 5)]
            assert_close(total([*sent, memory_of(log.state[client])]), total(true), 1e-4)
            assert np.abs(memory_of(log.state[client])["w"]).max() > 1e-6
            (record,) = log.state[client].state.values()
            assert {name: array.shape for name, array in record.items()} == {
                "w": (6, 5),
                "b": (7,),
            }


def test_a_client_that_missed_rounds_keeps_its_memory():
    strategy = FedAvgWithout({(2, 1), (3, 1)})
    log = federate(TopK(0.1), rounds=4, strategy=strategy, error_feedback=True)
    assert {round_ for round_, client in log.sent if client == 1} == {1, 4}
    left_out = {n: v - log.sent[1, 1][n] for n, v in known(1, 1).items()}
    assert_close(log.before[4, 1], left_out)
    sent = total([log.sent[1, 1], log.sent[4, 1], memory_of(log.state[1])])
    assert_close(sent, total([known(1, 1), known(4, 1)]))


def test_without_error_feedback_nothing_is_kept():
    log = federate(TopK(0.1), rounds=2)
    assert not log.state[0].state
    for name, update in known(2, 0).items():
        sent = log.sent[2, 0][name]
        assert sent == pytest.approx(np.where(sent == 0, 0, update), abs=1e-6)


def test_a_round_that_fails_leaves_the_memory_as_it_was_and_names_the_client():
    def updates(round_, client):
        return {
            n: v + (np.nan if (round_, client) == (2, 0) else 0)
            for n, v in known(1, client).items()
        }

    log = federate(TopK(0.1), updates, rounds=3, error_feedback=True)
    (failure,) = log.run.failures
    assert (failure.round, failure.client) == (2, 0)
    assert "CompressionError: " in failure.error
    assert "values are NaN or infinite" in failure.error
    assert_equal(log.before[3, 0], log.before[2, 0])
    assert_close(log.server[2], total([log.server[1], log.sent[2, 1]]))


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


def test_the_model_is_encoded_once_a_message_round_and_every_client_gets_the_same_bytes(
    monkeypatch,
):
    def counted(values, codec):
        encoded.append(codec)
        return encode_array(values, codec)

    encoded = []
    monkeypatch.setattr(server, "encode_array", counted)
    log = federate(Cast(), down=Uniform(2), rounds=3)
    assert len(encoded) == 3 * 2 * len(MODEL)  # to train, and to evaluate
    for round_ in (1, 2, 3):
        assert_equal(log.seen[round_, 0], log.seen[round_, 1])
    assert not np.array_equal(log.seen[1, 0]["w"], MODEL["w"])


class FedAvgOfTwo(FedAvg):
    """Sends client 1 another model than client 0: all ones."""

    def configure_train(self, server_round, arrays, config, grid):
        messages = list(super().configure_train(server_round, arrays, config, grid))
        ones = {n: Array(np.ones(a.shape, a.dtype)) for n, a in arrays.items()}
        for message in messages:
            if message.metadata.dst_node_id == list(grid.get_node_ids())[1]:
                content = {**message.content, "arrays": ArrayRecord(ones)}
                message.content = RecordDict(content)
        return messages


def test_a_strategy_may_send_each_client_another_model():
    log = federate(TopK(1.0), down=TopK(1.0), strategy=FedAvgOfTwo())
    assert_equal(log.seen[1, 0], MODEL)
    assert (log.seen[1, 1]["w"] == 1).all()


def test_without_down_the_model_travels_as_it_is():
    log = federate(Cast())
    assert_equal(log.seen[1, 1], MODEL)
    assert_equal(log.evaluated[1, 1], log.server[1])


def test_neither_the_server_nor_the_inner_strategy_sees_the_encoded_model():
    for make in (FedAvg, FedYogi, FedAvgM):
        log = federate(Cast(), nothing, rounds=2, down=Rotation(1), strategy=make())
        assert_close(final_weights(log.run), MODEL, 1e-6)
        assert not np.array_equal(log.seen[2, 0]["w"], MODEL["w"])


# The server sends changes -------------------------------------------------------------------------


def test_a_change_brings_every_client_the_model_that_the_server_thinks_it_holds():
    model = MODEL | {"steps": np.array([10, 20])}
    for codec in CODECS:
        strategy = CompressedStrategy(FedAvg(), codec, held=as_record(model))
        app = ClientApp(mods=[compress_update(Cast(), held=lambda context: as_record(model))])
        seen = {}

        def train(message, context, seen=seen):
            assert list(message.content) == ["arrays", "config"]
            arrays = seen[round_of(message), client_of(context)] = plain(message.content["arrays"])
            return update_reply(message, {n: a + 1 for n, a in arrays.items()})

        app.train()(train)
        strategy.strategy.fraction_evaluate = 0.0
        run = simulate(server_app(3, strategy, arrays=model), app, 2, progress=False)
        assert not run.failures
        assert_equal(seen[3, 0], seen[3, 1])
        assert_equal(seen[3, 0], strategy._changes.held)
        assert seen[3, 0]["steps"].tolist() == [12, 22]


def test_what_one_change_loses_is_part_of_the_next():
    """The model stands still after round 1: with each message clients come closer to it."""

    def once(round_, client):
        return known(1, 0) if round_ == 1 else nothing(round_, client)

    def distances(**how):
        log = federate(TopK(1.0), once, down=TopK(0.2), rounds=6, **how)
        gaps = [log.seen[r, 0]["w"] - log.server[r - 1]["w"] for r in range(2, 7)]
        return [float(np.square(gap).sum()) for gap in gaps]

    whole, change = distances(), distances(held=MODEL)
    assert change[0] > change[-1] == pytest.approx(0, abs=1e-9)
    assert whole[-1] == pytest.approx(whole[0])
    assert whole[0] > 1


def test_a_change_costs_less_than_the_model_that_it_belongs_to_loses():
    """One bit a number of an update of length 0.1 spoils less than of a model of length 6."""

    def small(round_, client):
        return {name: 0.02 * values for name, values in known(round_, client).items()}

    for held, low, high in [(None, 1, 100), (MODEL, 0, 0.1)]:
        log = federate(TopK(1.0), small, down=Rotation(1), rounds=4, held=held)
        error = total([log.seen[4, 0], {n: -v for n, v in log.server[3].items()}])
        assert low <= np.square(error["w"]).sum() < high


def test_clients_are_evaluated_on_what_changes_made_of_their_model():
    log = federate(TopK(1.0), down=TopK(1.0), rounds=2, held=MODEL)
    for round_ in (1, 2):
        assert_close(log.evaluated[round_, 1], log.server[round_])
        assert_close(log.seen[round_, 0], log.server[round_ - 1])


def test_who_missed_a_message_is_sent_the_whole_model_once():
    strategy = FedAvgWithout({(2, 1), (3, 1)})
    strategy.fraction_evaluate = 0.0
    log = federate(Cast(), strategy=strategy, down=Rotation(1), rounds=5, held=MODEL)
    assert not log.run.failures
    assert_equal(log.seen[4, 0], log.seen[4, 1])
    assert_equal(log.seen[5, 0], log.seen[5, 1])
    down = log.run.traffic.query("direction == 'down'")
    sizes = down.set_index(["round", "client"])["bytes"]
    assert sizes[4, 1] - sizes[4, 0] > 37 * 3.5  # numbers of 4 bytes, not of 1 bit
    assert sizes[5, 1] == sizes[5, 0] == pytest.approx(sizes[1, 1], abs=10)


def test_a_client_that_failed_is_sent_the_whole_model():
    def updates(round_, client):
        if (round_, client) == (1, 0):
            raise RuntimeError("out of power")
        return known(round_, client)

    strategy = FedAvg(fraction_evaluate=0.0)
    log = federate(Cast(), updates, strategy=strategy, down=Rotation(1), rounds=2, held=MODEL)
    assert len(log.run.failures) == 1
    assert_equal(log.seen[2, 0], log.seen[2, 1])
    sizes = log.run.traffic.query("direction == 'down' and round == 2").set_index("client")["bytes"]
    assert sizes[0] > sizes[1] + 100


def test_a_client_with_another_first_model_is_told_and_gets_the_whole_one():
    other = {name: 1.01 * values for name, values in MODEL.items()}
    strategy = FedAvg(fraction_evaluate=0.0)
    with pytest.raises(RoundFailedError, match=r"held= must give the same arrays"):
        federate(Cast(), strategy=strategy, down=Cast(), held=MODEL, clients_hold=other)
    app = client_app(mods=[compress_update(Cast())])
    strategy = CompressedStrategy(strategy, Cast(), held=as_record({"w": np.zeros(2, "f4")}))
    with pytest.raises(RoundFailedError, match=r"a change of model 0, but this client holds none"):
        simulate(server_app(1, strategy, arrays={"w": np.zeros(2, "f4")}), app, 2)


def test_changes_need_one_model_for_all_clients():
    with pytest.raises(ValueError, match="sends clients different models, which have no one"):
        federate(TopK(1.0), down=TopK(1.0), strategy=FedAvgOfTwo(), held=MODEL)


def test_a_run_of_changes_that_was_killed_goes_on_where_it_was(tmp_path):
    def updates(round_, client):
        if round_ == kill.in_round:
            raise KeyboardInterrupt
        return known(round_, client)

    def run(**how):
        how |= {"rounds": 4, "down": Rotation(1), "held": MODEL, "error_feedback": True}
        return federate(Rotation(1), updates, **how)

    kill = SimpleNamespace(in_round=0)
    whole = run()
    kill.in_round = 3
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=tmp_path / "run")
    kill.in_round = 0
    resumed = run(checkpoint=tmp_path / "run")
    assert resumed.run.resumed == 2
    assert not resumed.run.failures
    assert_equal(final_weights(resumed.run), final_weights(whole.run))
    assert_equal(resumed.seen[4, 1], whole.seen[4, 1])


# What goes wrong ---------------------------------------------------------------------------------


def edit(**fields):
    """Change fields of the array 'w' of a reply."""

    def tamper(reply):
        array = reply.content["arrays"]["w"]
        new = {key: getattr(array, key) for key in ("dtype", "shape", "stype", "data")}
        new |= {key: change(new[key]) for key, change in fields.items()}
        reply.content["arrays"]["w"] = Array(**new)

    return tamper


def test_a_tampered_reply_is_refused_and_its_sender_named():
    for tamper, expected in [
        (edit(shape=lambda s: (5, 6)), "'w' has shape (5, 6), but (6, 5) was sent"),
        (edit(data=lambda d: d[:-1]), "33 bytes of 'compressed:[\"uniform\",8,512]'"),
        (edit(data=lambda d: np.float32(np.nan).tobytes() + d[4:]), "NaN or infinity"),
        (edit(stype=lambda s: 'compressed:["gzip"]'), "cannot read 'compressed:[\"gzip\"]'"),
    ]:
        log = federate(Uniform(), tamper=tamper, down=Cast())
        (failure,) = log.run.failures
        assert failure.client == 1
        assert expected in failure.error
        assert_close(log.server[1], total([MODEL, log.sent[1, 0]]))


def test_the_inner_strategy_sees_error_replies_as_they_are():
    class Losing(FedAvg):
        def aggregate_train(self, server_round, replies):
            replies = list(replies)
            lost.extend(reply.has_error() for reply in replies)
            return super().aggregate_train(server_round, replies)

    def updates(round_, client):
        if client == 0:
            raise RuntimeError("out of power")
        return known(round_, client)

    lost = []
    log = federate(Uniform(), updates, strategy=Losing())
    assert sorted(lost) == [False, True]
    assert [f.error for f in log.run.failures] == ["RuntimeError: out of power"]
    assert_close(log.server[1], total([MODEL, log.sent[1, 1]]))


def test_extra_names_are_refused():
    def updates(round_, client):
        return known(round_, client) | ({"extra": np.ones(2)} if client == 1 else {})

    (failure,) = federate(Uniform(), updates).run.failures
    assert failure.client == 1
    assert "'extra'" in failure.error


def test_a_reply_needs_exactly_one_array_record():
    def two(message, context):
        records = dict.fromkeys(("arrays", "control"), message.content["arrays"])
        return Message(RecordDict(records), reply_to=message)

    app = client_app(two, mods=[compress_update(Cast())])
    with pytest.raises(
        RoundFailedError, match="the client's reply holds 2 ArrayRecords; exactly 1"
    ):
        simulate(server_app(1, CompressedStrategy(FedAvg())), app, 2)


def test_what_is_no_codec_or_no_strategy_is_refused_when_it_is_given():
    for codec in ("uniform", None, Uniform):
        with pytest.raises(ValueError, match=r"codec is .*; it must be a codec"):
            compress_update(codec)
    for strategy in (None, FedAvg, "FedAvg"):
        with pytest.raises(ValueError, match=r"strategy is .*; it must be one such as FedAvg"):
            CompressedStrategy(strategy)
    with pytest.raises(ValueError, match="down is 8; it must be a codec"):
        CompressedStrategy(FedAvg(), down=8)
    with pytest.raises(TypeError, match=r"held is .*; it must be the first model's arrays"):
        CompressedStrategy(FedAvg(), down=Cast(), held=MODEL)
    with pytest.raises(ValueError, match="held is given without down"):
        CompressedStrategy(FedAvg(), held=as_record(MODEL))
    with pytest.raises(TypeError, match="held is 7"):
        compress_update(Cast(), held=7)


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
    assert "'patients' is 0" in log.run.failures[0].error


def test_the_summary_is_the_inner_strategys():
    strategy = FedAvg()
    strategy.summary = lambda: called.append(True)
    called = []
    CompressedStrategy(strategy).summary()
    assert called


def test_traffic_shrinks_as_the_codec_promises():
    model = {"w": gaussian(64, 1024)}
    envelope = 600  # names, shapes, metrics, addresses: bytes, the same for every size

    def mean_bytes(*args, **kwargs):
        log = federate(*args, lambda *at: {"w": gaussian(64, 1024)}, model=model, **kwargs)
        return log.run.traffic.groupby(["kind", "direction"])["bytes"].mean()

    plain = mean_bytes(None)
    assert plain["train", "up"] == pytest.approx(4 * 2**16, abs=envelope)
    for codec, ratio in [
        (Cast(), 2),
        (Uniform(2), 16 / (1 + 16 / 512)),
        (TopK(0.01), 66.7),
        (Rotation(1, block=1024), 32 / (1 + 32 / 1024)),
    ]:
        up, both = mean_bytes(codec), mean_bytes(codec, down=codec)
        expected = 4 * 2**16 / ratio
        assert up["train", "up"] == pytest.approx(expected, rel=0.005, abs=envelope)
        assert up["train", "down"] == pytest.approx(plain["train", "down"], abs=envelope)
        for kind in ("train", "evaluate"):
            assert both[kind, "down"] == pytest.approx(expected, rel=0.005, abs=envelope)
        assert both["train", "up"] == up["train", "up"]
