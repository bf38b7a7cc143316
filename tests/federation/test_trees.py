"""Boosted trees through Flower's strategies: equal to XGBoost by hand, and no forged one passes."""

import json

import numpy as np
import pytest
import xgboost as xgb
from flwr.serverapp.strategy import FedAvg, FedXgbBagging, FedXgbCyclic

from tests.federation.apps import client_app, client_of, update_reply
from utils.federation import RoundFailedError, serve, simulate
from utils.federation.records import as_record

SETTINGS = {"objective": "binary:logistic", "max_depth": 2, "eta": 0.3, "base_score": 0.5}
SETTINGS |= {"nthread": 1}


def patients(client, count=80, features=4):
    rng = np.random.default_rng(client)
    columns = rng.normal(size=(count, features))
    columns[::7, 2] = np.nan
    noise = rng.normal(size=count)
    return xgb.DMatrix(columns, label=(columns[:, 1] + columns[:, 3] + noise > client / 2) * 1.0)


def as_bytes(written):
    return as_record({"0": np.frombuffer(written, dtype=np.uint8)})


NO_MODEL = as_bytes(b"")


def first_model(**more):
    """One without trees, on which all have agreed."""
    return as_bytes(xgb.train(SETTINGS | more, patients(0), 0).save_raw("json"))


def loaded(record):
    model = xgb.Booster(SETTINGS)
    model.load_model(bytearray(record["0"].numpy().tobytes()))
    return model


def grown(message, client, only_new):
    """The model that was sent with one more tree, or that tree only; bytes."""
    received, data = message.content["arrays"], patients(client)
    model = loaded(received) if received["0"].shape[0] else xgb.train(SETTINGS, data, 0)
    before = model.num_boosted_rounds()
    model.update(data, before)
    return bytes((model[before : before + 1] if only_new else model).save_raw("json"))


def reply_with(message, arrays, **metrics):
    reply = update_reply(message, {}, **metrics)
    reply.content["arrays"] = as_bytes(arrays) if isinstance(arrays, bytes) else as_record(arrays)
    return reply


def grower(only_new, forge=lambda written: written, **metrics):
    """Clients that grow one tree; what client 1 sends is forged."""

    def train(message, context):
        client = client_of(context)
        written = grown(message, client, only_new)
        if client == 1:
            return reply_with(message, forge(written), **metrics)
        return reply_with(message, written)

    return client_app(train)


def run_trees(strategy, app, clients=2, rounds=3, start=None):
    made = strategy(fraction_evaluate=0.0, min_available_nodes=1)
    made.min_train_nodes = made.min_evaluate_nodes = 1  # FedXgbCyclic takes no such argument
    server = serve(made, first_model() if start is None else start, rounds)
    return simulate(server, app, clients, progress=False)


def bagging(app, **settings):
    return run_trees(FedXgbBagging, app, **settings)


def predictions(run, data):
    return loaded(run.result.arrays).predict(data)


def dumped(model):
    """Its trees, to be compared."""
    return json.loads(model.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"]


# What comes out ----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [FedXgbBagging, FedXgbCyclic])
@pytest.mark.parametrize("start", [None, NO_MODEL], ids=["agreed", "empty"])
def test_one_clients_federation_is_plain_xgboost(strategy, start):
    app = grower(strategy is FedXgbBagging)
    run = run_trees(strategy, app, clients=1, rounds=5, start=start)
    assert run.failures == []
    alone = xgb.train(SETTINGS, patients(0), 5)
    assert dumped(loaded(run.result.arrays)) == dumped(alone)
    assert np.array_equal(predictions(run, patients(9)), alone.predict(patients(9)))


def test_bagging_puts_the_trees_that_both_grew_on_the_common_model_side_by_side():
    run = bagging(grower(only_new=True))
    common = loaded(first_model())
    margins = [np.zeros(80), np.zeros(80)]  # of each client's patients, by the trees so far
    strangers = np.zeros(80)
    for _ in range(3):
        new = []
        for client in (0, 1):
            data = patients(client)
            data.set_base_margin(margins[client])
            new.append(xgb.train(SETTINGS, data, 1))
        for tree in new:
            for client in (0, 1):
                margins[client] = margins[client] + step_of(tree, patients(client))
            strangers += step_of(tree, patients(9))
    assert run.failures == []
    assert loaded(run.result.arrays).num_boosted_rounds() == common.num_boosted_rounds() + 6
    assert np.allclose(predictions(run, patients(9)), 1 / (1 + np.exp(-strangers)), atol=1e-6)


def step_of(tree, data):
    """What one tree adds to the log-odds (it was grown on base score 0.5, log-odds 0)."""
    return tree.predict(data, output_margin=True).astype(float)


def test_cyclic_training_goes_from_one_client_to_the_next():
    run = run_trees(FedXgbCyclic, grower(only_new=False), rounds=4)
    turns = run.client_metrics.query("kind == 'train'")["client"].tolist()
    by_hand = None
    for client in turns:
        by_hand = xgb.train(SETTINGS, patients(client), 1, xgb_model=by_hand)
    assert run.failures == []
    assert turns in ([0, 1, 0, 1], [1, 0, 1, 0])
    assert np.array_equal(predictions(run, patients(9)), by_hand.predict(patients(9)))


# What is refused ---------------------------------------------------------------------------


def edited(change):
    """Bytes in which ``change(model, tree)`` was done to the JSON and to its last tree."""

    def forge(written):
        model = json.loads(written)
        changed = change(model["learner"], last(model["learner"]))
        return json.dumps(model if changed is None else changed).encode()

    return forge


def last(learner):
    return learner["gradient_booster"]["model"]["trees"][-1]


def put(where, *path_and_value):
    *path, value = path_and_value
    for name in path[:-1]:
        where = where[name]
    where[path[-1]] = value


def in_tree(*path_and_value):
    return edited(lambda learner, tree: put(tree, *path_and_value))


def in_learner(*path_and_value):
    return edited(lambda learner, tree: put(learner, *path_and_value))


def dropped(written):
    model = json.loads(written)
    model["learner"]["gradient_booster"]["model"]["trees"] = []
    return json.dumps(model).encode()


FORGED = {
    "NaN in a leaf": (in_tree("split_conditions", -1, float("nan")), "1 leaves or thresholds"),
    "an infinite threshold": (in_tree("split_conditions", 0, float("inf")), "not finite"),
    "infinite in float32": (in_tree("split_conditions", -1, 1e39), "not finite"),
    "infinite to Python": (in_tree("base_weights", -1, 10**400), "something else than numbers"),
    "a circle": (in_tree("left_children", 0, 0), "a branch that leads back, or out"),
    "a branch to nowhere": (in_tree("right_children", 0, 10**6), "a branch that leads back"),
    "half a split": (in_tree("right_children", 0, -1), "a branch that leads back"),
    "false parents": (in_tree("parents", 1, 2), "a branch that leads back"),
    "a root with a parent": (in_tree("parents", 0, 5), "a branch that leads back"),
    "a feature too many": (in_tree("split_indices", 0, 4), "asks for feature 4; there are 4"),
    "a feature below 0": (in_tree("split_indices", 0, -5), "asks for feature -5"),
    "split by category": (in_tree("split_type", 0, 1), "splits by category"),
    "too few leaves": (in_tree("split_conditions", [0.5]), "'split_conditions': 1"),
    "a false count": (in_tree("tree_param", "num_nodes", "99"), "says that it has 99 nodes"),
    "no children": (edited(lambda learner, tree: tree.pop("left_children") and None), "KeyError"),
    "words for numbers": (in_tree("split_conditions", 0, "high"), "numbers in ['split_co"),
    "half a node": (in_tree("left_children", 0, 1.5), "numbers in ['left_children']"),
    "a name twice": (  # Python reads the last, XGBoost perhaps the first
        lambda w: w.replace(b'"trees":[', b'"trees":[],"trees":['), "stands there twice"),
    "a list for a tree": (in_tree("tree_param", ["99"]), "is no XGBoost model of trees (TypeError"),
    "more features": (
        in_learner("learner_model_param", "num_feature", "5"), "num_feature is 5, not 4"),
    "another base score": (
        in_learner("learner_model_param", "base_score", "[9E-1]"), "base_score is [9E-1], not"),
    "another objective": (
        in_learner("objective", "name", "reg:squarederror"), "objective is reg:squarederror"),
    "another booster": (in_learner("gradient_booster", "name", "dart"), "booster is 'dart'"),
    "no trees": (dropped, "it holds 0 trees"),
    "a false number of trees": (
        in_learner("gradient_booster", "model", "gbtree_model_param", "num_trees", "7"), "says"),
    "false iterations": (
        in_learner("gradient_booster", "model", "iteration_indptr", [0, 9]), "says that there are"),
    "a list": (edited(lambda learner, tree: [1, 2]), "not the JSON of a model (TypeError"),
    "other JSON": (edited(lambda learner, tree: {"a": 1}), "not the JSON of a model (KeyError"),
    "binary JSON": (lambda written: b"\x00\xff" + written, "not the JSON of a model"),
    "cut short": (lambda written: written[:-9], "not the JSON of a model (JSONDecodeError"),
    "brackets without end": (lambda written: b"[" * 10**6, "not the JSON of a model (Recursion"),
    "nothing": (lambda written: b"", "the reply is empty"),
    "floats": (lambda written: {"0": np.zeros(3, "f4")}, "'0' has shape (3,)"),
    "two dimensions": (lambda written: {"0": np.zeros((1, 3), "u1")}, "'0' has shape (1, 3)"),
    "another name": (lambda written: {"trees": np.zeros(3, "u1")}, "missing ['0']"),
    "two arrays": (
        lambda written: {"0": np.zeros(3, "u1"), "1": np.zeros(3, "u1")}, "unexpected ['1']"),
}  # fmt: skip


@pytest.mark.parametrize("strategy", [FedXgbBagging, FedXgbCyclic])
@pytest.mark.parametrize(("forge", "message"), FORGED.values(), ids=FORGED)
def test_a_forged_model_is_refused_with_its_senders_name_and_the_round_goes_on(
    strategy, forge, message
):
    only_new = strategy is FedXgbBagging
    if only_new:
        run = run_trees(strategy, grower(only_new, forge), clients=3, rounds=1)
        (failure,) = run.failures
        assert str(failure).startswith("Round 1: client 1 failed to train: update refused: ")
        assert message in failure.error
        assert len(dumped(loaded(run.result.arrays))) == 2
    else:  # one client a round: nothing is left of the liar's
        with pytest.raises(RoundFailedError) as caught:
            run_trees(strategy, grower(only_new, forge), rounds=2)
        assert "client 1: update refused: " in str(caught.value)
        assert message in str(caught.value)
        assert "diverged" not in str(caught.value)


def test_a_weight_that_is_none_is_refused():
    run = bagging(grower(True, **{"num-examples": -1}), clients=3, rounds=1)
    (failure,) = run.failures
    assert failure.client == 1
    assert "the weight 'num-examples' is -1" in failure.error


def test_metrics_unlike_the_others_are_refused():
    run = bagging(grower(True, loss=0.5), clients=3, rounds=1)
    (failure,) = run.failures
    assert failure.client == 1
    assert "all clients must report alike" in failure.error


def test_bagging_refuses_a_model_that_was_not_cut_down_to_its_new_tree():
    """Flower would take the first tree of the old ones for the new one."""
    run = bagging(grower(only_new=False), clients=2, rounds=1)
    assert run.failures == []  # in round 1 the new tree is all that there is
    with pytest.raises(RoundFailedError, match="holds 3 trees, where bagging takes the new ones"):
        bagging(grower(only_new=False), clients=2, rounds=2)


def test_forests_of_several_trees_a_step_are_taken(monkeypatch):
    more = {"num_parallel_tree": 3, "subsample": 0.5}
    for name, value in more.items():
        monkeypatch.setitem(SETTINGS, name, value)
    run = bagging(grower(only_new=True), rounds=2)
    assert run.failures == []
    assert len(dumped(loaded(run.result.arrays))) == 2 * 2 * 3


def test_trees_that_were_pruned_are_taken(monkeypatch):
    """What was cut off still stands in the lists."""
    for name, value in {"max_depth": 6, "gamma": 1.0, "tree_method": "exact"}.items():
        monkeypatch.setitem(SETTINGS, name, value)
    run = bagging(grower(only_new=True), rounds=2)
    assert run.failures == []
    assert any(int(t["tree_param"]["num_deleted"]) for t in dumped(loaded(run.result.arrays)))


def test_without_a_first_model_clients_must_have_begun_alike():
    """XGBoost guesses a base score from a client's own patients, unless it is told one."""
    asked = {name: value for name, value in SETTINGS.items() if name != "base_score"}

    def train(message, context):
        data = patients(client_of(context) // 2)  # 0 and 1 hold the same patients
        return reply_with(message, bytes(xgb.train(asked, data, 1).save_raw("json")))

    run = bagging(client_app(train), clients=3, rounds=1, start=NO_MODEL)
    (failure,) = run.failures
    assert failure.client == 2
    assert "base_score is [" in failure.error
    assert "let the server send a first model without trees" in failure.error


def test_an_empty_first_model_does_not_excuse_a_forged_tree():
    start = NO_MODEL
    run = bagging(grower(True, FORGED["a circle"][0]), clients=3, rounds=1, start=start)
    assert [failure.client for failure in run.failures] == [1]


def test_a_strategy_that_is_not_for_trees_refuses_them_as_it_did():
    def train(message, context):
        if client_of(context) == 1:
            return reply_with(message, bytes(xgb.train(SETTINGS, patients(1), 1).save_raw("json")))
        return reply_with(message, {"0": np.ones(3, "f4")})

    start = as_record({"0": np.zeros(3, "f4")})
    run = simulate(serve(FedAvg(), start, 1), client_app(train), 3, progress=False)
    (failure,) = run.failures
    assert (failure.client, failure.kind) == (1, "train")
    assert "'0' has shape" in failure.error


@pytest.mark.parametrize("strategy", [FedXgbBagging, FedXgbCyclic])
def test_an_answer_to_evaluate_needs_no_trees(strategy):
    server = serve(strategy(), first_model(), 1)
    run = simulate(server, grower(strategy is FedXgbBagging), 2, progress=False)
    assert run.failures == []
    assert run.metrics["clients/score"].tolist() == [0.5]
