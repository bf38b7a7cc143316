"""Federated LoRA: what a clinic does, and what travels."""

import math

import pytest
import torch
from datasets import Dataset
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from tests.conftest import CARDS
from utils.federation import simulate
from utils.llm import LowerLayers, adapter_state, add_lora, fine_tune, load_adapter_state
from utils.llm.federated import (
    CosineFedAvg,
    adapter_record,
    clinic_app,
    load_adapter_record,
    steps_of,
)


@pytest.fixture
def clinics():
    cards = Dataset.from_list(CARDS)
    return {"one": cards.select([0, 1]), "two": cards.select([2, 3, 4])}


def server(llm, strategy, rounds, config=None):
    app = ServerApp()

    @app.main()
    def main(grid, context):
        train_config = ConfigRecord(config or {"steps": 2, "lr": 0.01})
        strategy.start(grid, adapter_record(llm), rounds, train_config=train_config)

    return app


def plain(**settings):
    return FedAvg(
        fraction_evaluate=0, **{"min_available_nodes": 1, "min_train_nodes": 1} | settings
    )


@pytest.mark.parametrize("top_layers", [None, 1])
def test_one_clinic_in_full_is_centralized_training_bitwise(tiny, clinics, top_layers):
    own = {"only": clinics["two"]}
    add_lora(tiny, 4, top_layers=top_layers)
    start, seeds = adapter_state(tiny), []
    layers = LowerLayers(tiny)

    def remembered(llm, cards, config, seed):
        seeds.append(seed)
        return steps_of(layers)(llm, cards, config, seed)

    run = simulate(server(tiny, plain(), 3), clinic_app(tiny, own, remembered), 1, progress=False)
    federated = run.result.arrays.to_torch_state_dict()
    load_adapter_state(tiny, start)
    for seed in seeds:  # three rounds, each with a fresh optimizer
        fine_tune(tiny, own["only"], steps=2, lr=0.01, seed=seed, progress=False)
    for name, w in adapter_state(tiny).items():
        assert torch.equal(w, federated[name]), name
    assert len(set(seeds)) == 3


def test_the_average_weighs_clinics_by_their_cards(tiny, clinics):
    add_lora(tiny, 2)
    start, results = adapter_state(tiny), []

    def training(llm, cards, config, seed):
        load_adapter_state(llm, {name: w + len(cards) for name, w in start.items()})
        results.append(len(cards))
        return [0.5]

    run = simulate(server(tiny, plain(), 1), clinic_app(tiny, clinics, training), 2, progress=False)
    final = run.result.arrays.to_torch_state_dict()
    for name, w in start.items():
        assert torch.allclose(final[name], w + (2 * 2 + 3 * 3) / 5, atol=1e-5)
    assert sorted(results) == [2, 3]
    assert run.metrics["train/loss"][1] == 0.5


def test_only_the_adapter_travels(tiny, clinics):
    add_lora(tiny, 2, top_layers=1)
    app = clinic_app(tiny, clinics, steps_of(LowerLayers(tiny)))
    run = simulate(server(tiny, plain(), 1), app, 2, progress=False)
    trained, everything = tiny.parameter_counts()
    assert not run.failures
    assert len(run.traffic) == 4
    assert run.traffic["bytes"].between(4 * trained, 4 * trained + 2000).all()
    assert 4 * everything > 100 * run.traffic["bytes"].max()


def test_the_adapter_comes_back_from_a_record_unchanged(tiny):
    add_lora(tiny, 4)
    state = {name: torch.randn_like(w) for name, w in adapter_state(tiny).items()}
    load_adapter_record(tiny, ArrayRecord(state))
    assert all(torch.equal(w, state[name]) for name, w in adapter_state(tiny).items())
    assert list(adapter_record(tiny)) == list(state)


def test_an_adapter_of_another_rank_or_name_is_refused(tiny):
    add_lora(tiny, 4)
    record = adapter_record(tiny)
    add_lora(tiny, 2)
    with pytest.raises(ValueError, match="another rank"):
        load_adapter_record(tiny, record)
    foreign = {f"x.{name}": w for name, w in adapter_state(tiny).items()}
    with pytest.raises(ValueError, match="the adapter's names differ"):
        load_adapter_record(tiny, ArrayRecord(foreign))


def test_a_training_that_keeps_its_losses_reports_none(tiny, clinics):
    add_lora(tiny, 2, top_layers=1)
    seen = []

    def mod(message, context, call_next):
        reply = call_next(message, context)
        seen.append(dict(reply.content["metrics"]))
        return reply

    app = clinic_app(tiny, clinics, lambda llm, cards, config, seed: None, mods=[mod])
    run = simulate(server(tiny, plain(), 1), app, 2, progress=False)
    assert not run.failures
    assert sorted(m["num-examples"] for m in seen) == [2, 3]
    assert all(list(m) == ["num-examples"] for m in seen)


def test_mods_are_applied(tiny, clinics):
    add_lora(tiny, 2, top_layers=1)
    seen = []

    def mod(message, context, call_next):
        seen.append(context.node_config["partition-id"])
        return call_next(message, context)

    app = clinic_app(tiny, clinics, steps_of(LowerLayers(tiny)), mods=[mod])
    simulate(server(tiny, plain(), 1), app, 2, progress=False)
    assert sorted(seen) == [0, 1]


def test_the_learning_rate_falls_along_a_cosine(tiny, clinics):
    add_lora(tiny, 2, top_layers=1)
    rates = []

    def training(llm, cards, config, seed):
        rates.append(config["lr"])
        return [1.0]

    strategy = CosineFedAvg(lr=0.2, num_rounds=4, fraction_evaluate=0)
    app = clinic_app(tiny, clinics, training)
    simulate(server(tiny, strategy, 4, {"steps": 1}), app, 2, progress=False)
    expected = [0.2 * (1 + math.cos(math.pi * r / 4)) / 2 for r in range(4)]
    assert rates[::2] == rates[1::2] == pytest.approx(expected)
    assert rates[0] == 0.2


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"lr": math.inf}, {"num_rounds": 0}])
def test_a_schedule_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="lr must be above 0 and finite"):
        CosineFedAvg(**{"lr": 0.1, "num_rounds": 3} | wrong)
