"""Naive: Part 2, L3 as it stands. FedAvg of an adapter, no protection."""

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from utils import capstone, federation, llm

SETTINGS = capstone.Settings()
ROUNDS, STEPS, RATE = 8, 2, 1e-2


def with_adapter():
    """The language model, a new adapter on it."""
    model = capstone.language_model()
    llm.add_lora(model, rank=8, top_layers=10)
    return model


client_app = ClientApp()


@client_app.train()
def train(message, context):
    """Adapter in, a few steps on the clinic's own records, adapter out."""
    model, records = with_adapter(), capstone.records_of(context)
    llm.load_adapter_record(model, message.content["arrays"])
    settings = {"steps": STEPS, "lr": message.content["config"]["lr"], "alike": False}
    llm.fine_tune(model, records, **settings, progress=False)
    reply = {
        "arrays": llm.adapter_record(model),
        "metrics": MetricRecord({"num-examples": len(records)}),
    }
    return Message(RecordDict(reply), reply_to=message)


server_app = ServerApp()


@server_app.main()
def main(grid, context):
    """FedAvg, with a rate that falls along a cosine."""
    strategy = federation.ScheduledFedAvg(
        federation.cosine(RATE, ROUNDS), fraction_train=0.5, fraction_evaluate=0.0
    )
    start = llm.adapter_record(with_adapter())
    result = strategy.start(grid, start, num_rounds=ROUNDS)
    context.state["arrays"] = ArrayRecord(dict(result.arrays.items()))


def losses(arrays, questions, context):
    """What each answer costs the language model with the trained adapter."""
    model = with_adapter()
    llm.load_adapter_record(model, arrays)
    return capstone.option_sums(model, questions)
