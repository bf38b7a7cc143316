"""Distributed DP: whole-number noise, exactly drawn, a share of it at every client.

The sum of many clients' discrete Gaussians is as good as one (Kairouz, Liu and Steinke 2021,
arXiv:2102.06387); nobody ever sees a sum without it.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import mpmath
import numpy as np

from utils.arguments import MANY, function, number, whole_number

Bytes = Callable[[int], bytes]  # a source of so many random bytes
_DOUBT = 1e-10  # floats err by less; what is closer is decided exactly


def discrete_gaussian(variance: float, size: int, random: Bytes = os.urandom) -> np.ndarray:
    """Whole numbers x with probability proportional to exp(-x² / (2 · variance)), exactly.

    Canonne, Kamath and Steinke 2020, arXiv:2004.00010, Alg. 3: discrete Laplace, then
    rejection. A coin of chance exp(-g) compares the bits of a uniform number with those of
    exp(-g), as many as it takes: nearly always a float's do, else ``mpmath`` gives more. So no
    rounding of floats shapes the distribution, as it would for a rounded normal variate.

    Args:
        variance: σ², above 0.
        size: how many.
        random: where random bytes come from; by default the operating system, so that nobody
            can repeat them. A NumPy generator's ``bytes`` repeats.

    Returns:
        int64 ``(size,)``.

    Raises:
        ValueError: for values out of range.
    """
    variance = Fraction(number("variance", variance, above=0, most=1e17))
    size, scale = whole_number("size", size, 0, MANY), math.isqrt(math.floor(variance)) + 1
    function("random", random, "os.urandom")
    found, have = [np.empty(0, np.int64)], 0
    while have < size:
        count = int(1.6 * (size - have)) + 20
        y = _discrete_laplace(scale, count, random)

        def exponent(i: int, y: np.ndarray = y) -> Fraction:
            return (abs(int(y[i])) - variance / scale) ** 2 / (2 * variance)

        rough = (np.abs(y) - float(variance / scale)) ** 2 / (2 * float(variance))
        found.append(y[_coins(rough, exponent, random)])
        have += len(found[-1])
    return np.concatenate(found)[:size]


def _discrete_laplace(scale: int, count: int, random: Bytes) -> np.ndarray:
    """Whole numbers x with probability proportional to exp(-|x| / scale); ``count`` or fewer."""
    low = _below(scale, count, random)
    low = low[_coins(low / scale, lambda i: Fraction(int(low[i]), scale), random)]
    high = np.zeros(len(low), np.int64)
    going = np.arange(len(low))
    while len(going):
        going = going[_coins(np.ones(len(going)), lambda i: Fraction(1), random)]
        high[going] += 1
    x = low + scale * high
    negative = np.frombuffer(random(len(x)), np.uint8) % 2 == 1
    return np.where(negative, -x, x)[~(negative & (x == 0))]


def _below(limit: int, count: int, random: Bytes) -> np.ndarray:
    """Whole numbers from 0 to limit - 1, all alike; ``count`` of them."""
    drop, found, have = 64 - (limit - 1).bit_length() if limit > 1 else 64, [], 0
    if drop == 64:
        return np.zeros(count, np.int64)
    while have < count:
        drawn = np.frombuffer(random(16 * (count - have)), np.uint64) >> np.uint64(drop)
        found.append(drawn[drawn < limit].astype(np.int64))
        have += len(found[-1])
    return np.concatenate(found)[:count]


def _coins(rough: np.ndarray, exact: Callable[[int], Fraction], random: Bytes) -> np.ndarray:
    """Bool ``(n,)``: the i-th True with probability exp(-g), where ``rough[i]`` is near g and
    ``exact(i)`` is g."""
    first = np.frombuffer(random(8 * len(rough)), np.uint64) >> np.uint64(11)  # 53 bits
    uniform, chance = first * 2.0**-53, np.exp(-rough)
    heads = uniform < chance
    for i in np.flatnonzero(np.abs(uniform - chance) < _DOUBT):
        heads[i] = _coin(int(first[i]), 53, exact(int(i)), random)
    return heads


def _coin(drawn: int, bits: int, exponent: Fraction, random: Bytes) -> bool:
    """Whether a uniform number, whose first bits are drawn, is below exp(-exponent)."""
    if exponent == 0:
        return True
    while True:
        with mpmath.workprec(bits + 64):
            scaled = mpmath.exp(-mpmath.mpf(exponent.numerator) / exponent.denominator) * 2**bits
            place = int(mpmath.floor(scaled))
            clear = 2**-32 < scaled - place < 1 - 2**-32  # its floor is beyond doubt
        if drawn != place and (clear or abs(drawn - place) > 1):
            return drawn < place
        drawn, bits = (drawn << 64) | int.from_bytes(random(8), "little"), bits + 64


@dataclass(frozen=True)
class DistributedNoise:
    """What each client adds, so that the sum of all of them has noise multiplier z.

    Args:
        noise_multiplier: z of the sum, where ``clients`` clients took part; above 0.
        clipping_norm: S: the client cuts its update to this L2 norm first, in the units of an
            update.
        clients: whose noise makes up z; if fewer are left, it is less (``multiplier_of_sum``).

    Raises:
        ValueError: for values out of range.
    """

    noise_multiplier: float
    clipping_norm: float
    clients: int

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "clipping_norm"):
            object.__setattr__(self, name, number(name, getattr(self, name), above=0))
        object.__setattr__(self, "clients", whole_number("clients", self.clients, 1))

    @property
    def spread(self) -> float:
        """Standard deviation of the whole noise, rounding left aside, in units of an update."""
        return self.noise_multiplier * self.clipping_norm

    def variance(self, size: int, scale: float) -> float:
        """Of one client's noise, in steps: its share of (z · Δ)².

        Δ, the sensitivity in steps, is S · scale and √d more: rounding moves each of d numbers
        by less than one.
        """
        return (self.noise_multiplier * self._sensitivity(size, scale)) ** 2 / self.clients

    def _sensitivity(self, size: int, scale: float) -> float:
        """Δ: how far one client's update may move a sum, in steps."""
        size = whole_number("size", size, 0, MANY)
        return self.clipping_norm * number("scale", scale, above=0) + math.sqrt(size)

    def draw(self, size: int, scale: float) -> np.ndarray:
        """One client's noise, in steps, int64 ``(size,)``."""
        return discrete_gaussian(self.variance(size, scale), size)

    def multiplier_of_sum(self, survivors: int, size: int, scale: float) -> float:
        """The noise multiplier of the sum of so many clients, as an accountant takes it.

        By Theorem 1 of Kairouz et al. 2021: a sum of n discrete Gaussians of variance σ² is
        ½ e²-concentrated DP with e = min(√(Δ²/(nσ²) + τd/2), Δ/(√n σ) + τ√d) and
        τ = 10 Σ_{k<n} exp(-2π²σ² k/(k+1)); a Gaussian of noise multiplier 1 / e is that, too.
        Rényi DP follows, so use the accountant ``"rdp"``: nobody has proven that the tighter
        PLD of the Gaussian bounds the discrete one. From σ = 2 on, τ is below 10^-15.

        Args:
            survivors: whose noise is in the sum, at least 1: who dropped out took theirs along,
                and who looks at the sum knows their own.
            size: d.
            scale: steps per unit of an update; above 0.

        Raises:
            ValueError: for values out of range.
        """
        n = whole_number("survivors", survivors, 1, 10**6)
        variance, sensitivity = self.variance(size, scale), self._sensitivity(size, scale)
        tau = 10 * sum(math.exp(-2 * math.pi**2 * variance * k / (k + 1)) for k in range(1, n))
        ratio = sensitivity / math.sqrt(n * variance)
        return 1 / min(math.sqrt(ratio**2 + tau * size / 2), ratio + tau * math.sqrt(size))
