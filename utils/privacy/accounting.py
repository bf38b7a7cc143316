"""What a privacy mechanism is worth: epsilon from noise, and noise for an epsilon.

Everything here is about the Gaussian mechanism on a sum to which each unit (a client, or a
record) contributes at most the clipping norm S, with noise of standard deviation z · S; z is
the noise multiplier. Two data sets are neighbours if one has one unit more than the other.
"""

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import dp_accounting
from dp_accounting import rdp
from dp_accounting.pld.privacy_loss_distribution import (
    PrivacyLossDistribution,
    from_gaussian_mechanism,
)

ACCOUNTANTS = ("pld", "rdp", "opacus-rdp", "opacus-prv")


def epsilon(
    noise_multiplier: float,
    sampling_rate: float,
    rounds: int,
    delta: float,
    accountant: str = "pld",
) -> float:
    """Epsilon after ``rounds`` releases, each on a Poisson sample of the units.

    Args:
        noise_multiplier: z ≥ 0; 0 gives infinity.
        sampling_rate: the chance with which each unit takes part in a round, independently
            of all others; 1 means no sampling, and no amplification by it.
        rounds: releases, at least 0.
        delta: the failure probability, between 0 and 1, well below 1 / number of units.
        accountant: ``"pld"``: privacy loss distributions, tight (Google's dp-accounting;
            without sampling, the exact value for the Gaussian mechanism);
            ``"rdp"``: Rényi DP, an upper bound from the same library; ``"opacus-rdp"`` and
            ``"opacus-prv"``: the same two ideas, independently, from Opacus.

    Raises:
        ValueError: for values out of range or an unknown accountant.
    """
    _check(noise_multiplier, sampling_rate, rounds, delta)
    if accountant not in ACCOUNTANTS:
        raise ValueError(f"accountant is {accountant!r}; choose one of: {', '.join(ACCOUNTANTS)}")
    if rounds == 0 or sampling_rate == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    if accountant == "pld" and sampling_rate == 1:
        return gaussian_epsilon(noise_multiplier, delta, rounds)
    if accountant == "pld":
        return _pld_epsilon(noise_multiplier, sampling_rate, rounds, delta)
    if accountant == "rdp":
        return _rdp_epsilon(noise_multiplier, sampling_rate, rounds, delta)
    return _opacus_epsilon(noise_multiplier, sampling_rate, rounds, delta, accountant)


@lru_cache(maxsize=4096)
def _pld_epsilon(noise_multiplier: float, sampling_rate: float, rounds: int, delta: float) -> float:
    all_rounds = _one_release(noise_multiplier, sampling_rate).self_compose(rounds)
    return float(all_rounds.get_epsilon_for_delta(delta))


@lru_cache(maxsize=32)  # the slow part, and the same for any number of rounds
def _one_release(noise_multiplier: float, sampling_rate: float) -> PrivacyLossDistribution:
    # losses spread like 1 / z²: little noise would take minutes on the library's grid of 1e-4;
    # a coarser one is still an upper bound
    grid = 1e-4 * max(1.0, 0.25 / noise_multiplier**2)
    return from_gaussian_mechanism(
        noise_multiplier, sampling_prob=sampling_rate, value_discretization_interval=grid
    )


def _rdp_epsilon(noise_multiplier: float, sampling_rate: float, rounds: int, delta: float) -> float:
    release = dp_accounting.GaussianDpEvent(noise_multiplier)
    if sampling_rate < 1:
        release = dp_accounting.PoissonSampledDpEvent(sampling_rate, release)
    book = rdp.RdpAccountant()
    with _quiet_orders():
        book.compose(release, rounds)
        return float(book.get_epsilon(delta))


def _opacus_epsilon(
    noise_multiplier: float, sampling_rate: float, rounds: int, delta: float, accountant: str
) -> float:
    from opacus.accountants import PRVAccountant, RDPAccountant  # takes seconds to import

    book = RDPAccountant() if accountant == "opacus-rdp" else PRVAccountant()
    book.history = [(noise_multiplier, sampling_rate, rounds)]
    with _quiet_orders():
        return float(book.get_epsilon(delta))


@contextmanager
def _quiet_orders() -> Iterator[None]:
    """RDP takes the best of many orders. Both libraries warn of orders that they leave out,
    or where the best is at the end of the list; the result is an upper bound all the same.
    """
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Optimal order is the")
            warnings.filterwarnings("ignore", category=RuntimeWarning, module="opacus")
            yield
    finally:
        logger.setLevel(before)


def noise_multiplier_for(
    target_epsilon: float,
    sampling_rate: float,
    rounds: int,
    delta: float,
    accountant: str = "pld",
) -> float:
    """The smallest noise multiplier whose ``epsilon`` is at most ``target_epsilon``.

    Arguments as for ``epsilon``; ``rounds`` at least 1. The result is at most 0.1% too large,
    never too small.

    Raises:
        ValueError: for values out of range, or a target that no noise up to 10,000 reaches.
    """
    _check(1.0, sampling_rate, rounds, delta)
    if not 0 < target_epsilon < math.inf:
        raise ValueError(f"target_epsilon is {target_epsilon}; it must be above 0, and finite")
    if rounds < 1 or sampling_rate == 0:
        raise ValueError(
            f"rounds={rounds}, sampling_rate={sampling_rate}: nothing is released, so any noise "
            "will do; ask for at least 1 round and a rate above 0"
        )
    return _smallest(
        lambda z: epsilon(z, sampling_rate, rounds, delta, accountant) <= target_epsilon,
        f"epsilon {target_epsilon} in {rounds} rounds",
    )


def _smallest(enough: Callable[[float], bool], what: str) -> float:
    """The smallest z for which ``enough`` holds, by bisection, to 0.1%, from above."""
    low, high = 0.0, 1.0
    while not enough(high):
        low, high = high, 2 * high
        if high > 10_000:
            raise ValueError(f"no noise multiplier up to 10,000 reaches {what}")
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def gaussian_sigma(target_epsilon: float, delta: float) -> float:
    """Noise multiplier of *one* release, exactly (analytic Gaussian mechanism).

    Balle and Wang 2018, arXiv:1805.06530. Right for every epsilon, where the textbook's
    sqrt(2 ln(1.25/δ)) / ε is proven for ε < 1 only, and wasteful there.
    """
    _check(1.0, 1.0, 1, delta)
    if not 0 < target_epsilon < math.inf:
        raise ValueError(f"target_epsilon is {target_epsilon}; it must be above 0, and finite")
    return float(dp_accounting.get_sigma_gaussian(target_epsilon, delta))


def gaussian_epsilon(noise_multiplier: float, delta: float, releases: int = 1) -> float:
    """Epsilon of ``releases`` without sampling, exactly: local DP, composed over rounds.

    ``releases`` Gaussian releases with multiplier z are together one with z / sqrt(releases).
    """
    _check(noise_multiplier, 1.0, releases, delta)
    if releases == 0:
        return 0.0
    return float(dp_accounting.get_epsilon_gaussian(noise_multiplier / math.sqrt(releases), delta))


def _check(noise_multiplier: float, sampling_rate: float, rounds: int, delta: float) -> None:
    if not 0 <= noise_multiplier < math.inf:
        raise ValueError(
            f"noise_multiplier is {noise_multiplier}; it must be at least 0, and finite"
        )
    if not 0 <= sampling_rate <= 1:
        raise ValueError(f"sampling_rate is {sampling_rate}; it must be between 0 and 1")
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 0:
        raise ValueError(f"rounds is {rounds!r}; it must be an integer of at least 0")
    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta}; it must be between 0 and 1, both excluded")
