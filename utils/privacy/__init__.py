"""Differential privacy for federated learning: the mechanism, and what it is worth."""

from utils.privacy.accounting import (
    ACCOUNTANTS,
    Release,
    epsilon,
    epsilon_of,
    gaussian_epsilon,
    gaussian_sigma,
    noise_multiplier_for,
)
from utils.privacy.dp_fedavg import DPFedAvg
from utils.privacy.ledger import BudgetSpentError, Ledger
from utils.privacy.local_dp import clip_update, local_dp
from utils.privacy.mechanism import add_noise, clip, l2_norm

__all__ = [
    "ACCOUNTANTS",
    "BudgetSpentError",
    "DPFedAvg",
    "Ledger",
    "Release",
    "add_noise",
    "clip",
    "clip_update",
    "epsilon",
    "epsilon_of",
    "gaussian_epsilon",
    "gaussian_sigma",
    "l2_norm",
    "local_dp",
    "noise_multiplier_for",
]
