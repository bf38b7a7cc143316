"""Differential privacy for federated learning: the mechanism, and what it is worth."""

from utils.privacy.accounting import (
    ACCOUNTANTS,
    epsilon,
    gaussian_epsilon,
    gaussian_sigma,
    noise_multiplier_for,
)
from utils.privacy.mechanism import add_noise, clip, l2_norm

__all__ = [
    "ACCOUNTANTS",
    "add_noise",
    "clip",
    "epsilon",
    "gaussian_epsilon",
    "gaussian_sigma",
    "l2_norm",
    "noise_multiplier_for",
]
