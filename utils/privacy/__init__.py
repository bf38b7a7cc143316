"""Differential privacy for federated learning: the mechanism, and what it is worth."""

from utils.privacy.accounting import (
    ACCOUNTANTS,
    epsilon,
    gaussian_epsilon,
    gaussian_sigma,
    noise_multiplier_for,
)
from utils.privacy.mechanism import add_noise, clip, l2_norm
from utils.privacy.mods import clip_update, local_dp
from utils.privacy.strategy import DPFedAvg

__all__ = [
    "ACCOUNTANTS",
    "DPFedAvg",
    "add_noise",
    "clip",
    "clip_update",
    "epsilon",
    "gaussian_epsilon",
    "gaussian_sigma",
    "l2_norm",
    "local_dp",
    "noise_multiplier_for",
]
