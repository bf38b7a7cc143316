"""DP-FedAvg: federated averaging with client-level differential privacy."""

import math
import random
from collections.abc import Iterable
from logging import WARNING

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from utils.federation.records import as_arrays, as_record
from utils.privacy.accounting import epsilon
from utils.privacy.local_dp import CLIP_KEY, INSIDE_KEY
from utils.privacy.mechanism import add_noise, clip


class DPFedAvg(Strategy):
    """DP-FedAvg (McMahan et al. 2018, arXiv:1710.06963) with a trusted server.

    Each round, every client takes part with the same chance, independently of all others
    (Poisson sampling). Its update, the trained weights minus the global model, is clipped to
    the norm S by the server, whether or not the client did so itself. The sum gets Gaussian
    noise of standard deviation z · S and is divided by the *expected* number of clients,
    q · N; an update that is not finite, or not of the model's shapes, is left out. So a client
    moves the sum by at most S, whatever it does, and the guarantee holds: (epsilon, delta)-DP
    for the presence of one client, against whoever sees the released models.

    All clients weigh the same: weights by examples would break the bound. What clients report
    besides weights is not private, and is dropped.

    Args:
        noise_multiplier: z, at least 0 (0: no privacy, for comparison).
        clipping_norm: S, in the units of an update; the first S, where it adapts.
        sampling_rate: q, above 0, at most 1.
        population: N, the number of clients that may take part, which is public; by default
            those connected in the first round. It stays the same from then on.
        delta: of the guarantee; well below 1 / number of clients.
        budget: stop before epsilon passes it; None: only keep the ledger.
        accountant: as for ``utils.privacy.epsilon``.
        target_quantile: adapt S, so that this share of updates is left unclipped (Andrew et
            al. 2021, arXiv:1905.03871); None: S stays. The clients' mod must be
            ``clip_update``, or the server counts for them.
        adaptation_rate: how fast S moves, 0.2 in that paper.
        count_noise: standard deviation of the noise on the count of unclipped updates; by
            default a twentieth of the expected cohort. It is paid for by more noise on the
            updates, so that z stays the noise multiplier of the whole release.
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
        if not 0 < clipping_norm < math.inf:
            raise ValueError(f"clipping_norm is {clipping_norm}; it must be above 0, and finite")
        if not 0 < sampling_rate <= 1:
            raise ValueError(f"sampling_rate is {sampling_rate}; it must be above 0, at most 1")
        if population is not None and population < 1:
            raise ValueError(f"population is {population}; it must be at least 1, or None")
        if budget is not None and not budget > 0:
            raise ValueError(f"budget is {budget}; it must be above 0, or None")
        if target_quantile is not None and not 0 < target_quantile < 1:
            raise ValueError(f"target_quantile is {target_quantile}; it must be between 0 and 1")
        if count_noise is not None and not 0 < count_noise < math.inf:
            raise ValueError(f"count_noise is {count_noise}; it must be above 0, and finite")
        epsilon(noise_multiplier, sampling_rate, 0, delta, accountant)  # checks the rest
        self.noise_multiplier, self.clipping_norm = noise_multiplier, clipping_norm
        self.sampling_rate, self.delta, self.accountant = sampling_rate, delta, accountant
        self.population = population
        self.budget, self.target_quantile = budget, target_quantile
        self.adaptation_rate, self.count_noise = adaptation_rate, count_noise
        self._released: list[dict[str, float]] = []
        self._global: dict[str, np.ndarray] = {}
        self._expected: float | None = None  # clients in a cohort; None: the budget is spent

    @property
    def ledger(self) -> list[dict[str, float]]:
        """One entry a round that was released: its number, clipping norm, and epsilon so far."""
        return [
            entry | {"epsilon": self.epsilon_after(released)}
            for released, entry in enumerate(self._released, 1)
        ]

    def epsilon_after(self, rounds: int) -> float:
        """Epsilon of that many rounds with this strategy's noise and sampling."""
        return epsilon(
            self.noise_multiplier, self.sampling_rate, rounds, self.delta, self.accountant
        )

    def state(self) -> dict:
        """What has been spent, and the current clipping norm: plain values, fit for JSON."""
        return {
            "promise": self._promise(),
            "clipping_norm": self.clipping_norm,
            "population": self.population,
            "released": [dict(entry) for entry in self._released],
        }

    def restore(self, state: dict) -> None:
        """Go on from a saved ``state``.

        Raises:
            ValueError: if it was saved under other privacy settings.
        """
        if state["promise"] != self._promise():
            raise ValueError(
                f"this state was saved with {state['promise']}, but the strategy has "
                f"{self._promise()}; epsilon would be wrong. Use the same settings"
            )
        self.clipping_norm, self.population = state["clipping_norm"], state["population"]
        self._released = [dict(entry) for entry in state["released"]]

    def _promise(self) -> dict[str, float]:
        names = ("noise_multiplier", "sampling_rate", "delta", "accountant")
        return {name: getattr(self, name) for name in names}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Draw a Poisson sample of the clients, unless one more round would pass the budget."""
        self._expected = None
        if self.budget is not None and self.epsilon_after(len(self._released) + 1) > self.budget:
            return []
        nodes = sorted(grid.get_node_ids())
        self.population = self.population or len(nodes)
        self._expected = self.sampling_rate * self.population
        self._global = as_arrays(arrays)
        settings = {"server-round": server_round, CLIP_KEY: self.clipping_norm}
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
        total = {name: np.zeros(w.shape, np.float64) for name, w in self._global.items()}
        inside = 0.0
        for reply in replies:
            if reply.has_error():
                continue
            try:
                clipped, norm = clip(self._update(reply), self.clipping_norm)
            except ValueError as error:
                log(WARNING, "Client %s left out: %s", reply.metadata.src_node_id, error)
                continue
            total = {name: total[name] + clipped[name] for name in total}
            inside += self._is_inside(reply, norm) - 0.5
        noisy = add_noise(total, self._update_noise() * self.clipping_norm)
        averaged = {
            name: (w + noisy[name] / self._expected).astype(w.dtype)
            for name, w in self._global.items()
        }
        entry = {"round": server_round, "clipping-norm": self.clipping_norm}
        self._released.append(entry)
        self._adapt(inside)
        return as_record(averaged), MetricRecord(entry)

    def _update(self, reply: Message) -> dict[str, np.ndarray]:
        """What a client's training changed.

        Raises:
            ValueError: if it did not send the model's arrays.
        """
        shapes = {name: w.shape for name, w in self._global.items()}
        for record in reply.content.array_records.values():
            trained = as_arrays(record)
            if {name: w.shape for name, w in trained.items()} == shapes:
                return {name: trained[name] - w for name, w in self._global.items()}
        raise ValueError(f"no record of its reply holds arrays of the model's shapes, {shapes}")

    def _is_inside(self, reply: Message, norm: float) -> bool:
        """Whether the update was left unclipped: by the client's word, or by its length."""
        for metrics in reply.content.metric_records.values():
            if INSIDE_KEY in metrics:
                return bool(metrics[INSIDE_KEY])
        return norm <= self.clipping_norm

    def _count_noise(self) -> float:
        return self.count_noise or max(self._expected / 20, 1e-9)

    def _update_noise(self) -> float:
        """The noise multiplier of the sum, raised to pay for the count (Andrew et al., Thm 1)."""
        if self.target_quantile is None or self.noise_multiplier == 0:
            return self.noise_multiplier
        rest = self.noise_multiplier**-2 - (2 * self._count_noise()) ** -2
        if rest <= 0:
            raise ValueError(
                f"count_noise is {self._count_noise():.3g}: with a noise multiplier of "
                f"{self.noise_multiplier} it must be above {self.noise_multiplier / 2:.3g}, or the "
                "count alone would spend more than the whole release may; raise it, or use more "
                "clients"
            )
        return rest**-0.5

    def _adapt(self, inside: float) -> None:
        """Move the clipping norm toward the target quantile."""
        if self.target_quantile is not None:
            noise = np.random.normal(0.0, self._count_noise() if self.noise_multiplier else 0.0)
            share = (inside + noise) / self._expected + 0.5
            move = self.adaptation_rate * (self.target_quantile - share)
            self.clipping_norm *= math.exp(move)  # too few inside: S grows

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
