"""A strategy around another one: what it does not change, the inner one does."""

import pytest
from flwr.serverapp.strategy import FedAvg

from tests.federation.apps import client_app, final_weights, server_app
from utils.federation import simulate
from utils.federation.wrapping import WrappedStrategy


class Doubled(WrappedStrategy):
    """Changes training only: each round's model counts twice."""

    def configure_train(self, *given):
        return self.strategy.configure_train(*given)

    def aggregate_train(self, *given):
        arrays, metrics = self.strategy.aggregate_train(*given)
        return type(arrays)({n: type(a)(2 * a.numpy()) for n, a in arrays.items()}), metrics


def test_evaluation_and_summary_are_the_inner_strategys():
    said = []
    inner = FedAvg(fraction_evaluate=0.5)
    inner.summary = lambda: said.append("summary")
    run = simulate(server_app(2, Doubled(inner)), client_app(), 4, progress=False)
    assert final_weights(run)["w"].tolist() == [6, 6]  # 2 * (2 * (0 + 1) + 1)
    evaluated = run.traffic.query("kind == 'evaluate' and direction == 'down'")
    assert evaluated.groupby("round")["client"].count().tolist() == [2, 2]
    assert run.metrics["clients/score"].tolist() == [0.5, 0.5]
    assert said == ["summary"]


def test_what_is_no_strategy_cannot_be_wrapped():
    for strategy in (None, FedAvg, "FedAvg"):
        with pytest.raises(ValueError, match=r"strategy is .*; it must be one such as FedAvg"):
            Doubled(strategy)
