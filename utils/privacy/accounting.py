"""What a privacy mechanism is worth: epsilon from noise, and noise for an epsilon.

Everything here is about the Gaussian mechanism on a sum to which each unit (a client, or a
record) contributes at most the clipping norm S, with noise of standard deviation z · S; z is
the noise multiplier. Two data sets are neighbours if one has one unit more than the other.
"""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from utils.arguments import MANY, list_of, number, one_of, shown, whole_number

if TYPE_CHECKING:  # dp_accounting takes a second to import, so functions do it
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution


class Release(NamedTuple):
    """So many releases alike: noise multiplier z, chance to take part, how often."""

    noise_multiplier: float
    sampling_rate: float = 1.0
    times: int = 1


def checked_release(noise_multiplier: float, sampling_rate: float, times: int) -> Release:
    """A release of plain numbers within their limits.

    Raises:
        ValueError: naming what is out of range.
    """
    return Release(
        number("noise_multiplier", noise_multiplier, least=0),
        number("sampling_rate", sampling_rate, least=0, most=1),
        whole_number("rounds", times, 0, MANY),
    )


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

    Returns:
        Epsilon, at least 0.

    Raises:
        ValueError: for values out of range, an unknown accountant, or one that cannot tell.
    """
    return epsilon_of([Release(noise_multiplier, sampling_rate, rounds)], delta, accountant)


def epsilon_of(releases: Sequence[Release], delta: float, accountant: str = "pld") -> float:
    """Epsilon of different releases together; otherwise as ``epsilon``."""
    releases = list_of("releases", releases, "releases")
    for release in releases:
        if not isinstance(release, tuple | list) or len(release) != 3:
            raise ValueError(f"one of releases is {shown(release)}; it must be a Release(z, q, n)")
        checked_release(*release)
    number("delta", delta, above=0, below=1)
    account = _ACCOUNTS[one_accountant(accountant)]
    counted: dict[tuple[float, float], int] = {}
    for z, q, times in releases:
        if times and q:
            counted[z, q] = counted.get((z, q), 0) + times
    if any(z == 0 for z, _ in counted):
        return math.inf
    alike = tuple(Release(z, q, times) for (z, q), times in sorted(counted.items()))
    return max(0.0, account(alike, delta)) if alike else 0.0


def one_accountant(name: str) -> str:
    """The name, if it is one of ``ACCOUNTANTS``.

    Raises:
        ValueError: if not.
    """
    return one_of("accountant", name, ACCOUNTANTS)


@lru_cache(maxsize=4096)
def _pld_epsilon(releases: tuple[Release, ...], delta: float) -> float:
    if all(r.sampling_rate == 1 for r in releases):
        return _unsampled_epsilon(releases, delta)
    # losses spread like 1 / z²: little noise would take minutes on the library's grid of 1e-4;
    # a coarser one is still an upper bound
    grid = 1e-4 * max(1.0, 0.25 / min(r.noise_multiplier for r in releases) ** 2)
    total = None
    try:
        for z, q, times in releases:
            part = _one_release(z, q, grid).self_compose(times)
            total = part if total is None else total.compose(part)
    except OverflowError:  # hardly any noise: epsilon is in the millions, and sampling no help
        return _unsampled_epsilon(releases, delta)
    return float(total.get_epsilon_for_delta(delta))


def _unsampled_epsilon(releases: tuple[Release, ...], delta: float) -> float:
    """As if all took part each time, which is no less: together one Gaussian release, exact."""
    import dp_accounting

    z = sum(r.times / r.noise_multiplier**2 for r in releases) ** -0.5
    return float(dp_accounting.get_epsilon_gaussian(z, delta))


@lru_cache(maxsize=32)  # the slow part, and the same for any number of rounds
def _one_release(z: float, sampling_rate: float, grid: float) -> "PrivacyLossDistribution":
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    return from_gaussian_mechanism(
        z, sampling_prob=sampling_rate, value_discretization_interval=grid
    )


def _rdp_epsilon(releases: tuple[Release, ...], delta: float) -> float:
    import dp_accounting
    from dp_accounting import rdp

    book = rdp.RdpAccountant()
    with _quiet_orders():
        for z, q, times in releases:
            event = dp_accounting.GaussianDpEvent(z)
            book.compose(dp_accounting.PoissonSampledDpEvent(q, event) if q < 1 else event, times)
        return float(book.get_epsilon(delta))


def _opacus_epsilon(kind: str, releases: tuple[Release, ...], delta: float) -> float:
    from opacus import accountants  # takes seconds to import

    book = getattr(accountants, kind)()
    book.history = [tuple(release) for release in releases]
    with _quiet_orders():
        try:
            found, why = float(book.get_epsilon(delta)), "infinity for a finite loss"
        except RuntimeError as error:
            found, why = math.inf, str(error)  # "Discrete mean differs significantly from …"
    if math.isinf(found):
        raise ValueError(
            f"Opacus' {kind} cannot tell epsilon for (z, sampling rate, rounds) = "
            f"{[tuple(release) for release in releases]}: its grid is too coarse for such a loss "
            f"({why}). Use the accountant 'pld'"
        )
    return found


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
    checked_release(1.0, sampling_rate, rounds)
    number("target_epsilon", target_epsilon, above=0)
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
    import dp_accounting

    number("delta", delta, above=0, below=1)
    number("target_epsilon", target_epsilon, above=0)
    return float(dp_accounting.get_sigma_gaussian(target_epsilon, delta))


def gaussian_epsilon(noise_multiplier: float, delta: float, releases: int = 1) -> float:
    """Epsilon of ``releases`` without sampling, exactly: local DP, composed over rounds.

    ``releases`` Gaussian releases with multiplier z are together one with z / sqrt(releases).
    """
    return epsilon_of([Release(noise_multiplier, 1.0, releases)], delta)


_ACCOUNTS = {
    "pld": _pld_epsilon,
    "rdp": _rdp_epsilon,
    "opacus-rdp": partial(_opacus_epsilon, "RDPAccountant"),
    "opacus-prv": partial(_opacus_epsilon, "PRVAccountant"),
}
ACCOUNTANTS = tuple(_ACCOUNTS)
