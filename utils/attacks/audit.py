"""Audit a private mechanism: a bound on epsilon from below, by attacking it."""

import numpy as np
from scipy.stats import beta

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
    inside, outside = checked_scores(with_canary, without)
    delta = number("delta", delta, least=0, below=1)
    confidence = number("confidence", confidence, above=0, below=1)
    halves = (inside[::2], outside[::2]), (inside[1::2], outside[1::2])
    first, second = [pair + tuple(-scores for scores in pair[::-1]) for pair in halves]
    candidates = []
    for side in (0, 2):  # "was in" above a threshold, or "was not" below one
        hits, alarms = first[side], first[side + 1]
        thresholds = np.quantile(np.r_[hits, alarms], np.linspace(0, 1, 201))
        bounds = _epsilon_bounds(hits, alarms, thresholds, delta, confidence)
        candidates += [(b, side, t) for b, t in zip(bounds, thresholds, strict=True)]
    _, side, threshold = max(candidates)
    (bound,) = _epsilon_bounds(second[side], second[side + 1], [threshold], delta, confidence)
    return max(0.0, float(bound))


def _epsilon_bounds(
    hits: np.ndarray, alarms: np.ndarray, thresholds: np.ndarray, delta: float, confidence: float
) -> np.ndarray:
    """By threshold: from true and false positives, each with half of the chance to be wrong."""
    tail = (1 - confidence) / 2
    found, accused = ((scores[:, None] > thresholds).sum(axis=0) for scores in (hits, alarms))
    least = beta.ppf(tail, found, len(hits) - found + 1)
    most = beta.ppf(1 - tail, accused + 1, len(alarms) - accused)
    least, most = np.where(found == 0, 0, least), np.where(accused == len(alarms), 1, most)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(least > delta, np.log((least - delta) / most), -np.inf)
