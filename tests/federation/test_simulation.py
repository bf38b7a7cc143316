import gc
import logging
import random
import re
import time
from contextlib import nullcontext

import numpy as np
import pytest
import ray
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import DifferentialPrivacyClientSideFixedClipping, FedAvg
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import hospital_app
from tests.federation.apps import (
    client_app,
    client_of,
    final_weights,
    noisy_train,
    server_app,
    update_reply,
)
from utils.federation import RoundFailedError, simulate
from utils.learning import DigitClassifier, train
from utils.randomness import random_stream


def same(run, other):
    first, second = final_weights(run), final_weights(other)
    return all(np.array_equal(first[name], second[name]) for name in first)


# What a run computes ---------------------------------------------------------------------------


def test_it_equals_a_hand_written_fedavg():
    run = simulate(hospital_app.make_server_app(2), hospital_app.client_app, 4, seed=3)
    with random_stream(3):
        weights = DigitClassifier().state_dict()
    for round_ in (1, 2):
        updates = []
        for client in range(4):
            with random_stream(3, "train", round_, client):
                model = DigitClassifier()
                model.load_state_dict(weights)
                train(model, hospital_app.client_data(client, 4))
            updates.append(model.state_dict())
        weights = {name: sum(u[name] for u in updates) / 4 for name in weights}
    for name, array in final_weights(run).items():
        np.testing.assert_allclose(array, weights[name].numpy(), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=6))
def test_the_average_weighs_clients_by_their_examples(sizes):
    def train_(message, context):
        client = client_of(context)
        arrays = {"w": np.full(2, client, "float32"), "b": np.zeros(3, "float32")}
        return update_reply(message, arrays, **{"num-examples": sizes[client]})

    run = simulate(server_app(1), client_app(train_), len(sizes), progress=False)
    expected = np.average(range(len(sizes)), weights=sizes)
    np.testing.assert_allclose(final_weights(run)["w"], expected, rtol=1e-5)


def test_the_same_seed_gives_the_same_bits():
    runs = [
        simulate(server_app(3, FedAvg(fraction_train=0.5)), client_app(noisy_train), 6, seed=7)
        for _ in range(2)
    ]
    assert same(*runs)
    assert runs[0].traffic.equals(runs[1].traffic)  # the same clients in the same order


def test_another_seed_gives_other_bits_and_other_cohorts():
    runs = [
        simulate(server_app(3, FedAvg(fraction_train=0.5)), client_app(noisy_train), 6, seed=seed)
        for seed in (1, 2)
    ]
    assert not same(*runs)
    cohorts = [run.client_metrics["client"].tolist() for run in runs]
    assert cohorts[0] != cohorts[1]


def test_a_clients_randomness_does_not_depend_on_who_else_takes_part():
    def draws(skipped):
        def train_(message, context):
            if client_of(context) == skipped:
                raise RuntimeError("absent")
            return noisy_train(message, context)

        seen = {}

        def record(message, context, call_next):
            reply = call_next(message, context)
            if reply.has_content():
                seen[client_of(context)] = reply.content["arrays"]["w"].numpy().tolist()
            return reply

        simulate(server_app(1), client_app(train_, mods=[record]), 3, seed=0)
        return seen

    everyone, without_zero = draws(skipped=None), draws(skipped=0)
    assert len({tuple(values) for values in everyone.values()}) == 3
    assert without_zero == {client: everyone[client] for client in (1, 2)}


def test_rounds_draw_different_random_numbers():
    run = simulate(server_app(1), client_app(noisy_train), 2, seed=0)
    longer = simulate(server_app(2), client_app(noisy_train), 2, seed=0)
    assert not same(run, longer)


def test_the_callers_random_state_is_left_alone():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    simulate(server_app(1), client_app(noisy_train), 2)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


@pytest.mark.alone
def test_both_engines_agree_on_the_same_job(monkeypatch):
    def run(engine):
        return simulate(
            hospital_app.make_server_app(2, fraction_train=0.5),
            hospital_app.client_app,
            6,
            seed=5,
            engine=engine,
            run_config={"a": 1},  # which Flower's runtime must find as it gave it
            progress=False,
        )

    def evaluate_when_ray_is_up(round_, arrays, evaluate=hospital_app.server_evaluate):
        end = time.monotonic() + 60
        while not ray.is_initialized() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        return evaluate(round_, arrays)

    inline = run("inline")
    # what Ray draws while it starts must not come between the server's seed and its sampling
    monkeypatch.setattr(hospital_app, "server_evaluate", evaluate_when_ray_is_up)
    on_ray = run("ray")
    assert inline.client_metrics["client"].tolist() == on_ray.client_metrics["client"].tolist()
    for name, array in final_weights(inline).items():
        np.testing.assert_allclose(array, final_weights(on_ray)[name], atol=1e-6)
    np.testing.assert_allclose(inline.metrics, on_ray.metrics, atol=1e-6)
    columns = ["round", "client", "direction", "kind"]
    assert inline.traffic[columns].equals(on_ray.traffic[columns])


# What a run returns ----------------------------------------------------------------------------


def test_metrics_have_one_row_a_round_and_say_who_measured():
    def evaluate_fn(round_, arrays):
        return MetricRecord({"mean": float(arrays["w"].numpy().mean())})

    run = simulate(server_app(3, evaluate_fn=evaluate_fn), client_app(), 2)
    assert run.metrics.index.tolist() == [0, 1, 2, 3]
    assert run.metrics["server/mean"].tolist() == [0, 1, 2, 3]
    assert run.metrics["clients/score"].tolist()[1:] == [0.5] * 3
    assert run.result.evaluate_metrics_serverapp[3]["mean"] == 3
    assert run.seconds > 0
    assert run.failures == []


def test_client_metrics_have_one_row_a_reply():
    def train_(message, context):
        arrays = {name: a.numpy() for name, a in message.content["arrays"].items()}
        return update_reply(message, arrays, loss=float(client_of(context)))

    rows = simulate(server_app(2), client_app(train_), 3).client_metrics
    training = rows[rows["kind"] == "train"]
    assert len(rows) == 2 * 2 * 3
    assert (training["loss"] == training["client"]).all()


def test_a_clients_metric_does_not_overwrite_our_columns():
    def train_(message, context):
        arrays = {name: a.numpy() for name, a in message.content["arrays"].items()}
        return update_reply(message, arrays, round=77, client=78, kind=79)

    rows = simulate(server_app(1), client_app(train_), 2).client_metrics.iloc[:2]
    assert rows["round"].tolist() == [1, 1]
    assert sorted(rows["client"]) == [0, 1]
    assert rows["kind"].tolist() == ["train"] * 2
    assert rows["round (metric)"].tolist() == [77, 77]


def test_a_round_is_named_by_its_messages_and_counted_where_they_name_none():
    app, seen = ServerApp(), []

    @app.main()
    def main(grid, context):
        for config in ({}, {"server-round": 7}, {}):
            content = RecordDict({"config": ConfigRecord(config)})
            nodes = list(grid.get_node_ids())
            grid.send_and_receive([Message(content, node, "query") for node in nodes])

    answers = ClientApp()

    @answers.query()
    def query(message, context):
        seen.append(random.random())  # each round has a stream of its own
        return Message(RecordDict(), reply_to=message)

    run = simulate(app, answers, 1)
    assert run.traffic["round"].unique().tolist() == [1, 7, 3]
    assert len(set(seen)) == 3


def test_a_server_without_a_strategy_runs_too():
    app = ServerApp()
    answers = []

    @app.main()
    def main(grid, context):
        content = RecordDict({"arrays": ArrayRecord([np.zeros(2)])})
        messages = [Message(content, node, "train") for node in grid.get_node_ids()]
        ids = grid.push_messages(messages)
        answers.extend(grid.pull_messages(ids))
        assert list(grid.pull_messages(ids)) == []  # handed out once

    run = simulate(app, client_app(), 3)
    assert len(answers) == 3
    assert run.result is None
    assert run.metrics.empty
    assert run.traffic["round"].unique().tolist() == [1]


def test_numpys_numbers_are_numbers():
    run = simulate(server_app(1), client_app(), np.int64(3), seed=np.int32(1))
    assert run.client_metrics["client"].nunique() == 3


def test_run_config_reaches_both_apps_flat_and_nobody_changes_anothers():
    app, seen = ServerApp(), {}

    @app.main()
    def main(grid, context):
        seen["server"] = context.run_config["size"], context.run_config["model.depth"]
        FedAvg().start(grid=grid, initial_arrays=ArrayRecord([np.zeros(1)]), num_rounds=1)

    def train_(message, context):
        seen["client"] = context.run_config["size"], context.node_config["num-partitions"]
        context.run_config["size"] = 0  # must not reach anybody else
        return Message(
            RecordDict({"a": message.content["arrays"], "m": MetricRecord({"num-examples": 1})}),
            reply_to=message,
        )

    config = {"size": np.int64(4), "model": {"depth": 2}}
    simulate(app, client_app(train_), 2, run_config=config)
    assert seen == {"server": (4, 2), "client": (4, 2)}


def test_client_state_lasts_over_rounds():
    seen = []

    def train_(message, context):
        counter = context.state.config_records.setdefault("counter", ConfigRecord({"n": 0}))
        counter["n"] += 1
        seen.append((client_of(context), counter["n"]))
        return noisy_train(message, context)

    simulate(server_app(3), client_app(train_), 2)
    assert sorted(seen) == [(client, n) for client in (0, 1) for n in (1, 2, 3)]


def test_mods_run():
    def double(message, context, call_next):
        reply = call_next(message, context)
        arrays = {name: a.numpy() * 2 for name, a in reply.content["arrays"].items()}
        return update_reply(message, arrays)

    run = simulate(server_app(1), client_app(mods=[double]), 2)
    assert final_weights(run)["w"].tolist() == [2, 2]


def test_flowers_own_mods_and_wrapped_strategies_run():
    def train_(message, context):
        return update_reply(message, {"w": np.full(2, 30, "float32"), "b": np.zeros(3, "float32")})

    strategy = DifferentialPrivacyClientSideFixedClipping(
        FedAvg(), noise_multiplier=0.0, clipping_norm=1.0, num_sampled_clients=2
    )
    run = simulate(server_app(1, strategy), client_app(train_, mods=[fixedclipping_mod]), 2)
    assert np.linalg.norm(final_weights(run)["w"]) == pytest.approx(1, abs=1e-3)


def test_clients_cannot_change_each_others_messages():
    def train_(message, context):
        assert message.content["config"]["lr"] == 0.1
        assert list(message.content["config"]["layers"]) == [1, 2]
        message.content["config"]["lr"] = 9.0
        message.content["config"]["layers"].append(3)
        arrays = {name: a.numpy() + 1 for name, a in message.content["arrays"].items()}
        message.content["arrays"]["w"].data = b"spoilt"
        return update_reply(message, arrays)

    run = simulate(server_app(2), client_app(train_), 3)
    assert run.failures == []
    assert final_weights(run)["w"].tolist() == [2, 2]


@pytest.mark.parametrize("fails", [False, True])
def test_imported_packages_are_left_to_the_collector_only_between_runs(fails):
    """Flower's QFedAvg collects garbage after each reply, 0.2 s over all imported packages."""
    counts = []

    def train_(message, context):
        counts.append(gc.get_freeze_count())
        if fails:
            raise RuntimeError("power cut")
        return noisy_train(message, context)

    with pytest.raises(RoundFailedError) if fails else nullcontext():
        simulate(server_app(1), client_app(train_), 2)
    assert min(counts) > 10_000
    assert gc.get_freeze_count() == 0


# What goes wrong -------------------------------------------------------------------------------


def failing(clients, error=None):
    def train_(message, context):
        if client_of(context) in clients:
            raise error or RuntimeError("power cut")
        arrays = {name: a.numpy() + 1 for name, a in message.content["arrays"].items()}
        return update_reply(message, arrays)

    return client_app(train_)


def test_a_failing_client_is_named_once_and_the_round_goes_on(capsys):
    run = simulate(server_app(1), failing({1}), 3)
    line = "Round 1: client 1 failed to train: RuntimeError: power cut"
    assert [str(failure) for failure in run.failures] == [line]
    assert capsys.readouterr().out.count(line) == 1
    assert "in train_" in run.failures[0].traceback
    assert final_weights(run)["w"].tolist() == [1, 1]


def test_a_round_in_which_all_fail_raises_and_says_who_and_why():
    with pytest.raises(RoundFailedError, match=r"Round 1: all 3 clients failed to train.*client"):
        simulate(server_app(1), failing({0, 1, 2}), 3)


def test_an_evaluation_in_which_all_fail_raises_too():
    def evaluate(message, context):
        raise OSError("disk")

    with pytest.raises(RoundFailedError, match=r"failed to evaluate.*OSError: disk"):
        simulate(server_app(1), client_app(evaluate=evaluate), 2)


def test_a_client_that_forgets_to_return_gets_told_how():
    with pytest.raises(RoundFailedError, match=r"returned NoneType.*return Message\(content"):
        simulate(server_app(1), client_app(lambda message, context: None), 2)


def test_an_error_in_the_server_reaches_the_caller_as_it_is():
    def evaluate_fn(round_, arrays):
        raise KeyError("no test set")

    with pytest.raises(KeyError, match="no test set"):
        simulate(server_app(1, evaluate_fn=evaluate_fn), client_app(), 2)


def test_one_client_alone_needs_a_strategy_that_agrees():
    with pytest.raises(ValueError, match="is 2, but the simulation has 1 client,"):
        simulate(server_app(1), client_app(), 1)
    alone = FedAvg(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1)
    assert final_weights(simulate(server_app(1, alone), client_app(), 1))["w"].tolist() == [1, 1]


def test_a_message_to_an_unknown_node_is_refused():
    app = ServerApp()

    @app.main()
    def main(grid, context):
        grid.send_and_receive([Message(RecordDict(), 7, "train")])

    with pytest.raises(ValueError, match="addressed to node 7"):
        simulate(app, client_app(), 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_clients": 0}, "num_clients is 0; it must be a whole number from 1 to 1,000,000"),
        ({"num_clients": 10**12}, "num_clients is 1000000000000; it must be a whole number from 1"),
        ({"num_clients": 2.5}, "num_clients is 2.5"),
        ({"num_clients": True}, "num_clients is True"),
        ({"num_clients": 2, "seed": -1}, "seed is -1; it must be a whole number of at least 0"),
        ({"num_clients": 2, "engine": "spark"}, "it must be one of: 'inline', 'ray'"),
        ({"num_clients": 2, "run_config": {"a": {"b": [1]}}}, "run_config['b'] is [1]"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        simulate(server_app(), client_app(), **arguments)


def test_failures_print_as_a_table():
    failures = simulate(server_app(2), failing({1}), 3).failures
    assert str(failures).splitlines()[0].split() == ["round", "client", "kind", "error"]
    assert str(failures).count("power cut") == 2
    assert failures._repr_html_().count("power cut") == 2
    assert failures.table()["round"].tolist() == [1, 2]
    assert str(simulate(server_app(1), client_app(), 2).failures) == "no failures"


# What a run prints -----------------------------------------------------------------------------


def test_flowers_reports_are_quiet_unless_asked_for_and_warnings_never_are(caplog):
    flower = logging.getLogger("flwr")
    simulate(server_app(1, FedAvg(fraction_evaluate=0.0)), client_app(), 2)
    assert not caplog.records
    simulate(server_app(1), client_app(), 2, verbose=True)
    assert any("Starting FedAvg" in record.getMessage() for record in caplog.records)
    caplog.clear()
    warned = server_app(1, evaluate_fn=lambda r, a: flower.warning("look at this"))
    simulate(warned, client_app(), 2)
    assert [record.getMessage() for record in caplog.records] == ["look at this"] * 2


def test_the_progress_bar_names_round_and_clients_and_can_be_hidden(capsys, monkeypatch):
    def slow(message, context):
        time.sleep(0.12)  # tqdm draws ten times a second at most
        return noisy_train(message, context)

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    simulate(server_app(2), client_app(slow), 2)
    assert re.search(r"round 2: (train|evaluate) \d/2", capsys.readouterr().err)
    simulate(server_app(2), client_app(), 2, progress=False)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    simulate(server_app(2), client_app(), 2)
    assert capsys.readouterr().err == ""
