"""The Gaussian mechanism on model updates: clip to a norm, add noise.

An update is a set of named arrays, as a dictionary of NumPy arrays or a Flower ArrayRecord;
what goes in as one comes out as the same. All arrays together are one vector: *flat* clipping.
"""

import math
from collections.abc import Mapping
from numbers import Real

import numpy as np
from flwr.app import ArrayRecord

from utils.arguments import number, shown
from utils.federation.records import as_arrays, as_record

Update = Mapping[str, np.ndarray] | ArrayRecord


def l2_norm(update: Update) -> float:
    """L2 norm over all arrays together, computed in float64.

    Raises:
        ValueError: if the update holds NaN or infinity, or an array that is not of floats.
    """
    squares = 0.0
    for name, values in _arrays(update).items():
        if not np.issubdtype(values.dtype, np.floating):
            raise ValueError(
                f"'{name}' has dtype {values.dtype}; only floats can be clipped and noised. "
                "Keep counters and masks out of what is private"
            )
        if not np.isfinite(values).all():
            raise ValueError(
                f"'{name}' holds NaN or infinity: no clipping bounds what it would do to a sum"
            )
        squares += float(np.square(values, dtype=np.float64).sum())
    return math.sqrt(squares)


def clip(update: Update, max_norm: float) -> tuple[Update, float]:
    """Scale an update down to an L2 norm of at most ``max_norm``; leave shorter ones alone.

    min(1, S / norm) times the update, as in DP-FedAvg (McMahan et al. 2018, arXiv:1710.06963).
    The bound holds exactly, also after rounding to the arrays' own dtype. A zero update stays
    zero.

    Args:
        update: named arrays of floats, of any shapes.
        max_norm: the clipping norm S, in the units of the update; positive, may be infinite.

    Returns:
        The clipped update and its norm before clipping.

    Raises:
        ValueError: if ``max_norm`` is not positive, or the update not finite.
    """
    if not isinstance(max_norm, Real) or isinstance(max_norm, bool) or not max_norm > 0:
        raise ValueError(f"max_norm is {max_norm}; the clipping norm must be above 0")
    arrays, norm = _arrays(update), l2_norm(update)
    if norm <= max_norm:
        return _like(update, arrays), norm
    # rounding to the arrays' own dtype could lift the norm above the bound: aim a little lower
    coarsest = max(float(np.finfo(values.dtype).eps) for values in arrays.values())
    for slack in (0.0, coarsest, 2 * coarsest):
        factor = max_norm / norm * (1 - slack)
        clipped = {n: (v * factor).astype(v.dtype) for n, v in arrays.items()}
        if l2_norm(clipped) <= max_norm:
            break
    else:  # smaller than the dtype can resolve: nothing is within any bound
        clipped = {n: np.zeros_like(v) for n, v in arrays.items()}
    return _like(update, clipped), norm


def add_noise(update: Update, stddev: float, rng: np.random.Generator | None = None) -> Update:
    """Add independent Gaussian noise to every number.

    Args:
        update: named arrays of floats.
        stddev: standard deviation of the noise, in the units of the update; at least 0. For a
            sum of updates of norm at most S, noise multiplier z means z · S.
        rng: where the noise comes from; by default NumPy's global generator.

    Raises:
        ValueError: if ``stddev`` is negative or not finite, or the update not finite.
    """
    stddev = number("stddev", stddev, least=0)
    l2_norm(update)  # refuses what is not finite
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng is {shown(rng)}; it must be a NumPy generator: default_rng(seed)")
    normal = rng.normal if rng else np.random.normal
    noisy = {
        name: (values + normal(0.0, stddev, values.shape)).astype(values.dtype)
        for name, values in _arrays(update).items()
    }
    return _like(update, noisy)


def _arrays(update: Update) -> dict[str, np.ndarray]:
    if isinstance(update, ArrayRecord):
        return as_arrays(update)
    if not isinstance(update, Mapping):
        raise ValueError(
            f"the update is {shown(update)}; it must be arrays by name: a dictionary, or an "
            "ArrayRecord"
        )
    detached = {n: v.detach().cpu() if hasattr(v, "detach") else v for n, v in update.items()}
    return {name: np.asarray(values) for name, values in detached.items()}


def _like(update: Update, arrays: dict[str, np.ndarray]) -> Update:
    return as_record(arrays) if isinstance(update, ArrayRecord) else arrays
