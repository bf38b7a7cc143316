"""The server: federated averaging, tested after each round on digits of its own."""

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from digits_app.task import TERMS
from utils.data import load_digits
from utils.federation import run_rounds
from utils.learning import DigitClassifier, evaluate
from utils.privacy.secure_aggregation import SecureAggregation
from utils.randomness import random_stream

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """As many rounds as the run's configuration says."""
    config = context.run_config
    test_digits = load_digits()[1]
    model = DigitClassifier()

    def test(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        model.load_state_dict(arrays.to_torch_state_dict())
        return MetricRecord(evaluate(model, test_digits)._asdict())

    with random_stream(config["seed"]):
        first_model = ArrayRecord(DigitClassifier().state_dict())
    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_train_nodes=config["min-clinics"],
        min_available_nodes=config["min-clinics"],
    )
    run_rounds(
        grid,
        SecureAggregation(strategy, TERMS) if config["masked"] else strategy,
        first_model,
        config,
        train_config=ConfigRecord({"epochs": config["epochs"], "lr": config["lr"]}),
        evaluate_fn=test,
    )
