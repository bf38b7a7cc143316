"""What went wrong in a run, and where."""

import traceback
from dataclasses import dataclass, field

import pandas as pd


class RoundFailedError(RuntimeError):
    """Every client of a round failed: there is nothing to aggregate."""


@dataclass(frozen=True)
class Failure:
    """One client's failure in one round. ``print(failure.traceback)`` shows where it happened.

    ``client`` is its number in a simulation, its node id on a real network.
    """

    round: int
    client: int
    kind: str
    error: str
    traceback: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"Round {self.round}: client {self.client} failed to {self.kind}: {self.error}"


class Failures(list[Failure]):
    """All failures of a run, in order; printed as a table."""

    def table(self) -> pd.DataFrame:
        """One row a failure: round, client, kind, error."""
        columns = ["round", "client", "kind", "error"]
        return pd.DataFrame([[getattr(f, c) for c in columns] for f in self], columns=columns)

    def __repr__(self) -> str:
        if not self:
            return "no failures"
        return self.table().to_string(index=False, max_colwidth=100)

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False) if self else "no failures"


def explained(error: BaseException) -> str:
    """What an exception says, and more where Flower says too little.

    Flower refuses NumPy's and torch's scalars as metrics or settings, and does not say which.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        names = dict(frame.f_locals)
        if frame.f_code.co_name == "__setitem__" and {"key", "value"} <= names.keys():
            value = names["value"]
            if isinstance(error, TypeError):
                kind = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
                cure = ": float(x)" if hasattr(value, "item") else " or a list of these"
                return (
                    f"TypeError: '{names['key']}' is a {kind}, which does not travel in a "
                    f"message; send a plain number{cure}"
                )
    return f"{type(error).__name__}: {error}"
