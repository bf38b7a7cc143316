"""Federated LoRA: clinics train a shared model's adapter on their own cards; only it travels.

The base model is frozen and the same everywhere, so a process loads it once, whichever
clinics it plays. (Part 2, L3 writes this out.)
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from datasets import Dataset
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from utils.llm import LLM, LowerLayers, adapter_state, fine_tune, load_adapter_state

# trains the model's adapter on a clinic's cards: (llm, cards, config, seed) → losses by step,
# or None where these must not leave the clinic
Training = Callable[[LLM, Dataset, Mapping, int], Sequence[float] | None]


def adapter_record(llm: LLM) -> ArrayRecord:
    """The adapter's trained weights, ready to be sent."""
    return ArrayRecord(adapter_state(llm))


def load_adapter_record(llm: LLM, record: ArrayRecord) -> None:
    """Set the adapter's trained weights from a message.

    Raises:
        ValueError: if names or shapes are not those of the model's adapter.
    """
    load_adapter_state(llm, record.to_torch_state_dict())


def steps_of(layers: LowerLayers) -> Training:
    """Plain fine-tuning for ``config["steps"]`` steps at ``config["lr"]``."""

    def training(llm: LLM, cards: Dataset, config: Mapping, seed: int) -> Sequence[float]:
        settings = {"steps": config["steps"], "lr": config["lr"], "seed": seed}
        return fine_tune(llm, cards, **settings, layers=layers, progress=False)

    return training


def clinic_app(
    llm: LLM, clinics: Mapping[str, Dataset], training: Training, mods: Iterable[Mod] = ()
) -> ClientApp:
    """A ClientApp that plays each clinic by its number, on one shared model.

    Its reply to *train* holds the trained adapter, the number of the clinic's cards as the
    weight, and the loss before the first step, unless the training keeps its losses.

    Args:
        llm: with adapters on; its base weights are never changed.
        clinics: each clinic's cards, from ``make_clinics``.
        training: what a clinic does with the model, its cards, the round's configuration and
            a seed that belongs to this clinic and round; see ``steps_of``.
        mods: of the client, the first outermost.
    """
    own_cards, app = list(clinics.values()), ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        cards = own_cards[context.node_config["partition-id"]]
        load_adapter_record(llm, message.content["arrays"])
        losses = training(llm, cards, message.content["config"], random.getrandbits(31))
        metrics = MetricRecord({"num-examples": len(cards)})
        if losses is not None:
            metrics["loss"] = losses[0]
        reply = RecordDict({"arrays": adapter_record(llm), "metrics": metrics})
        return Message(reply, reply_to=message)

    return app


class CosineFedAvg(FedAvg):
    """FedAvg that sends a learning rate with each round: from ``lr`` down along a cosine.

    Args:
        lr: of the first round, above 0.
        num_rounds: over which it falls to (nearly) 0, at least 1.
        settings: of ``FedAvg``.
    """

    def __init__(self, *, lr: float, num_rounds: int, **settings: object) -> None:
        if not 0 < lr < math.inf or num_rounds < 1:
            raise ValueError(
                f"lr={lr}, num_rounds={num_rounds}: lr must be above 0 and finite, and there must "
                "be at least 1 round"
            )
        super().__init__(**settings)
        self.lr, self.num_rounds = lr, num_rounds

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """FedAvg's messages, with the round's ``"lr"`` in their configuration."""
        done = min(server_round - 1, self.num_rounds) / self.num_rounds
        config["lr"] = self.lr * (1 + math.cos(math.pi * done)) / 2
        return super().configure_train(server_round, arrays, config, grid)
