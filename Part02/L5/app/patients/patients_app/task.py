"""What a clinic holds, the model that it trains, and how."""

import json
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from datasets import Dataset
from flwr.app import Context

from utils import llm
from utils.data import DEPARTMENTS, make_triage


@cache
def deal_out(count: int) -> list[Dataset]:
    """Patients of so many clinics, which take the ten departments in turn."""
    patients, names = make_triage().patients, list(DEPARTMENTS)
    clinic_of = [names.index(department) % count for department in patients["department"]]
    own = [[i for i, clinic in enumerate(clinic_of) if clinic == n] for n in range(count)]
    return [patients.select(rows) for rows in own]


def save(own: Dataset, folder: Path) -> None:
    """Write one clinic's patients into its folder, a line of JSON each."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(patient) for patient in own]
    (folder / "patients.jsonl").write_text("\n".join(lines), encoding="utf-8")


def load(folder: Path) -> Dataset:
    """Read them back."""
    text = (folder / "patients.jsonl").read_text(encoding="utf-8")
    return Dataset.from_list([json.loads(line) for line in text.splitlines()])


def own_data(context: Context) -> Dataset:
    """A clinic's patients: from its own folder; in a simulation, where it has none, dealt out."""
    if folder := context.node_config.get("data-folder"):
        return load(Path(folder))
    return deal_out(context.node_config["num-partitions"])[context.node_config["partition-id"]]


def model_of(context: Context) -> llm.LLM:
    """The language model with this run's adapters on; a process loads it once."""
    return _model(context.run_config["rank"], context.run_config["top-layers"])


@cache
def _model(rank: int, top_layers: int) -> llm.LLM:
    model = llm.load_llm()
    llm.add_lora(model, rank, top_layers=top_layers)
    return model


def train(model: llm.LLM, own: Dataset, config: Mapping, seed: int) -> Sequence[float] | None:
    """A few steps on the clinic's patients; under DP-SGD, if the run asks for it.

    Noise that protects comes from a seed that nobody knows, the server least of all. Neither
    loss nor number of patients leaves then.
    """
    if not config["noise-multiplier"]:
        return llm.train_steps(model, own, config, seed)
    settings = ("noise-multiplier", "max-norm", "sampling-rate", "steps", "lr")
    chosen = {name.replace("-", "_"): config[name] for name in settings}
    llm.fine_tune_privately(model, own, **chosen, seed=secrets.randbits(62), progress=False)
    return None
