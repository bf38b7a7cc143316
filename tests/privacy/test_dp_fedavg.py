"""DPFedAvg and its clients' mod, through real simulated federations of known updates."""

import json
import math

import numpy as np
import pytest
from flwr.clientapp import ClientApp

from tests.federation.apps import client_of, server_app, update_reply
from utils.federation import simulate
from utils.privacy import DPFedAvg, clip_update, epsilon, gaussian_epsilon, l2_norm

MODEL = {"w": np.zeros(40, "float32"), "b": np.zeros(10, "float32")}
QUIET = {"clipping_norm": 1.0, "sampling_rate": 1.0, "delta": 1e-3}


def step(length, direction=0):
    """An update of the model, of this norm."""
    update = {name: np.zeros_like(values) for name, values in MODEL.items()}
    update["w"][direction] = length
    return update


def federate(strategy, updates, clients=4, rounds=1, mods=None, seed=0, model=MODEL):
    """Run clients that change the model by ``updates(client, round)``; keep each round's model."""
    models, seen = [], []

    def train(message, context):
        config, sent = message.content["config"], message.content["arrays"]
        seen.append((config["server-round"], client_of(context)))
        update = updates(client_of(context), config["server-round"])
        new = {n: sent[n].numpy() + change for n, change in update.items()}
        return update_reply(message, new, **{"num-examples": 1 + 99 * client_of(context)})

    app = ClientApp(mods=mods)
    app.train()(train)
    server = server_app(
        rounds,
        strategy,
        lambda r, arrays: models.append({n: a.numpy() for n, a in arrays.items()}),
        model,
    )
    run = simulate(server, app, clients, seed=seed, progress=False)
    return run, models, seen


def change(models, round_=1):
    return {n: models[round_][n] - models[round_ - 1][n] for n in MODEL}


def test_without_noise_and_clipping_it_is_the_plain_mean():
    strategy = DPFedAvg(noise_multiplier=0.0, **QUIET)
    _, models, _ = federate(strategy, lambda c, r: step(0.1 * (c + 1)))
    assert change(models)["w"][0] == pytest.approx(0.25)  # although examples differ by 100 times


def test_no_client_moves_the_sum_by_more_than_the_clipping_norm():
    moved = []
    for length in (0.0, 0.5, 1.0, 1e3, 1e30):
        strategy = DPFedAvg(noise_multiplier=0.0, **QUIET)
        hostile = lambda c, r, length=length: step(length if c == 2 else 0.2, direction=c)  # noqa: E731
        _, models, _ = federate(strategy, hostile)
        moved.append(change(models))
    for other in moved[1:]:
        gap = {n: 4 * (other[n].astype(float) - moved[0][n]) for n in MODEL}
        assert l2_norm(gap) <= 1.0 + 1e-6
    assert moved[-1]["w"][2] == pytest.approx(0.25)  # the bound is used, too


@pytest.mark.parametrize(
    "bad",
    [
        {"w": np.full(40, np.nan, "float32"), "b": MODEL["b"]},
        {"w": np.full(40, np.inf, "float32"), "b": MODEL["b"]},
        {"w": np.zeros(41, "float32"), "b": MODEL["b"]},
        {"w": MODEL["w"]},
    ],
    ids=["NaN", "infinite", "wrong shape", "missing"],
)
def test_an_unusable_update_is_a_drop_out_with_a_name(bad):
    strategy = DPFedAvg(noise_multiplier=0.0, **QUIET)
    run, models, _ = federate(strategy, lambda c, r: bad if c == 2 else step(0.4))
    assert change(models)["w"][0] == pytest.approx(3 * 0.4 / 4)
    assert [failure.client for failure in run.failures] == [2]


def test_an_integer_buffer_stays_as_the_server_has_it_and_nobody_is_left_out():
    """Such as BatchNorm's counter, which every client counts on."""
    model = MODEL | {"steps": np.array(7)}
    count_on = lambda c, r: step(0.4) | {"steps": np.array(5 + c)}  # noqa: E731
    strategy = DPFedAvg(noise_multiplier=0.0, **QUIET)
    run, models, _ = federate(strategy, count_on, rounds=2, model=model)
    assert run.failures == []
    assert models[2]["steps"] == 7
    assert models[2]["steps"].dtype == np.int64
    assert models[2]["w"][0] == pytest.approx(0.8)


def test_the_noise_has_the_promised_scale():
    strategy = DPFedAvg(noise_multiplier=1.5, **QUIET | {"clipping_norm": 0.4})
    _, models, _ = federate(strategy, lambda c, r: step(0.0), clients=3, rounds=60)
    noise = np.concatenate([np.ravel(v) for r in range(1, 61) for v in change(models, r).values()])
    assert noise.std() == pytest.approx(1.5 * 0.4 / 3, rel=5 / math.sqrt(2 * noise.size))
    assert abs(noise.mean()) < 5 * noise.std() / math.sqrt(noise.size)


def test_clients_are_drawn_independently_with_the_sampling_rate():
    strategy = DPFedAvg(noise_multiplier=0.0, **QUIET | {"sampling_rate": 0.3})
    _, _, seen = federate(strategy, lambda c, r: step(0.1), clients=10, rounds=200)
    sizes = np.bincount([r for r, _ in seen], minlength=201)[1:]
    assert sizes.mean() == pytest.approx(3, abs=5 * math.sqrt(2.1 / 200))
    assert sizes.var() == pytest.approx(2.1, rel=0.5)  # binomial: a fixed cohort has 0
    assert set(sizes) & {0, 1}  # and cohorts may be tiny
    by_client = np.bincount([c for _, c in seen])
    assert abs(by_client - 60).max() < 5 * math.sqrt(200 * 0.21)


def test_the_denominator_is_fixed_so_drop_outs_weigh_nothing():
    def crash(client, round_):
        if client == 3:
            raise RuntimeError("no power")
        return step(0.4)

    strategy = DPFedAvg(noise_multiplier=0.0, **QUIET)
    run, models, _ = federate(strategy, crash)
    assert change(models)["w"][0] == pytest.approx(3 * 0.4 / 4)
    assert len(run.failures) == 1
    assert len(strategy.ledger) == 1


def test_the_divisor_is_a_public_number_not_who_is_connected():
    strategy = DPFedAvg(noise_multiplier=0.0, population=10, **QUIET)
    _, models, _ = federate(strategy, lambda c, r: step(0.4), clients=4)
    assert change(models)["w"][0] == pytest.approx(4 * 0.4 / 10)
    federate(strategy, lambda c, r: step(0.4), clients=3)
    assert strategy.population == 10


def test_a_round_that_nobody_was_drawn_for_releases_noise_and_is_accounted():
    strategy = DPFedAvg(noise_multiplier=1.0, **QUIET | {"sampling_rate": 1e-6})
    _, models, seen = federate(strategy, lambda c, r: step(0.1), rounds=2)
    assert seen == []
    assert len(strategy.ledger) == 2
    assert np.abs(change(models)["w"]).min() > 0


def test_the_ledger_holds_epsilon_by_round():
    strategy = DPFedAvg(noise_multiplier=1.0, **QUIET | {"sampling_rate": 0.5})
    run, _, _ = federate(strategy, lambda c, r: step(0.1), rounds=3)
    assert [entry["epsilon"] for entry in strategy.ledger] == [
        epsilon(1.0, 0.5, n, 1e-3) for n in (1, 2, 3)
    ]
    assert [entry["round"] for entry in strategy.ledger] == [1, 2, 3]
    assert run.metrics["train/clipping-norm"].dropna().tolist() == [1.0] * 3


def test_the_budget_stops_training_before_it_is_passed():
    budget = epsilon(1.0, 1.0, 3, 1e-3) + 1e-6
    strategy = DPFedAvg(noise_multiplier=1.0, budget=budget, **QUIET)
    _, models, seen = federate(strategy, lambda c, r: step(0.1), rounds=6)
    assert {r for r, _ in seen} == {1, 2, 3}
    assert strategy.ledger[-1]["epsilon"] <= budget
    assert all(np.array_equal(models[3]["w"], models[r]["w"]) for r in (4, 5, 6))


@pytest.mark.parametrize("start", [0.05, 20.0])
@pytest.mark.parametrize("mods", [None, [clip_update]], ids=["at the server", "by the clients"])
def test_the_clipping_norm_adapts_to_the_true_quantile_from_both_sides(start, mods):
    lengths = np.linspace(0.1, 2.0, 20)
    strategy = DPFedAvg(
        noise_multiplier=0.3,
        target_quantile=0.5,
        adaptation_rate=0.4,
        count_noise=1.0,
        **QUIET | {"clipping_norm": start},
    )
    federate(strategy, lambda c, r: step(lengths[c]), 20, rounds=60, mods=mods)
    settled = np.mean([entry["clipping-norm"] for entry in strategy.ledger[-15:]])
    assert settled == pytest.approx(np.median(lengths), rel=0.25)
    first, second = (entry["clipping-norm"] for entry in strategy.ledger[:2])
    assert (second > first) == (start < 1)


def test_the_count_is_paid_for_by_more_noise_on_the_updates():
    strategy = DPFedAvg(
        noise_multiplier=1.0, target_quantile=0.5, adaptation_rate=1e-9, count_noise=0.6, **QUIET
    )
    _, models, _ = federate(strategy, lambda c, r: step(0.0), clients=2, rounds=60)
    noise = np.concatenate([change(models, r)["w"] for r in range(1, 61)])
    raised = (1 - 1 / 1.2**2) ** -0.5
    assert noise.std() == pytest.approx(raised / 2, rel=5 / math.sqrt(2 * noise.size))
    both = 1 / math.sqrt(1 / raised**2 + 1 / (2 * 0.6) ** 2)  # two Gaussian releases at once
    assert gaussian_epsilon(both, 1e-3) == pytest.approx(strategy.ledger[0]["epsilon"], rel=1e-3)


def test_a_count_noise_that_spends_everything_is_refused():
    strategy = DPFedAvg(noise_multiplier=1.0, target_quantile=0.5, count_noise=0.5, **QUIET)
    with pytest.raises(ValueError, match=r"count_noise is 0.5.*above 0.5"):
        federate(strategy, lambda c, r: step(0.1))


def test_a_saved_ledger_goes_on_bitwise():
    def made():
        return DPFedAvg(noise_multiplier=1.0, target_quantile=0.5, count_noise=2.0, **QUIET)

    whole, first, second = made(), made(), made()
    federate(first, lambda c, r: step(0.1 * c), rounds=2, seed=5)
    saved = json.loads(json.dumps(first.state()))
    second.restore(saved)
    assert second.state() == first.state() == saved
    federate(whole, lambda c, r: step(0.1 * c), rounds=2, seed=5)
    for strategy in (whole, second):
        federate(strategy, lambda c, r: step(0.1 * c), rounds=2, seed=6)
    assert whole.state() == second.state()
    assert len(second.ledger) == 4


def test_a_ledger_of_other_settings_is_refused():
    state = DPFedAvg(noise_multiplier=1.0, **QUIET).state()
    with pytest.raises(ValueError, match="epsilon would be wrong"):
        DPFedAvg(noise_multiplier=0.5, **QUIET).restore(state)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clipping_norm": 0.0}, "clipping_norm is 0.0"),
        ({"clipping_norm": math.inf}, "clipping_norm is inf"),
        ({"sampling_rate": 0.0}, "sampling_rate is 0.0"),
        ({"sampling_rate": 1.2}, "sampling_rate is 1.2"),
        ({"noise_multiplier": -1.0}, "noise_multiplier is -1.0"),
        ({"delta": 0.0}, "delta is 0.0"),
        ({"population": 0}, "population is 0"),
        ({"budget": 0.0}, "budget is 0.0"),
        ({"target_quantile": 1.0}, "target_quantile is 1.0"),
        ({"count_noise": 0.0}, "count_noise is 0.0"),
        ({"accountant": "moments"}, "accountant is 'moments'"),
    ],
)
def test_settings_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        DPFedAvg(**{"noise_multiplier": 1.0} | QUIET | wrong)


def test_clipping_at_the_client_gives_the_same_model_and_says_nothing_else():
    results = []
    for mods in (None, [clip_update]):
        strategy = DPFedAvg(noise_multiplier=0.0, **QUIET | {"clipping_norm": 0.3})
        run, models, _ = federate(strategy, lambda c, r: step(0.2 * c), mods=mods)
        results.append((models[1]["w"], list(run.client_metrics)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    assert results[0][1] == results[1][1]


def test_delta_of_one_client_or_more_is_warned_about():
    strategy = DPFedAvg(noise_multiplier=1.0, **QUIET | {"delta": 0.25})
    with pytest.warns(UserWarning, match=r"delta is 0.25, with 4 to protect"):
        federate(strategy, lambda c, r: step(0.1))


def test_the_clipping_mod_alone_says_what_is_missing():
    app = ClientApp(mods=[clip_update])
    app.train()(lambda message, context: update_reply(message, MODEL))
    with pytest.raises(RuntimeError, match="clip_update needs DPFedAvg"):
        simulate(server_app(1, arrays=MODEL), app, 2, progress=False)
