"""What a client refuses, and what leaves it: a server that cheats, and one that only looks."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from scipy.stats import chisquare, ks_2samp

from tests.federation.apps import server_app, update_reply
from tests.privacy.secure_aggregation.apps import KnownUpdates, again, federate
from utils.federation import RoundFailedError, simulate
from utils.privacy.secure_aggregation import SecureAggregation, Terms, keys, mask_update
from utils.privacy.secure_aggregation.messages import (
    KEYS,
    MASKED,
    RECORD,
    SHARES,
    STAGES,
    UNMASK,
    by_node,
    packed,
    said_by_node,
    unpacked,
    words_of,
)

UPDATES = np.random.default_rng(0).normal(size=(5, 6))


def refused(stage, change, terms=None):
    """What client 0 says, if the server changes its message of a stage: ``change(record, log)``."""
    seen = []

    def tamper(message, client):
        record = message.content[RECORD]
        seen.append((client, record["stage"], again(message)))
        if client == 0 and record["stage"] == stage:
            return change(message, seen)
        return None

    terms = terms or Terms(clip=4.0, max_clients=5, threshold=0.5)
    log = federate(UPDATES, terms=terms, tamper=tamper)
    failures = [f for f in log.run.failures if f.client == 0]
    assert {f.client for f in log.run.failures} == {0}  # the others go on
    return failures[0].error


def edited(stage, **changes):
    def change(message, seen):
        for name, make in changes.items():
            message.content[RECORD][name] = make(message.content[RECORD])

    return refused(stage, change)


# A server that cheats ----------------------------------------------------------------------------


def test_a_server_that_asks_for_both_secrets_of_a_client_gets_neither():
    def both(record):
        return packed([*unpacked(record["dropped"]), unpacked(record["stayed"])[1]])

    error = edited(UNMASK, dropped=both)
    assert "asks for both secrets of [" in error
    assert "it could read what that client sent" in error


def test_nor_one_that_asks_a_second_time_the_other_way_round():
    def twice(message, seen):
        other = again(message)
        stayed = unpacked(message.content[RECORD]["stayed"])
        me = message.metadata.dst_node_id
        victim = next(node for node in stayed if node != me)
        other.content[RECORD]["stayed"] = packed(node for node in stayed if node != victim)
        other.content[RECORD]["dropped"] = packed([victim])
        return [message, other]

    assert "asked for 'unmask' with no session under way" in refused(UNMASK, twice)


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_message_that_was_sent_before_is_refused(stage):
    error = refused(stage, lambda message, seen: [message, again(message)])
    assert f"asked for '{stage}' with" in error
    assert "a message that was sent before" in error


@pytest.mark.parametrize("stage", STAGES[2:])
def test_no_stage_can_be_left_out(stage):
    def early(message, seen):
        message.content[RECORD]["stage"] = stage
        return [message]

    assert f"asked for '{stage}' with a session that waits for 'shares'" in refused(SHARES, early)


def test_a_message_of_another_session_is_refused():
    error = edited(SHARES, session=lambda record: bytes(16))
    assert "under way, another one" in error


def test_a_message_for_another_client_is_refused():
    seen = []

    def tamper(message, client):
        if message.content[RECORD]["stage"] == MASKED:
            seen.append((client, message.content[RECORD]))
            message.content[RECORD] = seen[0][1]  # the first one's, to all

    terms = Terms(clip=4.0, max_clients=5, threshold=0.5)
    with pytest.raises(RoundFailedError, match="and the threshold is 3"):
        federate(UPDATES, terms=terms, tamper=tamper)
    assert len(seen) == 5


def test_shares_of_an_earlier_round_are_refused():
    kept = {}

    def tamper(message, client):
        record = message.content[RECORD]
        if client == 0 and record["stage"] == MASKED:
            record["sealed"] = kept.setdefault("sealed", list(record["sealed"]))

    log = federate(UPDATES, rounds=2, tamper=tamper, terms=Terms(clip=4.0, max_clients=5))
    (failure,) = log.run.failures
    assert (failure.round, failure.client) == (2, 0)
    assert "were not sealed by it for this client in this round" in failure.error


def test_shares_said_to_come_from_somebody_else_are_refused():
    def swapped(record):
        first, second, *rest = record["sealed"]
        return [second, first, *rest]

    assert "were not sealed by it for this client" in edited(MASKED, sealed=swapped)


def test_public_keys_that_are_not_right_are_refused():
    def with_key(which, key_of):
        def change(message, seen):
            record, me = message.content[RECORD], message.metadata.dst_node_id
            found = by_node(record, which)
            found = key_of(found, me)
            for name, value in said_by_node(which, found).items():
                record[name] = value
            return [message]

        return refused(SHARES, change)

    foreign = keys.public_key(keys.new_secret())
    error = with_key("mask-keys", lambda found, me: {**found, me: foreign})
    assert "other public keys than this client's own" in error

    def doubled(found, me):
        one, other = [node for node in found if node != me][:2]
        return {**found, one: found[other]}

    assert "the same public key" in with_key("channel-keys", doubled)


def test_a_circle_that_is_too_small_is_refused():
    def small(message, seen):
        record, me = message.content[RECORD], message.metadata.dst_node_id
        for which in ("mask-keys", "channel-keys"):
            found = by_node(record, which)
            kept = [me, *(node for node in found if node != me)][:2]
            for name, value in said_by_node(which, {n: found[n] for n in sorted(kept)}).items():
                record[name] = value
        return [message]

    assert "2 clients are to hold shares, where 5 were asked and at least 3" in refused(
        SHARES, small
    )

    def stayed_alone(record):
        return packed(unpacked(record["stayed"])[:2])

    error = edited(UNMASK, stayed=stayed_alone)
    assert "are said to have sent an update, where 3 are needed" in error
    error = edited(MASKED, **{"sealed-nodes": lambda r: b"", "sealed": lambda r: []})
    assert "1 of this client's circle are left, itself counted; 3 are needed" in error


def test_shares_of_strangers_are_not_given():
    error = edited(UNMASK, dropped=lambda record: packed([12345]))
    assert "this client holds no shares of [12345]" in error


def test_other_terms_are_refused_whatever_the_server_says():
    other = Terms(clip=4.0, max_clients=5, threshold=0.6)
    error = edited(KEYS, terms=lambda record: repr(other))
    assert "the server's terms are Terms(clip=4.0" in error
    assert "threshold=0.6" in error
    error = edited(KEYS, clients=lambda record: 2)
    assert "takes part among at least 3" in error
    error = edited(KEYS, clients=lambda record: 6)
    assert "a sum that has room for 5" in error


def test_nothing_is_answered_in_plain():
    terms = Terms(clip=1.0, max_clients=3)
    app = ClientApp(mods=[mask_update(terms)])
    app.train()(KnownUpdates(np.zeros((3, 2)), [1] * 3))
    app.evaluate()(lambda message, context: pytest.fail("it was asked"))
    start = {"w": np.zeros(2)}
    with pytest.raises(RoundFailedError, match="the server asks for an update in plain"):
        simulate(server_app(1, arrays=start), app, 3, progress=False)
    secure = SecureAggregation(FedAvg(), terms)  # which would evaluate
    with pytest.raises(RoundFailedError, match="answers nothing but train"):
        simulate(server_app(1, secure, arrays=start), app, 3, progress=False)


@pytest.mark.parametrize("weight", [0, 8, 2.5])
def test_a_weight_beyond_the_terms_is_refused_without_its_value(weight):
    def train(message, context):
        arrays = {n: a.numpy() for n, a in message.content["arrays"].items()}
        mine = weight if context.node_config["partition-id"] == 0 else 3
        return update_reply(message, arrays, **{"num-examples": mine})

    terms = Terms(clip=4.0, max_clients=5, max_weight=7)
    log = federate(UPDATES, terms=terms, train=train)
    (failure,) = log.run.failures
    assert failure.client == 0
    assert "is not one whole number from 1 to 7" in failure.error
    assert str(weight) not in failure.error.replace("1 to 7", "")


def test_a_diverged_update_is_not_sent_and_its_reason_stays():
    updates = UPDATES.copy()
    updates[2, 3] = np.nan
    (failure,) = federate(updates, terms=Terms(clip=4.0, max_clients=5)).run.failures
    assert failure.client == 2
    assert "the reason stays here" in failure.error


# What leaves a client ----------------------------------------------------------------------------


def test_only_what_is_listed_leaves_a_client():
    def talkative(message, context):
        reply = KnownUpdates(UPDATES, [41] * 5)(message, context)
        reply.content["note"] = ConfigRecord({"patient": "Ada"})
        return reply

    terms = Terms(clip=4.0, max_clients=5, max_weight=50)
    log = federate(UPDATES, [41] * 5, terms, train=talkative)
    said = {
        KEYS: {"public-keys"},
        SHARES: {"sealed", "sealed-nodes"},
        MASKED: {"weight"},
        UNMASK: {"own-mask", "own-mask-nodes", "pairs", "pairs-nodes"},
    }
    for _, stage, reply in log.replies:
        expected = [RECORD, "arrays", "metrics"] if stage == MASKED else [RECORD]
        assert list(reply.content) == expected
        assert set(reply.content[RECORD]) == said[stage]
        if stage == MASKED:
            assert dict(reply.content["metrics"]) == {"num-examples": 1}
            assert reply.content["arrays"]["steps"].numpy() == 7  # as it came
            assert reply.content["arrays"]["w"].stype == "masked:32"
        if stage == UNMASK:
            assert len(reply.content[RECORD]["own-mask"]) == 5
            assert reply.content[RECORD]["pairs"] == []


def test_a_dropped_clients_shares_are_of_its_pairs_only():
    log = federate(UPDATES, lost={3: (MASKED, True)}, terms=Terms(clip=4.0, max_clients=5))
    late = log.contexts[3].node_id
    for client, stage, reply in log.replies:
        if stage == UNMASK and client != 3:
            assert late not in unpacked(reply.content[RECORD]["own-mask-nodes"])
            assert unpacked(reply.content[RECORD]["pairs-nodes"]) == [late]


def what_the_server_has(updates, bits):
    """All that a server can make of one client's masked update: as sent, and without its own
    mask, which is opened after the round. uint ``(2, d + 1)``."""
    terms = Terms(clip=1.0, max_clients=4, bits=bits)
    log = federate(updates, terms=terms)
    victim = log.contexts[0].node_id
    shares, words = [], None
    for client, stage, reply in log.replies:
        if client == 0 and stage == MASKED:
            weight = np.frombuffer(reply.content[RECORD]["weight"], f"<u{bits // 8}")
            words = np.concatenate([words_of(reply.content["arrays"], ["w"], bits), weight])
        if stage == UNMASK:
            shares.append(by_node(reply.content[RECORD], "own-mask")[victim])
    secret = keys.combine(shares[: terms.needed(4)])
    own = keys.mask(keys.own_mask_seed(secret), len(words), bits)
    return np.stack([words, words - own])


@pytest.mark.parametrize("bits", [16, 32])
def test_what_the_server_stores_of_one_client_is_uniform_whatever_the_client_sent(bits):
    others = np.random.default_rng(1).normal(0, 0.1, (3, 1000))
    seen = {}
    for name, own in (("nothing", 0.0), ("the most", 1.0)):
        runs = [
            what_the_server_has(np.vstack([np.full(1000, own), others]), bits) for _ in range(12)
        ]
        seen[name] = np.concatenate(runs, axis=1)  # fresh keys each time
    for view in (0, 1):  # as sent; without its own mask
        for words in seen.values():
            for shift in (0, bits - 8):  # the low byte, and the high one
                byte = (words[view] >> np.array(shift, words.dtype)) & 255
                assert chisquare(np.bincount(byte, minlength=256)).pvalue > 1e-6
        same = ks_2samp(*(words[view].astype(float) for words in seen.values()))
        assert same.pvalue > 1e-6
    assert not np.array_equal(seen["nothing"][0], seen["nothing"][1])


def test_the_same_test_finds_an_update_that_is_not_masked():
    terms = Terms(clip=1.0, max_clients=4)
    words = terms.encode(np.zeros(12_000), 1)
    assert chisquare(np.bincount(words >> 24, minlength=256)).pvalue < 1e-6


def test_masks_are_new_in_each_round_and_each_clients_own():
    log = federate(np.zeros((3, 2000)), rounds=2)
    sent = [
        words_of(reply.content["arrays"], ["w"], 32).astype(float)
        for _, stage, reply in log.replies
        if stage == MASKED
    ]
    assert len(sent) == 6
    for i, one in enumerate(sent):
        for other in sent[:i]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 5.5 / np.sqrt(2000)


def test_a_record_can_hold_node_ids_of_64_bits():
    nodes = [2**64 - 1, 0, 2**63]
    record = ConfigRecord(said_by_node("sealed", dict.fromkeys(nodes, b"x")))
    assert list(by_node(RecordDict({"r": record})["r"], "sealed")) == nodes
