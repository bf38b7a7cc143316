"""A clinic's own account of epsilon: it has the last word, whatever the server asks for."""

import json
from pathlib import Path

from filelock import FileLock
from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from utils.privacy import Ledger

DELTA = 1e-4  # of a record, as in all lessons


def within_budget(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A mod: a clinic whose node configuration names an ``epsilon`` spends no more on a patient.

    Its ledger lies beside its data, so that it outlives runs and crashes; a round is entered
    before it is trained, one at a time, also where two runs ask at once. (What a record's
    releases add up to: Part 1, L4.)

    Raises:
        ValueError: if the server asks for training without noise, the clinic has no data folder,
            or its ledger cannot be read.
        BudgetSpentError: if this round would pass the clinic's epsilon.
    """
    budget = context.node_config.get("epsilon")
    if budget is None:
        return call_next(message, context)
    asked = message.content["config"]
    if not asked.get("noise-multiplier"):
        raise ValueError(
            f"this clinic trains with noise only (its epsilon is {budget:g}), and the run asks for "
            "none; give the run a noise-multiplier above 0"
        )
    folder = context.node_config.get("data-folder")
    if not folder:
        raise ValueError("an epsilon needs a data-folder in the node configuration, for its ledger")
    kept = Path(folder) / "ledger.json"
    with FileLock(kept.with_suffix(".lock")):
        _enter(kept, budget, asked["noise-multiplier"], asked["sampling-rate"], asked["steps"])
    return call_next(message, context)


def _enter(kept: Path, budget: float, *round_: float) -> None:
    """Spend a round (noise multiplier, sampling rate, steps), and keep the ledger."""
    ledger = Ledger(DELTA, budget=budget)
    if kept.exists():
        try:
            ledger.restore(json.loads(kept.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{kept.name} cannot be read, so it is not known what was spent ({error}); the "
                "clinic does not train until it has been restored"
            ) from error
    ledger.spend(*round_)
    new = kept.with_suffix(".new")
    new.write_text(json.dumps(ledger.state()), encoding="utf-8")
    new.replace(kept)
