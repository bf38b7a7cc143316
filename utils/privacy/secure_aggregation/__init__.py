"""Secure aggregation: the server learns the sum of all updates, and no single one."""

from utils.privacy.secure_aggregation.client import mask_update
from utils.privacy.secure_aggregation.discrete_gaussian import (
    DistributedNoise,
    discrete_gaussian,
)
from utils.privacy.secure_aggregation.messages import ProtocolError
from utils.privacy.secure_aggregation.neighbours import Enough, enough_neighbours
from utils.privacy.secure_aggregation.server import SecureAggregation
from utils.privacy.secure_aggregation.sums import TooFewClientsError
from utils.privacy.secure_aggregation.terms import Terms

__all__ = [
    "DistributedNoise",
    "Enough",
    "ProtocolError",
    "SecureAggregation",
    "Terms",
    "TooFewClientsError",
    "discrete_gaussian",
    "enough_neighbours",
    "mask_update",
]
