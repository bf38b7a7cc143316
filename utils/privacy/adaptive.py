"""A clipping norm that follows a quantile of the updates' lengths, privately."""

import math

import numpy as np

from utils.arguments import number


class AdaptiveNorm:
    """Adaptive clipping (Andrew et al. 2021, arXiv:1905.03871).

    After each round the server counts the updates that it did not have to clip, adds noise,
    and moves S up or down until the target share is left unclipped. The server counts for
    itself, and takes no client's word. (A client that clips itself sends length S: that counts
    as clipped.)

    Args:
        value: S, in the units of an update; above 0.
        target_quantile: the share to leave unclipped, between 0 and 1; None: S stays.
        rate: how fast S moves, 0.2 in that paper.
        count_noise: standard deviation of the noise on the count; by default a twentieth of
            the expected cohort. It is paid for by more noise on the updates, so that z stays
            the noise multiplier of the whole release.

    Raises:
        ValueError: for values out of range.
    """

    _CLIPPED = 0.999  # of S: rounding on the way moves a length by less

    def __init__(
        self,
        value: float,
        target_quantile: float | None = None,
        rate: float = 0.2,
        count_noise: float | None = None,
    ) -> None:
        self.value = number("clipping_norm", value, above=0)
        self.target, self.count_noise = target_quantile, count_noise
        if target_quantile is not None:
            self.target = number("target_quantile", target_quantile, above=0, below=1)
        if count_noise is not None:
            self.count_noise = number("count_noise", count_noise, above=0)
        self.rate = number("adaptation_rate", rate, above=0)

    def is_unclipped(self, norm: float) -> bool:
        """Whether an update that arrived with this length was left as it is."""
        return norm <= self._CLIPPED * self.value

    def update_noise(self, noise_multiplier: float, expected: float) -> float:
        """The noise multiplier of the sum, raised to pay for the count (their Theorem 1).

        Args:
            noise_multiplier: z of the whole release.
            expected: clients in a cohort.

        Raises:
            ValueError: if the count alone would spend more than the whole release may.
        """
        if self.target is None or noise_multiplier == 0:
            return noise_multiplier
        rest = noise_multiplier**-2 - (2 * self._noise(expected)) ** -2
        if rest <= 0:
            raise ValueError(
                f"count_noise is {self._noise(expected):.3g}: with a noise multiplier of "
                f"{noise_multiplier} it must be above {noise_multiplier / 2:.3g}, or the count "
                "alone would spend more than the whole release may; raise it, or use more clients"
            )
        return rest**-0.5

    def adapt(self, unclipped: int, counted: int, expected: float, *, private: bool) -> None:
        """Move S toward the target quantile.

        Args:
            unclipped: updates left as they were.
            counted: updates in all; both are private, and enter as unclipped - counted / 2.
            expected: clients in a cohort.
            private: add noise to the count.
        """
        if self.target is None:
            return
        noise = np.random.normal(0.0, self._noise(expected)) if private else 0.0
        share = (unclipped - counted / 2 + noise) / expected + 0.5
        self.value *= math.exp(self.rate * (self.target - share))  # too few unclipped: S grows

    def _noise(self, expected: float) -> float:
        return self.count_noise or max(expected / 20, 1e-9)
