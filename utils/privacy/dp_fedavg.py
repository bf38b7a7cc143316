"""DP-FedAvg: federated averaging with client-level differential privacy."""

import random
from collections.abc import Iterable, Mapping

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from utils.arguments import MANY, number, shown, whole_number
from utils.federation import CheckedStrategy, apply_update, update_of
from utils.federation.records import as_arrays, as_record, only_record
from utils.privacy.adaptive import AdaptiveNorm
from utils.privacy.ledger import Ledger
from utils.privacy.local_dp import CLIP_KEY
from utils.privacy.mechanism import add_noise, clip


class DPFedAvg(CheckedStrategy):
    """DP-FedAvg (McMahan et al. 2018, arXiv:1710.06963) with a trusted server.

    Each round, every client takes part with the same chance, independently of all others
    (Poisson sampling). Its update, the trained weights minus the global model, is clipped to
    the norm S by the server, whether or not the client did so itself. The sum gets Gaussian
    noise of standard deviation z · S and is divided by the *expected* number of clients,
    q · N. So a client moves the sum by at most S, whatever it does, and the guarantee holds:
    (epsilon, delta)-DP for the presence of one client, against whoever sees the released
    models.

    All clients weigh the same: weights by examples would break the bound. What clients report
    besides weights is not private, and is dropped. Integer buffers (BatchNorm's counter) stay
    as the server has them: they are public.

    Args:
        noise_multiplier: z, at least 0 (0: no privacy, for comparison).
        clipping_norm: S, in the units of an update; the first S, where it adapts.
        sampling_rate: q, above 0, at most 1.
        population: N, the number of clients that may take part, which is public; by default
            those connected in the first round. It stays the same from then on.
        delta: of the guarantee; well below 1 / number of clients.
        budget: stop before epsilon passes it; None: only keep the ledger.
        accountant: as for ``utils.privacy.epsilon``.
        target_quantile: adapt S, so that this share of updates is left unclipped; None: S stays.
            See ``AdaptiveNorm``.
        adaptation_rate: how fast S moves.
        count_noise: standard deviation of the noise on the count of unclipped updates.
    """

    def __init__(
        self,
        *,
        noise_multiplier: float,
        clipping_norm: float,
        sampling_rate: float,
        delta: float,
        population: int | None = None,
        budget: float | None = None,
        accountant: str = "pld",
        target_quantile: float | None = None,
        adaptation_rate: float = 0.2,
        count_noise: float | None = None,
    ) -> None:
        self.noise_multiplier = number("noise_multiplier", noise_multiplier, least=0)
        self.sampling_rate = number("sampling_rate", sampling_rate, above=0, most=1)
        if population is not None:
            population = whole_number("population", population, 1, MANY)
        self.population = population
        self.norm = AdaptiveNorm(clipping_norm, target_quantile, adaptation_rate, count_noise)
        self.accounts = Ledger(delta, budget=budget, accountant=accountant, units=population)
        self._released: list[dict[str, float]] = []  # beside the ledger: which round, which norm
        self._global: dict[str, np.ndarray] = {}
        self._expected: float | None = None  # clients in a cohort; None: the budget is spent

    @property
    def clipping_norm(self) -> float:
        """S, as it stands."""
        return self.norm.value

    @property
    def ledger(self) -> list[dict[str, float]]:
        """One entry a round that was released: its number, clipping norm, and epsilon so far."""
        return [
            entry | {"epsilon": self.accounts.epsilon_after(released)}
            for released, entry in enumerate(self._released, 1)
        ]

    def state(self) -> dict:
        """What has been spent, and the current clipping norm: plain values, fit for JSON."""
        return {
            "noise": self._noise(),
            "accounts": self.accounts.state(),
            "clipping_norm": self.norm.value,
            "population": self.population,
            "released": [dict(entry) for entry in self._released],
        }

    def restore(self, state: Mapping) -> None:
        """Go on from a saved ``state``.

        Raises:
            ValueError: if it was saved under other privacy settings.
        """
        if not isinstance(state, Mapping) or not self.state().keys() <= state.keys():
            raise ValueError(f"this is no state of a DPFedAvg: {shown(state)}")
        if state["noise"] != self._noise():
            raise ValueError(
                f"this state was saved with {state['noise']}, but the strategy has "
                f"{self._noise()}; epsilon would be wrong. Use the same settings"
            )
        self.accounts.restore(state["accounts"])
        self.norm.value, self.population = state["clipping_norm"], state["population"]
        self._released = [dict(entry) for entry in state["released"]]

    def _noise(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("noise_multiplier", "sampling_rate")}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Draw a Poisson sample of the clients, unless one more round would pass the budget."""
        self._expected = None
        if not self.accounts.affords(self.noise_multiplier, self.sampling_rate):
            return []
        nodes = sorted(grid.get_node_ids())
        if self.population is None:
            self.population = len(nodes)
            self.accounts.protects(self.population)
        self._expected = self.sampling_rate * self.population
        self._global = as_arrays(arrays)
        settings = {"server-round": server_round, CLIP_KEY: self.norm.value}
        content = RecordDict({"arrays": arrays, "config": ConfigRecord({**config, **settings})})
        cohort = [node for node in nodes if random.random() < self.sampling_rate]
        return [Message(content, node, message_type="train") for node in cohort]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Clip each update, sum, add noise, divide by the expected cohort; write the ledger.

        A round without any reply is a release too: of noise.
        """
        if self._expected is None:
            return None, None
        floats = {n: w for n, w in self._global.items() if np.issubdtype(w.dtype, np.floating)}
        total = {name: np.zeros(w.shape, np.float64) for name, w in floats.items()}
        unclipped, counted = 0, 0
        for reply in replies:
            if reply.has_error():
                continue
            _, record = only_record(reply.content, "a client's reply")
            clipped, norm = clip(update_of(self._global, as_arrays(record)), self.norm.value)
            total = {name: total[name] + clipped[name] for name in total}
            unclipped += self.norm.is_unclipped(norm)
            counted += 1
        multiplier = self.norm.update_noise(self.noise_multiplier, self._expected)
        entry = {"round": server_round, "clipping-norm": self.norm.value}
        self.accounts.spend(self.noise_multiplier, self.sampling_rate)  # before it is released
        self._released.append(entry)
        noisy = add_noise(total, multiplier * self.norm.value)
        mean = {name: noisy[name] / self._expected for name in noisy}
        self.norm.adapt(unclipped, counted, self._expected, private=self.noise_multiplier > 0)
        return as_record(apply_update(self._global, mean)), MetricRecord(entry)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """No evaluation by clients: what they would report is not private."""
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Nothing was asked."""
        return None

    def summary(self) -> None:
        """Nothing to log: the ledger says it all."""
