"""Audit a private mechanism: a bound on what it promises from below, by attacking it."""

from collections.abc import Callable

import numpy as np
from scipy.stats import beta, norm

from utils.arguments import number
from utils.attacks.members import checked_scores


def empirical_epsilon(
    with_canary: np.ndarray, without: np.ndarray, delta: float, confidence: float = 0.95
) -> float:
    """A lower bound on epsilon: an attack that does better than epsilon allows refutes it.

    (epsilon, delta)-DP bounds every test of "was the canary in?": its true positives by
    e^epsilon × false positives + delta, and the other way round. The best threshold is chosen
    on the first half of the trials, and judged on the second with Clopper–Pearson intervals
    (Jagielski et al. 2020, arXiv:2006.07709; Nasr et al. 2021, arXiv:2101.04535). With n
    trials of each kind it cannot exceed about ln(n / 7), however leaky the mechanism.

    Args:
        with_canary: scores of independent trials with the canary in, in random order.
        without: the same without it.
        delta: of the guarantee under test.
        confidence: that the bound holds.

    Returns:
        The bound, at least 0. A mechanism whose claimed epsilon is below it is broken.

    Raises:
        ValueError: if there are fewer than 20 trials of either kind, or a value is out of range.
    """
    delta = number("delta", delta, least=0, below=1)

    def bound(least: np.ndarray, most: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(least > delta, np.log((least - delta) / most), -np.inf)

    return _best_bound(with_canary, without, bound, confidence)


def empirical_mu(with_canary: np.ndarray, without: np.ndarray, confidence: float = 0.95) -> float:
    """A lower bound on μ: an audit by shape, which needs far fewer trials than epsilon's.

    A mechanism is μ-Gaussian-DP if telling "with" from "without" is at least as hard as telling
    N(μ, 1) from N(0, 1) (Dong, Roth, Su 2019, arXiv:1905.02383). One Gaussian release with noise
    multiplier z is 1/z-Gaussian-DP. Then at *every* threshold Φ⁻¹(true positives) minus
    Φ⁻¹(false positives) is at most μ, also in the middle, where trials are plenty; epsilon shows
    at the rare end (Nasr et al. 2023, arXiv:2302.07956). The threshold is chosen on the first
    half of the trials, and judged on the second with Clopper–Pearson intervals.

    It refutes a claim of μ, whatever the mechanism. Read as an epsilon, by
    ``gaussian_epsilon(1 / mu, delta)``, it also assumes that the shape is Gaussian.

    Args:
        with_canary: scores of independent trials with the canary in, in random order.
        without: the same without it.
        confidence: that the bound holds.

    Returns:
        The bound, at least 0. A mechanism whose claimed μ is below it is broken.

    Raises:
        ValueError: if there are fewer than 20 trials of either kind, or a value is out of range.
    """
    return _best_bound(
        with_canary, without, lambda least, most: norm.ppf(least) - norm.ppf(most), confidence
    )


def _best_bound(
    with_canary: np.ndarray,
    without: np.ndarray,
    bound: Callable[[np.ndarray, np.ndarray], np.ndarray],
    confidence: float,
) -> float:
    """The best threshold on the first half of the trials, judged on the second.

    ``bound`` makes of the least true positives and the most false ones what is to be bounded.
    """
    inside, outside = checked_scores(with_canary, without)
    confidence = number("confidence", confidence, above=0, below=1)
    halves = (inside[::2], outside[::2]), (inside[1::2], outside[1::2])
    first, second = [pair + tuple(-scores for scores in pair[::-1]) for pair in halves]
    candidates = []
    for side in (0, 2):  # "was in" above a threshold, or "was not" below one
        hits, alarms = first[side], first[side + 1]
        thresholds = np.quantile(np.r_[hits, alarms], np.linspace(0, 1, 201))
        bounds = bound(*_rates(hits, alarms, thresholds, confidence))
        candidates += [(b, side, t) for b, t in zip(bounds, thresholds, strict=True)]
    _, side, threshold = max(candidates)
    (found,) = bound(*_rates(second[side], second[side + 1], [threshold], confidence))
    return max(0.0, float(found))


def _rates(
    hits: np.ndarray, alarms: np.ndarray, thresholds: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """The least true and the most false positives, each with half of the chance to be wrong."""
    tail = (1 - confidence) / 2
    found, accused = ((scores[:, None] > thresholds).sum(axis=0) for scores in (hits, alarms))
    least = beta.ppf(tail, found, len(hits) - found + 1)
    most = beta.ppf(1 - tail, accused + 1, len(alarms) - accused)
    return np.where(found == 0, 0, least), np.where(accused == len(alarms), 1, most)
