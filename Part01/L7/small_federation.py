"""A federation that L7 kills and resumes: the same in the notebook and in a process of its own."""

from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp.strategy import FedAvg

from utils.data import load_digits, split_hospitals
from utils.federation import Run, classifier_app, serve, simulate
from utils.learning import DigitClassifier, evaluate

NUM_CLIENTS, NUM_ROUNDS = 5, 12
train_set, test_set = load_digits()
hospitals = split_hospitals(train_set, [set()] * NUM_CLIENTS)

client_app = classifier_app(
    DigitClassifier, lambda context: hospitals[context.node_config["partition-id"]], lr=0.02
)


def train(checkpoint: str | None = None, watched: bool = False) -> Run:
    """The whole run; with a folder, it goes on after the last round that was saved there.

    Args:
        checkpoint: the folder; None saves nothing.
        watched: print each round when the server has tested its model.
    """

    def judge(round_: int, arrays: ArrayRecord) -> MetricRecord:
        model = DigitClassifier()
        model.load_state_dict(arrays.to_torch_state_dict())
        if watched:
            print(round_, flush=True)
        return MetricRecord({"accuracy": evaluate(model, test_set).accuracy})

    server_app = serve(
        lambda context: FedAvg(fraction_evaluate=0.0),
        lambda: ArrayRecord(DigitClassifier().state_dict()),
        NUM_ROUNDS,
        evaluate_fn=judge,
    )
    return simulate(server_app, client_app, NUM_CLIENTS, seed=7, checkpoint=checkpoint)
