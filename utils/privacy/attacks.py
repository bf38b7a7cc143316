"""Attacks on what a federation releases, and how far each of them got.

Read an image out of an update, tell members from strangers, and bound epsilon from below.
Scores are NumPy vectors, one number an example or a trial; higher means "was in".
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from scipy.stats import beta, bootstrap, mannwhitneyu
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn


def inputs_in_linear_gradient(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """What a linear layer's gradient says of its inputs: dL/dW divided by dL/db, by unit.

    For one example, each row of dL/dW is the input times that row's dL/db, so each row of the
    quotient *is* the input (Phong et al. 2017, IACR ePrint 2017/715). For several, it is a mean
    of the inputs for which the unit was active, weighted by their share in dL/db. The same
    holds for an update by one step or several.

    Args:
        weight: gradient or update of the weights, ``(units, inputs)``.
        bias: the same of the biases, ``(units,)``.

    Returns:
        Inputs ``(active units, inputs)``: rows of units with a zero bias gradient are left out.

    Raises:
        ValueError: if the shapes do not belong together.
    """
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise ValueError(
            f"shapes are {tuple(weight.shape)} and {tuple(bias.shape)}; expected the weights' "
            "(units, inputs) and the biases' (units,)"
        )
    active = bias != 0
    return weight[active] / bias[active, None]


def invert_gradient(
    model: nn.Module,
    gradient: Sequence[torch.Tensor],
    labels: torch.Tensor,
    shape: Sequence[int],
    *,
    low: float = 0.0,
    high: float = 1.0,
    steps: int = 300,
    lr: float = 0.1,
    smoothness: float = 0.01,
) -> torch.Tensor:
    """Images whose gradient points where the observed one does, found by optimization.

    Starts from noise and minimizes 1 - cosine similarity, plus the images' total variation
    (Geiping et al. 2020, arXiv:2003.14053; the idea is that of Deep Leakage from Gradients,
    Zhu et al. 2019, arXiv:1906.08935). Only the gradient's direction matters, so an update
    divided by anything will do. Draws from torch's global generator.

    Args:
        model: the model that was sent, maps images to logits; left as it is.
        gradient: of the mean cross-entropy, one tensor for each of ``model.parameters()``.
        labels: of the images, int64 ``(n,)``; with a cross-entropy they can often be read
            from the last layer's gradient (Zhao et al. 2020, arXiv:2001.02610).
        shape: of one image, ``(channels, height, width)``.
        low, high: range of pixel values.
        steps: of Adam; its learning rate falls to a tenth after 3/8, 5/8 and 7/8 of them.
        lr: Adam's first learning rate, in units of ``high - low``.
        smoothness: weight of the total variation.

    Returns:
        Images ``(n, *shape)``, in no particular order within a label.

    Raises:
        ValueError: if the gradient does not fit the model, or is zero or not finite.
    """
    parameters = list(model.parameters())
    wanted = [tuple(p.shape) for p in parameters]
    if [tuple(g.shape) for g in gradient] != wanted:
        raise ValueError(
            f"the gradient's shapes are {[tuple(g.shape) for g in gradient]}; the model's "
            f"parameters have {wanted}"
        )
    target = torch.cat([g.detach().flatten() for g in gradient])
    if not target.isfinite().all() or not target.any():
        raise ValueError("the gradient is zero or not finite: there is nothing to match")
    target = target / target.norm()
    images = (low + (high - low) * torch.rand(len(labels), *shape)).requires_grad_()
    optimizer = torch.optim.Adam([images], lr=lr * (high - low))
    falls = [steps * eighths // 8 for eighths in (3, 5, 7)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, falls, gamma=0.1)
    for _ in range(steps):
        loss = F.cross_entropy(model(images), labels)
        guess = torch.autograd.grad(loss, parameters, create_graph=True)
        cosine = F.cosine_similarity(torch.cat([g.flatten() for g in guess]), target, dim=0)
        rough = images.diff(dim=-1).abs().mean() + images.diff(dim=-2).abs().mean()
        cost = 1 - cosine + smoothness * rough / (high - low)
        (images.grad,) = torch.autograd.grad(cost, images)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            images.clamp_(low, high)
    return images.detach()


class Likeness(NamedTuple):
    """How like their originals recovered images are, one entry an original.

    ``best``: which recovered image is compared; ``psnr``: peak signal-to-noise ratio in dB,
    infinite for an exact copy; ``ssim``: structural similarity, 1 for an exact copy, around 0
    for noise.
    """

    best: np.ndarray
    psnr: np.ndarray
    ssim: np.ndarray


def compare_images(
    recovered: torch.Tensor, originals: torch.Tensor, *, low: float = 0.0, high: float = 1.0
) -> Likeness:
    """Match each original with one recovered image, by structural similarity, and compare.

    Args:
        recovered: images ``(m, 1, height, width)``, m ≥ n.
        originals: images ``(n, 1, height, width)``.
        low, high: range of pixel values, mapped to 0 … 1; what lies outside is clamped.

    Raises:
        ValueError: if the images differ in shape, or fewer are recovered than there were.
    """
    if recovered.shape[1:] != originals.shape[1:] or len(recovered) < len(originals):
        raise ValueError(
            f"{tuple(recovered.shape)} recovered cannot be matched with {tuple(originals.shape)} "
            "originals: same image shape and at least as many are needed"
        )
    found, true = (
        ((images - low) / (high - low)).clamp(0, 1)[:, 0].double().numpy()
        for images in (recovered, originals)
    )
    ssim = np.array([[structural_similarity(t, f, data_range=1) for f in found] for t in true])
    _, best = linear_sum_assignment(-ssim)
    with np.errstate(divide="ignore"):  # an exact copy has infinite PSNR
        psnr = [
            peak_signal_noise_ratio(t, found[b], data_range=1)
            for t, b in zip(true, best, strict=True)
        ]
    return Likeness(best, np.array(psnr), ssim[np.arange(len(true)), best])


def log_odds(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """How sure a classifier is of the true label: log(p / (1 - p)), float64 ``(n,)``.

    The score of Carlini et al. 2022 (arXiv:2112.03570): unlike the loss it does not pile up at
    zero, so that differences between models mean something. Calibrate it by subtracting its
    mean over reference models that have never seen the examples.

    Args:
        logits: ``(n, classes)``.
        labels: int64 ``(n,)``.
    """
    logits, column = logits.detach().double(), labels[:, None]
    others = logits.scatter(1, column, -math.inf).logsumexp(dim=1)
    return (logits.gather(1, column)[:, 0] - others).numpy()


class Membership(NamedTuple):
    """How well members can be told from strangers; intervals are 95%.

    ``auc``: the chance that a member scores higher than a stranger, 0.5 is guessing;
    ``tpr``: the share of members found when at most 1% of strangers are accused, or what other
    false-positive rate was asked for.
    """

    auc: float
    auc_interval: tuple[float, float]
    tpr: float
    tpr_interval: tuple[float, float]


def membership(
    members: np.ndarray, strangers: np.ndarray, resamples: int = 500, *, fpr: float = 0.01
) -> Membership:
    """Success of a membership inference attack, from its scores; intervals by bootstrap.

    With few strangers the TPR is a little too high, and its interval too: for 1%, it covers the
    truth in about 80% of cases with 100 strangers, in about 90% with 400.

    Args:
        members: scores of examples that were trained on.
        strangers: scores of examples from the same distribution that were not.
        resamples: of the bootstrap, whose draws come from a fixed seed of its own.
        fpr: share of strangers that may be accused, at least 0, below 1.

    Raises:
        ValueError: if there are fewer than 20 of either, a score is NaN, or fpr is out of range.
    """
    members, strangers = _scores(members, strangers)
    if not 0 <= fpr < 1:
        raise ValueError(f"fpr is {fpr}; the share of strangers accused is at least 0, below 1")
    result = []
    for statistic in (_auc, partial(_tpr, fpr=fpr)):
        interval = bootstrap(
            (members, strangers),
            statistic,
            n_resamples=resamples,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        result += [statistic(members, strangers), (float(interval.low), float(interval.high))]
    return Membership(*result)


def _auc(members: np.ndarray, strangers: np.ndarray) -> float:
    # the bootstrap asks for it a thousand times, and roc_auc_score is three times as slow
    u = mannwhitneyu(members, strangers, method="asymptotic").statistic
    return float(u / (len(members) * len(strangers)))


def _tpr(members: np.ndarray, strangers: np.ndarray, fpr: float) -> float:
    # so many strangers may score above the threshold; 0.29 * 100 is a little less than 29
    allowed = int(fpr * len(strangers) + 1e-9)
    return float((members > np.sort(strangers)[-1 - allowed]).mean())


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
    inside, outside = _scores(with_canary, without)
    if not 0 <= delta < 1 or not 0 < confidence < 1:
        raise ValueError(f"delta={delta}, confidence={confidence}: both lie between 0 and 1")
    halves = (inside[::2], outside[::2]), (inside[1::2], outside[1::2])
    first, second = [pair + tuple(-scores for scores in pair[::-1]) for pair in halves]
    candidates = []
    for side in (0, 2):  # "was in" above a threshold, or "was not" below one
        hits, alarms = first[side], first[side + 1]
        for threshold in np.quantile(np.r_[hits, alarms], np.linspace(0, 1, 201)):
            bound = _epsilon_bound(hits > threshold, alarms > threshold, delta, confidence)
            candidates.append((bound, side, threshold))
    _, side, threshold = max(candidates)
    hits, alarms = second[side] > threshold, second[side + 1] > threshold
    return max(0.0, _epsilon_bound(hits, alarms, delta, confidence))


def _epsilon_bound(hits: np.ndarray, alarms: np.ndarray, delta: float, confidence: float) -> float:
    """From true and false positives, each with half of the chance to be wrong."""
    tail = (1 - confidence) / 2
    least = beta.ppf(tail, hits.sum(), (~hits).sum() + 1) if hits.any() else 0.0
    most = beta.ppf(1 - tail, alarms.sum() + 1, (~alarms).sum()) if not alarms.all() else 1.0
    return math.log((least - delta) / most) if least > delta else -math.inf


def _scores(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = np.asarray(inside, float), np.asarray(outside, float)
    for scores in both:
        if scores.ndim != 1 or len(scores) < 20 or np.isnan(scores).any():
            raise ValueError(
                f"scores of shape {scores.shape}: at least 20 numbers of either kind are "
                "needed, none of them NaN"
            )
    return both
