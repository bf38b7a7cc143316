"""A ledger: what has been released, and what it is worth in epsilon so far."""

import warnings
from collections.abc import Mapping

from utils.arguments import number, shown, whole_number
from utils.privacy.accounting import (
    Release,
    checked_release,
    epsilon_of,
    one_accountant,
)


class BudgetSpentError(RuntimeError):
    """One more release would pass the budget."""


class Ledger:
    """Counts releases of the Gaussian mechanism, before they are made, against a budget.

    DP-FedAvg enters each round, local DP each answer of a client, DP-SGD each step.

    Args:
        delta: the failure probability, between 0 and 1.
        budget: the epsilon that may be spent; None: only count.
        accountant: as for ``utils.privacy.epsilon``.
        units: how many clients or records are protected, where that is known: a delta of
            1 / units or more promises little, and a warning says so.
    """

    def __init__(
        self,
        delta: float,
        *,
        budget: float | None = None,
        accountant: str = "pld",
        units: int | None = None,
    ) -> None:
        self.delta = number("delta", delta, above=0, below=1)
        self.budget = None if budget is None else number("budget", budget, above=0)
        self.accountant = one_accountant(accountant)
        self.releases: list[Release] = []
        if units is not None:
            self.protects(units)

    def protects(self, units: int) -> None:
        """Warn if delta is so large that losing one of ``units`` whole would be within it."""
        if self.delta >= 1 / whole_number("units", units, 1):
            warnings.warn(
                f"delta is {self.delta:g}, with {units:,} to protect: publishing one of them "
                f"whole is within it. Take less than 1 / {units:,}, better a tenth of that",
                stacklevel=3,
            )

    @property
    def epsilon(self) -> float:
        """What has been spent."""
        return self.epsilon_after(len(self.releases))

    def epsilon_after(self, entries: int) -> float:
        """Epsilon of the first entries.

        Raises:
            ValueError: if that is no whole number of at least 0.
        """
        entries = whole_number("entries", entries, 0)
        return epsilon_of(self.releases[:entries], self.delta, self.accountant)

    def affords(self, noise_multiplier: float, sampling_rate: float, times: int = 1) -> bool:
        """Whether so many more releases stay within the budget."""
        if self.budget is None:
            return True
        release = Release(noise_multiplier, sampling_rate, times)
        spent = epsilon_of([*self.releases, release], self.delta, self.accountant)
        return spent <= self.budget * (1 + 1e-9)  # a budget computed for just so many rounds

    def spend(self, noise_multiplier: float, sampling_rate: float = 1.0, times: int = 1) -> None:
        """Enter releases that are about to be made.

        Args:
            noise_multiplier: z: the noise's standard deviation over the sensitivity.
            sampling_rate: the chance of each unit to take part.
            times: so many alike, one entry.

        Raises:
            BudgetSpentError: if they would pass the budget; then nothing is entered.
        """
        release = checked_release(noise_multiplier, sampling_rate, times)
        if not self.affords(*release):
            raise BudgetSpentError(
                f"epsilon is {self.epsilon:.3g}; {times} more would pass the budget of "
                f"{self.budget:g} (delta {self.delta:g})"
            )
        self.releases.append(release)

    def state(self) -> dict:
        """What has been spent, and under which promise: plain values, fit for JSON."""
        return self._promise() | {"releases": [list(release) for release in self.releases]}

    def restore(self, state: Mapping) -> None:
        """Go on from a saved ``state``.

        Raises:
            ValueError: if it was saved under another delta or accountant.
        """
        if not isinstance(state, Mapping) or not {"releases", *self._promise()} <= state.keys():
            raise ValueError(f"this is no ledger's state: {shown(state)}")
        promise = {name: state[name] for name in self._promise()}
        if promise != self._promise():
            raise ValueError(
                f"this state was saved with {promise}, but the ledger has {self._promise()}; "
                "epsilon would be wrong. Use the same settings"
            )
        self.releases = [checked_release(*row) for row in list(state["releases"])]

    def _promise(self) -> dict:
        return {"delta": self.delta, "accountant": self.accountant}
