"""The terms that server and clients agree on beforehand, and numbers as integers modulo 2^k."""

import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

import numpy as np

from utils.arguments import MANY, number, shown, whole_number
from utils.privacy.secure_aggregation.discrete_gaussian import DistributedNoise
from utils.privacy.secure_aggregation.keys import WORDS


@dataclass(frozen=True)
class Terms:
    """What one secure sum promises. Client and server hold the same; a client that is told
    other terms refuses.

    A client's update u (trained minus received), times its weight w, becomes whole numbers:
    round(scale · w · u), up or down at random so that the error is zero on average. The scale
    is the largest with which the sum of ``max_clients`` such numbers stays below 2^(bits-1) in
    size: it cannot overflow.

    Args:
        clip: every number of an update is cut to [-clip, clip] first; above 0.
        max_clients: the most clients in one sum.
        max_weight: the largest weight of a client, a whole number; 1: all weigh the same, and
            what they report as their weight is ignored.
        bits: k, 16 or 32; what a number costs on the wire.
        threshold: a secret is given back by more than this share of those that hold its
            shares; at least 1/2, or else a server could get both secrets of a client by telling
            its holders different tales; below 1, or else nobody may drop out.
        neighbours: with how many others a client shares masks (SecAgg+), even; None: with all.
        min_clients: a client takes no part in a sum of fewer holders, itself counted.
        noise: what each client adds (distributed DP); None: none.

    Raises:
        ValueError: for values out of range, or too few bits for so many clients.
    """

    clip: float
    max_clients: int
    max_weight: int = 1
    bits: int = 32
    threshold: float = 2 / 3
    neighbours: int | None = None
    min_clients: int = 3
    noise: DistributedNoise | None = None

    def __post_init__(self) -> None:
        plain = {"clip": number("clip", self.clip, above=0)}
        plain["min_clients"] = whole_number("min_clients", self.min_clients, 3, MANY)
        plain["max_clients"] = whole_number("max_clients", self.max_clients, self.min_clients)
        plain["max_weight"] = whole_number("max_weight", self.max_weight, 1)
        plain["threshold"] = number("threshold", self.threshold, least=0.5, below=1)
        if not isinstance(self.bits, Integral) or self.bits not in WORDS:
            raise ValueError(f"bits is {shown(self.bits)}; it must be 16 or 32")
        plain["bits"] = int(self.bits)
        if self.noise is not None and not isinstance(self.noise, DistributedNoise):
            raise ValueError(
                f"noise is {shown(self.noise)}; it must be DistributedNoise(…) or None"
            )
        if self.neighbours is not None:
            plain["neighbours"] = whole_number("neighbours", self.neighbours, 2)
        for name, value in plain.items():  # NumPy's numbers too are Python's from here on
            object.__setattr__(self, name, value)
        if self.neighbours is not None and self.neighbours % 2:
            raise ValueError(
                f"neighbours is {self.neighbours}; it must be even: half on either side"
            )
        if self.noise is not None and (self.max_weight, self.bits) != (1, 32):
            raise ValueError(
                f"max_weight is {self.max_weight} and bits is {self.bits} under noise; they must "
                "be 1 and 32: the noise is measured for clients that weigh the same, and 16 bits "
                "have no room for it without rotating the update first"
            )
        room = self._room // self.max_clients
        if room < max(self.max_weight, 2):
            raise ValueError(
                f"{self.bits} bits leave each of {self.max_clients:,} clients {room:,} steps, too "
                f"few for a weight of up to {self.max_weight:,}; take 32 bits, or lower "
                "max_clients or max_weight"
            )

    @property
    def _room(self) -> int:
        """The largest size that a sum may have."""
        return 2 ** (self.bits - 1) - 1

    @cached_property
    def scale(self) -> float:
        """Steps per unit of a weighted update."""
        if self.noise is None:
            return self._room // self.max_clients / (self.clip * self.max_weight)
        spread = self.noise.spread  # of the sum's noise, in units of the update
        return (self._room - 2 * self.max_clients) / (self.max_clients * self.clip + _TAIL * spread)

    @property
    def step(self) -> float:
        """The size of one step, in units of a weighted update."""
        return 1 / self.scale

    def needed(self, holders: int) -> int:
        """How many of so many holders give a secret back."""
        holders = whole_number("holders", holders, 1, MANY)
        return math.floor(self.threshold * holders + 1e-9) + 1

    def holders(self, clients: int) -> int:
        """Who holds shares of a client's secrets: its neighbours and itself."""
        clients = whole_number("clients", clients, 1, MANY)
        return clients if self.neighbours is None else min(clients, self.neighbours + 1)

    def encode(self, update: np.ndarray, weight: int) -> np.ndarray:
        """Whole numbers modulo 2^bits: the weighted update, and the weight behind it.

        Args:
            update: ``(d,)``, finite, in the units of an update.
            weight: a whole number from 1 to ``max_weight``.

        Returns:
            ``(d + 1,)``, unsigned integers of so many bits.
        """
        scaled = np.clip(update, -self.clip, self.clip).astype(np.float64) * (weight * self.scale)
        steps = np.floor(scaled + np.random.random(scaled.shape)).astype(np.int64)
        if self.noise is None:
            most = self._room // self.max_clients  # rounding of floats could pass it by one
            steps = np.clip(steps, -most, most)
        else:
            steps += self.noise.draw(len(steps), self.scale)
        return np.append(steps, weight).astype(WORDS[self.bits])  # modulo: the low bits stay

    def decode(self, total: np.ndarray, clients: int) -> tuple[np.ndarray, int]:
        """The weighted mean of the updates, float64 ``(d,)``, and the sum of the weights.

        Args:
            total: the sum of what so many clients encoded, modulo 2^bits, ``(d + 1,)``.
            clients: how many.

        Raises:
            ValueError: if the weights' sum is impossible, because a client did not keep to the
                protocol.
        """
        signed = total.view(np.dtype(f"<i{self.bits // 8}"))
        weight = int(signed[-1])
        if not clients <= weight <= clients * self.max_weight:
            raise ValueError(
                f"the sum of {clients} clients' weights came out as {weight:,}, where "
                f"{clients:,} to {clients * self.max_weight:,} is possible: a client sent "
                "something else than the protocol asks for, and the sum is worthless"
            )
        return signed[:-1].astype(np.float64) / (self.scale * weight), weight

    def error_bound(self, clients: int, weight: int) -> float:
        """How far a mean may be from that of the clipped updates: a step a client, at most."""
        clients = whole_number("clients", clients, 1, MANY)
        return clients * self.step / whole_number("weight", weight, 1, MANY)


_TAIL = 12  # standard deviations of the sum's noise that fit: beyond lies 1 draw in 10^32
