"""A small entry without a language model, and ways to change it."""

from functools import cache

from utils.capstone.case import Case, make_case
from utils.capstone.rooms import Entry

SMALL = """
import zlib
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from utils import capstone

SETTINGS = capstone.Settings()
ROUNDS = 2

def names_of(context):
    labels = capstone.labels_of(context)
    return labels["departments"] + labels["diseases"]

def read(text):
    x = np.zeros(32)
    for word in text.split():
        x[zlib.crc32(word.encode()) % 32] += 1
    return x / np.linalg.norm(x)

def number_of(answer, context):
    return next((i for i, n in enumerate(names_of(context)) if answer.startswith(n)), None)

client_app = ClientApp()

@client_app.train()
def train(message, context):
    weights = message.content["arrays"]["weights"].numpy().copy()
    records = capstone.records_of(context)
    # here
    for record in records:
        weights[number_of(record["answer"], context)] += read(record["question"])
    arrays = ArrayRecord({"weights": Array(weights.astype(np.float32))})
    metrics = MetricRecord({"num-examples": len(records)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

server_app = ServerApp()

@server_app.main()
def main(grid, context):
    start = Array(np.zeros((len(names_of(context)), 32), np.float32))
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0)
    # server
    result = strategy.start(grid, ArrayRecord({"weights": start}), num_rounds=ROUNDS)
    context.state["arrays"] = result.arrays

def losses(arrays, questions, context):
    weights = arrays["weights"].numpy()
    numbers = [[number_of(option, context) for option in options] for _, options in questions]
    return [
        [0.0 if n is None else float(-weights[n] @ read(text)) for n in row]
        for (text, _), row in zip(questions, numbers)
    ]
"""
PRIVATE = "SETTINGS = capstone.Settings(private=True, noise_multiplier=2.0, epsilon=8)"
ONE_A_PATIENT = """
def patient_key(record, context):
    words = record["question"].replace(".", "").split()
    return record["answer"] + " ".join(sorted(words))
"""


def changed(*changes: tuple[str, str], private: bool = False) -> Entry:
    """The small entry with some pieces replaced; a piece that is not there is an error."""
    source = SMALL
    if private:
        source = source.replace("SETTINGS = capstone.Settings()", PRIVATE) + ONE_A_PATIENT
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    return Entry("small", source)


def in_client(code: str, private: bool = False) -> Entry:
    """The small entry, with a line more in its ClientApp."""
    return changed(("    # here", f"    {code}"), private=private)


def in_server(code: str, private: bool = False) -> Entry:
    """The small entry, with a line more in its ServerApp."""
    return changed(("    # server", f"    {code}"), private=private)


@cache
def few(seed: int) -> Case:
    """A case of few clinics, patients and questions."""
    case = make_case(seed)
    kept, count = [], {"honest": 3, "careless": 2, "crashes": 1, "lies": 1}
    for clinic in case.clinics:
        if count[clinic.role]:
            count[clinic.role] -= 1
            first = sorted(range(len(clinic.records)), key=lambda i: clinic.patients[i])[:16]
            records, patients = ([some[i] for i in first] for some in clinic[:2])
            kept.append(clinic._replace(records=records, patients=patients))
    exams = {name: quiz[:12] for name, quiz in case.exams.items()}
    return case._replace(clinics=kept, exams=exams, copied=case.copied[:2], never=case.never[:2])
