"""Attacks on what a federation releases, and how far each of them gets."""

from utils.attacks.audit import empirical_epsilon, empirical_mu
from utils.attacks.canaries import Canary, Planted, make_canaries, plant, secret_position
from utils.attacks.exposure import exposure_of_rank, measure_exposure, secret_losses
from utils.attacks.extraction import extractable, greedy_match, longest_match, sample_answers
from utils.attacks.inversion import (
    Likeness,
    compare_images,
    inputs_in_linear_gradient,
    invert_gradient,
)
from utils.attacks.members import Membership, log_odds, membership
from utils.attacks.membership_scores import score_cards

__all__ = [
    "Canary",
    "Likeness",
    "Membership",
    "Planted",
    "compare_images",
    "empirical_epsilon",
    "empirical_mu",
    "exposure_of_rank",
    "extractable",
    "greedy_match",
    "inputs_in_linear_gradient",
    "invert_gradient",
    "log_odds",
    "longest_match",
    "make_canaries",
    "measure_exposure",
    "membership",
    "plant",
    "sample_answers",
    "score_cards",
    "secret_losses",
    "secret_position",
]
