"""Whole secure rounds: the sum, drop-outs, engines, and what is left of them."""

import numpy as np
import pytest
from flwr.clientapp.mod import fixedclipping_mod
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.serverapp.strategy import DifferentialPrivacyClientSideFixedClipping, FedAdam, FedAvg
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.federation.apps import client_app, final_weights, server_app, update_reply
from tests.privacy.secure_aggregation.apps import KnownUpdates, federate
from utils.compression import Uniform, compress_update
from utils.federation import CheckpointError, RoundFailedError, simulate
from utils.privacy.secure_aggregation import (
    SecureAggregation,
    Terms,
    TooFewClientsError,
    mask_update,
)
from utils.privacy.secure_aggregation.messages import KEYS, MASKED, RECORD, SHARES, STAGES, UNMASK


def drawn(clients, size, seed=0, spread=1.0):
    return np.random.default_rng(seed).normal(0, spread, (clients, size))


def weighted_mean(updates, weights, clip):
    return np.average(np.clip(updates, -clip, clip), axis=0, weights=weights)


def assert_is_mean_of(log, updates, weights, clients):
    clients = list(clients)
    expected = weighted_mean(updates[clients], np.array(weights)[clients], log.terms.clip)
    bound = log.terms.error_bound(len(clients), sum(np.array(weights)[clients]))
    assert np.abs(log.weights["w"] - expected).max() <= bound * (1 + 1e-6)


# The sum -----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_mean_is_the_plain_weighted_mean_to_the_bound_of_quantization(data):
    clients = data.draw(st.integers(3, 6))
    weights = data.draw(st.lists(st.integers(1, 50), min_size=clients, max_size=clients))
    seed, clip = data.draw(st.integers(0, 1000)), data.draw(st.sampled_from([1e-3, 1.0, 300.0]))
    bits = data.draw(st.sampled_from([16, 32]))
    terms = Terms(clip=clip, max_clients=clients, max_weight=50, bits=bits)
    updates = drawn(clients, 11, seed, spread=clip)  # a third of them beyond the clip
    log = federate(updates, weights, terms)
    assert_is_mean_of(log, updates, weights, range(clients))
    assert not log.run.failures


def test_a_sum_of_the_largest_possible_updates_does_not_overflow():
    for bits in (16, 32):
        for sign in (1, -1):
            updates, weights = np.full((7, 5), sign * 1e9), [40] * 7
            terms = Terms(clip=2.0, max_clients=7, max_weight=40, bits=bits)
            log = federate(updates, weights, terms)
            assert log.weights["w"] == pytest.approx(sign * 2.0, rel=1e-9)


def test_rounding_is_not_biased():
    updates = np.full((3, 20_000), 0.3e-3)
    log = federate(updates, terms=Terms(clip=10.0, max_clients=3, bits=16))
    step = log.terms.step
    assert step > 0.3e-3  # below what one client can say
    mean = log.weights["w"].mean()
    assert mean == pytest.approx(0.3e-3, abs=5 * step / np.sqrt(3 * 20_000))


def test_training_and_its_random_stream_are_those_of_a_plain_round():
    def noisy(message, context):
        arrays = {n: a.numpy() for n, a in message.content["arrays"].items()}
        arrays["w"] = arrays["w"] + np.random.random(6)
        return update_reply(message, arrays)

    start = {"w": np.zeros(6), "steps": np.array(7)}
    plain = simulate(
        server_app(3, FedAvg(fraction_evaluate=0.0), arrays=start),
        client_app(noisy),
        4,
        seed=3,
        progress=False,
    )
    logs = [federate(np.zeros((4, 6)), train=noisy, rounds=3, seed=3) for _ in range(2)]
    assert logs[0].weights["w"] == pytest.approx(final_weights(plain)["w"], abs=1e-7)
    assert logs[0].weights["w"].tobytes() == logs[1].weights["w"].tobytes()  # keys are new, though


def test_any_inner_strategy_gets_one_reply_with_the_mean_and_all_weight():
    class Watching(FedAdam):
        def aggregate_train(self, server_round, replies):
            seen.extend(replies)
            return super().aggregate_train(server_round, seen[-1:])

    seen = []
    updates, terms = drawn(4, 5), Terms(clip=4.0, max_clients=4, max_weight=9)
    start = {"w": np.ones(5), "steps": np.array(7)}
    secure = SecureAggregation(Watching(fraction_evaluate=0.0), terms)
    app = client_app(KnownUpdates(updates, [1, 2, 3, 9]), mods=[mask_update(terms)])
    run = simulate(server_app(2, secure, arrays=start), app, 4, progress=False)
    assert len(seen) == 2
    assert dict(seen[0].content["metrics"]) == {"num-examples": 15, "clients": 4}
    expected = 1 + weighted_mean(updates, [1, 2, 3, 9], 4.0)
    assert seen[0].content["arrays"]["w"].numpy() == pytest.approx(expected, abs=1e-6)
    assert not np.allclose(final_weights(run)["w"], 1 + 2 * weighted_mean(updates, [1] * 4, 4.0))


def test_integer_buffers_stay_as_the_server_has_them_and_other_widths_what_they_are():
    def train(message, context):
        arrays = {n: a.numpy() for n, a in message.content["arrays"].items()}
        arrays = {n: a + np.ones_like(a) for n, a in arrays.items()}
        return update_reply(message, arrays)

    start = {"h": np.zeros((2, 3), "f2"), "w": np.zeros((), "f4"), "steps": np.array([10, 20])}
    log = federate(np.zeros((3, 1)), train=train, rounds=2, start=start)
    assert log.weights["steps"].tolist() == [10, 20]
    assert (log.weights["h"].dtype, log.weights["w"].dtype) == (np.float16, np.float32)
    assert log.weights["h"] == pytest.approx(np.full((2, 3), 2), abs=1e-3)
    assert log.weights["w"].shape == ()
    assert log.weights["w"] == pytest.approx(2, abs=1e-6)


# Drop-outs ---------------------------------------------------------------------------------------


def fate(lost, clients, needed):
    """Whose updates are in the sum, or None where the threshold is not kept."""
    left, inside = set(range(clients)), None
    for stage in STAGES:
        left = left - {c for c, (when, _) in lost.items() if when == stage}
        if len(left) < needed:
            return None
        inside = left if stage == MASKED else inside
    return sorted(inside)


@settings(max_examples=60, deadline=None)
@given(
    clients=st.integers(3, 8),
    lost=st.dictionaries(
        st.integers(0, 7), st.tuples(st.sampled_from(STAGES), st.booleans()), max_size=4
    ),
)
def test_any_drop_outs_above_the_threshold_leave_the_sum_of_the_rest(clients, lost):
    lost = {client: how for client, how in lost.items() if client < clients}
    updates, weights = drawn(clients, 5), list(range(1, clients + 1))
    terms = Terms(clip=4.0, max_clients=8, max_weight=8, threshold=0.5)
    inside = fate(lost, clients, terms.needed(clients))
    if inside is None:
        with pytest.raises(RoundFailedError):
            federate(updates, weights, terms, lost=lost)
        return
    log = federate(updates, weights, terms, lost=lost)
    assert_is_mean_of(log, updates, weights, inside)
    assert log.secure.survivors == {1: len(inside)}
    assert sorted({f.client for f in log.run.failures}) == sorted(lost)


@pytest.mark.parametrize("stage", STAGES)
def test_one_below_the_threshold_ends_the_round_and_says_who_is_gone(stage):
    updates, terms = drawn(7, 5), Terms(clip=4.0, max_clients=7)  # 5 of 7 are needed
    two = {1: (stage, False), 4: (stage, False)}
    federate(updates, terms=terms, lost=two)
    expected = (
        rf"Round 1: of the clients, 4 of 7 are left after '{stage}', and the threshold is 5\. "
        r"Gone: clients 1, 4, 6\. The sum stays closed"
    )
    with pytest.raises(TooFewClientsError, match=expected):
        federate(updates, terms=terms, lost={**two, 6: (stage, False)})


def test_a_client_that_was_gone_is_back_in_the_next_round():
    failing = {"rounds": 0}

    def sometimes(message, context):
        if context.node_config["partition-id"] == 2 and failing["rounds"] < 1:
            failing["rounds"] += 1
            raise RuntimeError("patient 17 has flu")
        return KnownUpdates(updates, [1] * 5)(message, context)

    updates = drawn(5, 3)
    log = federate(updates, train=sometimes, rounds=2)
    assert log.secure.survivors == {1: 4, 2: 5}
    (failure,) = log.run.failures
    assert "flu" not in failure.error + failure.traceback
    assert "the reason stays here" in failure.error


def test_neither_too_few_nor_too_many_clients_get_a_sum():
    with pytest.raises(TooFewClientsError, match="asks 2 clients; the terms allow sums of 3 to 5"):
        federate(drawn(2, 3), terms=Terms(clip=1.0, max_clients=5))
    with pytest.raises(TooFewClientsError, match="asks 6 clients"):
        federate(drawn(6, 3), terms=Terms(clip=1.0, max_clients=5))


def test_a_sum_that_cannot_be_is_refused():
    def wrong_weight(message, context, call_next):
        reply = call_next(message, context)
        if "weight" in reply.content[RECORD]:
            weight = np.frombuffer(reply.content[RECORD]["weight"], "<u4") + np.uint32(99)
            reply.content[RECORD]["weight"] = weight.tobytes()
        return reply

    terms = Terms(clip=1.0, max_clients=3, max_weight=2)
    app = client_app(KnownUpdates(drawn(3, 4), [1, 2, 2]), mods=[wrong_weight, mask_update(terms)])
    secure = SecureAggregation(FedAvg(fraction_evaluate=0.0), terms)
    start = {"w": np.zeros(4), "steps": np.array(7)}
    with pytest.raises(ValueError, match=r"weights came out as 302, where 3 to 6 is possible"):
        simulate(server_app(1, secure, arrays=start), app, 3, progress=False)


def test_a_client_that_seals_shares_for_some_only_counts_as_gone():
    def stingy(message, context, call_next):
        reply = call_next(message, context)
        record = reply.content[RECORD]
        if context.node_config["partition-id"] == 2 and "sealed" in record:
            record["sealed-nodes"] = record["sealed-nodes"][8:]
            record["sealed"] = record["sealed"][1:]
        return reply

    updates, terms = drawn(5, 4), Terms(clip=4.0, max_clients=5)
    app = client_app(KnownUpdates(updates, [1] * 5), mods=[stingy, mask_update(terms)])
    secure = SecureAggregation(FedAvg(fraction_evaluate=0.0), terms)
    start = {"w": np.zeros(4), "steps": np.array(7)}
    run = simulate(server_app(1, secure, arrays=start), app, 5, progress=False)
    expected = weighted_mean(np.delete(updates, 2, axis=0), [1] * 4, 4.0)
    assert final_weights(run)["w"] == pytest.approx(expected, abs=1e-7)


# SecAgg+ -----------------------------------------------------------------------------------------


def test_a_hundred_clients_with_ten_neighbours_each_give_the_same_sum():
    updates, weights = drawn(100, 30), list(np.arange(100) % 5 + 1)
    terms = Terms(clip=4.0, max_clients=100, max_weight=5, neighbours=10, threshold=0.5)
    lost = {17: (SHARES, True), 40: (MASKED, False), 41: (MASKED, True), 90: (UNMASK, False)}
    log = federate(updates, weights, terms, lost=lost)
    assert_is_mean_of(log, updates, weights, set(range(100)) - {17, 40, 41})
    sealed = [r.content[RECORD]["sealed"] for _, stage, r in log.replies if stage == SHARES]
    assert {len(ones) for ones in sealed} == {10}


def test_too_few_neighbours_left_end_the_round_though_most_clients_are_there():
    terms = Terms(clip=4.0, max_clients=12, neighbours=2)  # 3 of 3 holders are needed
    with pytest.raises(
        TooFewClientsError,
        match=r"of the holders of client \d+'s secrets, 2 of 3 are left after 'masked update', and "
        r"the threshold is 3\. Gone: client 5\.",
    ):
        federate(drawn(12, 3), terms=terms, lost={5: (MASKED, False)})


# Engines, mods, checkpoints ----------------------------------------------------------------------


ON_RAY = pytest.param({"engine": "ray"}, marks=pytest.mark.alone, id="ray")


@pytest.mark.parametrize("elsewhere", [{"workers": 2}, ON_RAY], ids=str)
def test_it_runs_in_processes_and_on_ray_as_in_this_process(elsewhere):
    updates, weights = drawn(4, 5), [1, 2, 3, 4]
    terms = Terms(clip=4.0, max_clients=4, max_weight=4)
    start = {"w": np.zeros(5), "steps": np.array(7)}
    ends = []
    for options in ({"workers": 1}, elsewhere):
        app = client_app(KnownUpdates(updates, weights), mods=[mask_update(terms)])
        secure = SecureAggregation(FedAvg(fraction_evaluate=0.0), terms)
        server = server_app(2, secure, arrays=start)
        run = simulate(server, app, 4, progress=False, **options)
        assert not run.failures
        ends.append(final_weights(run)["w"])
    assert ends[0] == pytest.approx(2 * weighted_mean(updates, weights, 4.0), abs=1e-7)
    assert ends[0].tobytes() == ends[1].tobytes()


def test_a_run_that_was_killed_goes_on_from_its_checkpoint(tmp_path):
    class Fails(KnownUpdates):
        def __call__(self, message, context):
            if message.content["config"]["server-round"] == 3 and failing:
                raise KeyboardInterrupt
            return super().__call__(message, context)

    failing = [True]
    updates = drawn(4, 5)
    terms = Terms(clip=4.0, max_clients=4)
    start = {"w": np.zeros(5), "steps": np.array(7)}

    def run():
        app = client_app(Fails(updates, [1] * 4), mods=[mask_update(terms)])
        secure = SecureAggregation(FedAvg(fraction_evaluate=0.0), terms)
        server = server_app(4, secure, arrays=start)
        return simulate(server, app, 4, checkpoint=tmp_path / "run", progress=False)

    with pytest.raises(KeyboardInterrupt):
        run()
    failing.clear()
    done = run()
    assert done.resumed == 2
    whole = federate(updates, rounds=4)
    assert final_weights(done)["w"].tobytes() == whole.weights["w"].tobytes()


def test_a_checkpoint_of_other_terms_is_refused(tmp_path):
    class Fails(KnownUpdates):
        def __call__(self, message, context):
            if message.content["config"]["server-round"] == 3:
                raise KeyboardInterrupt
            return super().__call__(message, context)

    def run(terms):
        app = client_app(Fails(np.ones((3, 2)), [1] * 3), mods=[mask_update(terms)])
        secure = SecureAggregation(FedAvg(fraction_evaluate=0.0), terms)
        server = server_app(4, secure, arrays={"w": np.zeros(2)})
        simulate(server, app, 3, checkpoint=tmp_path / "run", progress=False)

    with pytest.raises(KeyboardInterrupt):
        run(Terms(clip=4.0, max_clients=3))
    with pytest.raises(CheckpointError, match=r"its SecureAggregation\.agreed was 'Terms\(clip=4"):
        run(Terms(clip=5.0, max_clients=3))


def test_every_message_survives_flowers_wire_format():
    """On a network messages are protobuf: what it cannot hold would only be missed there."""

    def over_the_wire(content):
        return recorddict_from_proto(recorddict_to_proto(content))

    def wire(message, context, call_next):
        message.content = over_the_wire(message.content)
        reply = call_next(message, context)
        reply.content = over_the_wire(reply.content)
        return reply

    updates, terms = drawn(5, 6), Terms(clip=4.0, max_clients=5, bits=16, max_weight=3)
    app = client_app(KnownUpdates(updates, [1, 2, 3, 1, 2]), mods=[wire, mask_update(terms)])
    secure = SecureAggregation(FedAvg(fraction_evaluate=0.0), terms)
    server = server_app(1, secure, arrays={"w": np.zeros(6), "steps": np.array(7)})
    run = simulate(server, app, 5, progress=False)
    assert not run.failures
    expected = weighted_mean(updates, [1, 2, 3, 1, 2], 4.0)
    assert final_weights(run)["w"] == pytest.approx(expected, abs=terms.error_bound(5, 9))


def test_flowers_clipping_and_noise_work_around_it():
    def dp(secure):
        return DifferentialPrivacyClientSideFixedClipping(
            secure, noise_multiplier=1e-9, clipping_norm=0.5, num_sampled_clients=4
        )

    updates = drawn(4, 9)
    options = {"mods": [fixedclipping_mod], "strategy": dp, "start": {"w": np.zeros(9)}}
    log = federate(updates, **options)
    norms = np.linalg.norm(updates, axis=1, keepdims=True)
    assert (norms > 0.5).all()
    assert log.weights["w"] == pytest.approx((updates / norms * 0.5).mean(axis=0), abs=1e-6)


def test_compressed_updates_are_refused_with_the_reason():
    with pytest.raises(RoundFailedError, match=r"masked updates .* cannot be compressed"):
        federate(drawn(3, 4), mods=[compress_update(Uniform())])


def test_nothing_outlives_a_round():
    log = federate(drawn(4, 5), rounds=2, lost={3: (UNMASK, True)})
    assert [len(context.state) for context in log.contexts.values()] == [0] * 4
    assert log.secure._now is None


def test_what_is_no_strategy_or_no_terms_is_refused():
    terms = Terms(clip=1.0, max_clients=3)
    with pytest.raises(ValueError, match="strategy is 'FedAvg'; it must be one such as FedAvg"):
        SecureAggregation("FedAvg", terms)
    for wrong in (None, Terms):
        with pytest.raises(ValueError, match=r"terms is .*; it must be Terms\(clip="):
            SecureAggregation(FedAvg(), wrong)
        with pytest.raises(ValueError, match="it must be Terms"):
            mask_update(wrong)


def test_a_strategy_that_sends_different_models_is_refused():
    class Two(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            messages = list(super().configure_train(server_round, arrays, config, grid))
            other = type(arrays)({n: type(a)(a.numpy() + 1) for n, a in arrays.items()})
            messages[1].content = type(messages[1].content)({"arrays": other, "config": config})
            return messages

    terms = Terms(clip=1.0, max_clients=3)
    secure = SecureAggregation(Two(fraction_evaluate=0.0), terms)
    app = client_app(mods=[mask_update(terms)])
    with pytest.raises(ValueError, match="sends clients different models"):
        simulate(server_app(1, secure), app, 3, progress=False)


def test_keys_are_asked_before_anybody_trains():
    log = federate(drawn(3, 4))
    stages = [stage for _, stage, _ in log.requests]
    assert stages == [stage for stage in (KEYS, SHARES, MASKED, UNMASK) for _ in range(3)]
