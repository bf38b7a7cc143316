"""Federated LoRA: clinics train a shared model's adapter on their own cards; only it travels.

The base model is frozen and the same everywhere, so a process loads it once, whichever
clinics it plays. (Part 2, L3 writes this out.)
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from datasets import Dataset
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

from utils.arguments import dict_of, function, functions, shown
from utils.llm.lora import adapter_state, load_adapter_state
from utils.llm.model import LLM
from utils.llm.training import fine_tune

# trains the model's adapter on a clinic's cards: (llm, cards, config, seed) → losses by step,
# or None where nothing but the adapter may leave the clinic
Training = Callable[[LLM, Dataset, Mapping, int], Sequence[float] | None]


def adapter_record(llm: LLM) -> ArrayRecord:
    """The adapter's trained weights, ready to be sent.

    Raises:
        ValueError: if the model has no adapters.
    """
    return ArrayRecord(adapter_state(llm))


def load_adapter_record(llm: LLM, record: ArrayRecord) -> None:
    """Set the adapter's trained weights from a message.

    Raises:
        ValueError: if names or shapes are not those of the model's adapter.
    """
    if not isinstance(record, ArrayRecord):
        raise ValueError(
            f"record is a {type(record).__name__}; pass an ArrayRecord, as a message or "
            "run.result.arrays holds it (load_adapter_state takes weights by name)"
        )
    load_adapter_state(llm, record.to_torch_state_dict())


def train_steps(llm: LLM, cards: Dataset, config: Mapping, seed: int) -> Sequence[float]:
    """Plain fine-tuning for ``config["steps"]`` steps at ``config["lr"]``.

    ``config["alike"]``, if there is one, says whether batches hold cards of like length.

    Raises:
        ValueError: if the configuration lacks one of the two, or holds a value out of range.
    """
    dict_of("config", config, "settings")
    missing = [name for name in ("steps", "lr") if name not in config]
    if missing:
        raise ValueError(
            f"the round's configuration says nothing of {missing}; the server sends it, with "
            "train_config or a schedule"
        )
    settings = {"steps": config["steps"], "lr": config["lr"], "seed": seed}
    settings["alike"] = config.get("alike", True)
    return fine_tune(llm, cards, **settings, progress=False)


def clinic_app(
    llm: LLM | Callable[[Context], LLM],
    clinics: Mapping[str, Dataset] | Callable[[Context], Dataset],
    training: Training = train_steps,
    mods: Iterable[Mod] = (),
) -> ClientApp:
    """A ClientApp that plays each clinic by its number, on one shared model.

    Its reply to *train* holds the trained adapter, the number of the clinic's cards as the
    weight, and the loss before the first step. If the training returns no losses, nothing else
    made from the cards may leave either: then every clinic weighs 1.

    Args:
        llm: with adapters on; its base weights are never changed. Or a function of the context
            that returns it: then it is loaded where and when a clinic is first asked.
        clinics: each clinic's cards, from ``make_clinics``; or a function of the context that
            reads one clinic's, where a real one has them in a folder of its own.
        training: what a clinic does with the model, its cards, the round's configuration and
            a seed that belongs to this clinic and round.
        mods: of the client, the first outermost.

    Raises:
        ValueError: if there are no clinics.
        TypeError: if ``training``, or a mod, is no function.
    """
    known = (
        isinstance(clinics, Mapping)
        and clinics
        and all(isinstance(cards, Dataset | list) for cards in clinics.values())
    )
    if not known and not callable(clinics):
        raise ValueError(
            f"clinics is {shown(clinics)}; it must be a dictionary of cards by the clinic's name, "
            "as from make_clinics, of at least one clinic"
        )
    function("training", training, "llm.train_steps")
    app = ClientApp(mods=functions("mods", mods, "Flower mods"))
    cards_of = clinics if callable(clinics) else _by_number(list(clinics.values()))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        seed = random.getrandbits(31)  # first: on a network, Flower's heartbeat draws numbers, too
        cards = cards_of(context)
        model = llm(context) if callable(llm) else llm
        load_adapter_record(model, message.content["arrays"])
        losses = training(model, cards, message.content["config"], seed)
        metrics = {"num-examples": 1}
        if losses is not None:
            metrics = {"num-examples": len(cards), "loss": losses[0]}
        reply = RecordDict({"arrays": adapter_record(model), "metrics": MetricRecord(metrics)})
        return Message(reply, reply_to=message)

    return app


def _by_number(cards_of: list[Dataset]) -> Callable[[Context], Dataset]:
    """A clinic's cards, from its number in the context."""

    def cards(context: Context) -> Dataset:
        number = context.node_config["partition-id"]
        if not 0 <= number < len(cards_of):
            raise ValueError(
                f"clinic number {number} is asked for, and there are {len(cards_of)} clinics; "
                f"simulate with num_clients={len(cards_of)}"
            )
        return cards_of[number]

    return cards
