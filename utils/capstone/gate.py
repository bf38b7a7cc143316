"""The clinics' gate: what leaves a clinic under a promise, and the count of what that spends.

Both run in the scorer's process, out of an entry's reach.
"""

import math
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from utils.federation import update_of
from utils.privacy import add_noise, clip, gaussian_epsilon

Arrays = Mapping[str, np.ndarray]


def guarded(
    received: Arrays,
    trained: Iterable[Arrays],
    max_norm: float,
    noise_multiplier: float,
    registered: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """What a clinic's patients made of the model, so that none of them can be noticed.

    Each patient's change is clipped to S; their sum gets noise of standard deviation z · S, is
    divided by the clinic's registered number of records, which is public, and added to what was
    received: the Gaussian mechanism on one patient (Abadi et al. 2016, arXiv:1607.00133,
    without sampling).

    Args:
        received: the model's arrays, all of floats.
        trained: the same arrays after each patient's training.
        max_norm: S, above 0.
        noise_multiplier: z, at least 0.
        registered: records of the clinic.
        rng: of the noise.

    Raises:
        ValueError: if a patient's arrays are not like those received, or not finite.
    """
    total = {name: np.zeros(values.shape) for name, values in received.items()}
    for arrays in trained:
        for name, change in clip(update_of(received, arrays), max_norm)[0].items():
            total[name] += change
    noisy = add_noise(total, noise_multiplier * max_norm, rng)
    return {
        name: (values + noisy[name] / registered).astype(np.float32)
        for name, values in received.items()
    }


def shares(groups: Sequence[Sequence[int]]) -> dict[int, float]:
    """By how many clipping norms S each patient can change a clinic's sum.

    Args:
        groups: for each update in the sum, the patients whose records it was made from.

    Returns:
        By patient: 1 for each update that is made from this patient's records alone; 2 for each
        that others' records are in, too: without the patient it may point anywhere else.
    """
    found: dict[int, float] = defaultdict(float)
    for group in groups:
        for patient in set(group):
            found[patient] += 1.0 if len(set(group)) == 1 else 2.0
    return dict(found)


class PatientLedger:
    """What each patient has spent, over all clinics and rounds.

    Gaussian releases compose exactly: a patient who can change release i by k_i norms S under
    noise z_i is as well hidden as in one release with noise multiplier 1 / sqrt(Σ (k_i / z_i)²).
    No amplification by sampling is counted: the server chooses who takes part, and is not trusted.

    Args:
        delta: of the promise.
        most: the ε that may not be passed.
    """

    def __init__(self, delta: float, most: float) -> None:
        self.delta, self.most = delta, most
        self._spent: Counter = Counter()  # Σ (k / z)² by patient
        self._lock = threading.Lock()

    def spend(self, by_patient: Mapping[int, float], noise_multiplier: float) -> float:
        """Enter a release before it is made; the ε of the patient who has spent most.

        Raises:
            ValueError: if that would pass the promise; then nothing is entered.
        """
        with self._lock:
            after = {p: self._spent[p] + (k / noise_multiplier) ** 2 for p, k in by_patient.items()}
            worst = max([*after.values(), *self._spent.values()], default=0.0)
            epsilon = self._epsilon(worst)
            if epsilon > self.most * (1 + 1e-6):
                most = max(by_patient.values())
                times = f" (a patient stands in it {most:g} times)" if most > 1 else ""
                raise ValueError(
                    f"it would spend ε = {epsilon:.2f} of a patient{times}, and its settings "
                    f"promise {self.most:g}"
                )
            self._spent.update({p: new - self._spent[p] for p, new in after.items()})
        return epsilon

    @property
    def epsilon(self) -> float:
        """Of the patient who has spent most; 0 before any release."""
        return self._epsilon(max(self._spent.values(), default=0.0))

    def _epsilon(self, squares: float) -> float:
        return gaussian_epsilon(1 / math.sqrt(squares), self.delta) if squares else 0.0
