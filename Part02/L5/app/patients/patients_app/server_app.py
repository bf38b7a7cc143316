"""The server: averages adapters at a falling learning rate, and holds an exam before and after."""

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from patients_app.task import model_of
from utils import llm
from utils.data import make_triage
from utils.federation import ScheduledFedAvg, cosine, run_rounds
from utils.randomness import random_stream

app = ServerApp()
_SENT = ("steps", "noise-multiplier", "max-norm", "sampling-rate")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """As many rounds as the run's configuration says."""
    config = context.run_config
    with random_stream(config["seed"]):
        model = model_of(context)
        llm.add_lora(model, config["rank"], top_layers=config["top-layers"])  # new ones

    def exam(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if server_round not in (0, config["rounds"]) or not config["exam"]:
            return None
        llm.load_adapter_record(model, arrays)
        questions = make_triage().exams["clinical"][:: max(1, 160 // config["exam"])]
        marks = llm.answer_quiz(model, questions, per_token=False, progress=False)
        return MetricRecord({"right": marks.accuracy})

    run_rounds(
        grid,
        ScheduledFedAvg(
            cosine(config["lr"], config["rounds"]),
            fraction_evaluate=0.0,
            min_train_nodes=config["min-clinics"],
            min_available_nodes=config["min-clinics"],
        ),
        llm.adapter_record(model),
        config,
        train_config=ConfigRecord({"alike": False, **{name: config[name] for name in _SENT}}),
        evaluate_fn=exam,
    )
