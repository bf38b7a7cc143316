"""Federated LoRA: what a clinic does, and what travels."""

import random

import pytest
import torch
from datasets import Dataset
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg

from tests.llm.tiny import CARDS
from utils.federation import serve, simulate
from utils.federation.grids import one_thread
from utils.llm import (
    adapter_record,
    adapter_state,
    add_lora,
    clinic_app,
    fine_tune,
    load_adapter_record,
    load_adapter_state,
    train_steps,
)

CONFIG = {"steps": 2, "lr": 0.01}


@pytest.fixture
def clinics():
    cards = Dataset.from_list(CARDS)
    return {"one": cards.select([0, 1]), "two": cards.select([2, 3, 4])}


def server(llm, strategy, rounds, config=CONFIG):
    return serve(strategy, adapter_record(llm), rounds, train_config=config)


def plain(**settings):
    return FedAvg(
        fraction_evaluate=0, **{"min_available_nodes": 1, "min_train_nodes": 1} | settings
    )


@pytest.mark.parametrize("top_layers", [None, 1])
def test_one_clinic_in_full_is_centralized_training_bitwise(tiny, clinics, top_layers):
    only = {"only": clinics["two"]}
    add_lora(tiny, 4, top_layers=top_layers)
    start, seeds = adapter_state(tiny), []

    def remembered(llm, cards, config, seed):
        seeds.append(seed)
        return train_steps(llm, cards, config, seed)

    run = simulate(server(tiny, plain(), 3), clinic_app(tiny, only, remembered), 1, progress=False)
    federated = run.result.arrays.to_torch_state_dict()
    load_adapter_state(tiny, start)
    with one_thread():  # as a client
        for seed in seeds:  # three rounds, each with a fresh optimizer
            fine_tune(tiny, only["only"], steps=2, lr=0.01, seed=seed, progress=False)
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
    app = clinic_app(tiny, clinics)
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


def test_of_a_training_that_keeps_its_losses_nothing_leaves_but_the_adapter(tiny, clinics):
    add_lora(tiny, 2, top_layers=1)
    seen = []

    def mod(message, context, call_next):
        reply = call_next(message, context)
        seen.append(dict(reply.content["metrics"]))
        return reply

    app = clinic_app(tiny, clinics, lambda llm, cards, config, seed: None, mods=[mod])
    run = simulate(server(tiny, plain(), 1), app, 2, progress=False)
    assert not run.failures
    assert seen == [{"num-examples": 1}] * 2  # no loss, and no count of cards


def test_mods_are_applied(tiny, clinics):
    add_lora(tiny, 2, top_layers=1)
    seen = []

    def mod(message, context, call_next):
        seen.append(context.node_config["partition-id"])
        return call_next(message, context)

    app = clinic_app(tiny, clinics, mods=[mod])
    simulate(server(tiny, plain(), 1), app, 2, progress=False)
    assert sorted(seen) == [0, 1]


def test_what_cannot_be_a_federation_is_refused_in_words(tiny, clinics, capsys):
    add_lora(tiny, 2, top_layers=1)
    for wrong in ({}, None, list(clinics.values())):
        with pytest.raises(ValueError, match="a dictionary of cards by the clinic's name"):
            clinic_app(tiny, wrong)
    with pytest.raises(ValueError, match=r"says nothing of \['lr'\]"):
        train_steps(tiny, CARDS, {"steps": 1}, 0)
    with pytest.raises(ValueError, match="record is a dict; pass an ArrayRecord"):
        load_adapter_record(tiny, adapter_state(tiny))
    run = simulate(server(tiny, plain(), 1), clinic_app(tiny, clinics), 3, progress=False)
    assert "number 2 is asked for, and there are 2 clinics" in str(run.failures[0])


def test_clinics_in_several_processes_train_the_same_bits(tiny, cards):
    add_lora(tiny, 2, top_layers=2)
    start = adapter_record(tiny)
    clinics = {str(n): Dataset.from_list(cards[n : n + 2]) for n in range(4)}

    def run(workers):
        strategy = FedAvg(fraction_evaluate=0.0)
        server = serve(strategy, start, 2, train_config={"steps": 2, "lr": 1e-2})
        return simulate(server, clinic_app(tiny, clinics), 4, workers=workers)

    one, two = run(1), run(2)
    assert two.workers == 2
    assert one.client_metrics.equals(two.client_metrics)
    assert all(a.data == two.result.arrays[n].data for n, a in one.result.arrays.items())


def test_a_clinic_may_load_its_model_and_read_its_own_cards_when_it_is_asked(tiny, clinics):
    add_lora(tiny, 2)
    start, own = adapter_state(tiny), list(clinics.values())
    asked, seeds = [], []

    def cards(context):
        random.random()  # as Flower's heartbeat does on a network, while data and model are loaded
        asked.append(context.node_config["partition-id"])
        return own[asked[-1]]

    def training(llm, cards, config, seed):
        seeds.append(seed)
        return train_steps(llm, cards, config, seed)

    runs = []
    for whose in ((tiny, clinics), (lambda context: tiny, cards)):
        load_adapter_state(tiny, start)
        app = clinic_app(*whose, training)
        run = simulate(server(tiny, plain(), 1), app, 2, workers=1, progress=False)
        runs.append(run.result.arrays.to_torch_state_dict())
    assert sorted(asked) == [0, 1]
    assert seeds[:2] == seeds[2:]
    for name, w in runs[0].items():
        assert torch.equal(w, runs[1][name]), name
