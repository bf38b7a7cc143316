"""Attacks on an update: read the images that a client trained on out of what it sent."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from utils.arguments import list_of, number, shown, whole_number
from utils.data.tensors import whole_labels
from utils.learning.evaluation import check_labels, evaluation_mode, logits_of


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
        ValueError: if the shapes do not belong together, or a number is not finite.
    """
    weight, bias = _tensors("weight and bias", (weight, bias))
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise ValueError(
            f"shapes are {tuple(weight.shape)} and {tuple(bias.shape)}; expected the weights' "
            "(units, inputs) and the biases' (units,)"
        )
    if not weight.isfinite().all() or not bias.isfinite().all():
        raise ValueError("weight or bias is not finite: no input can be read from such a gradient")
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
        ValueError: if the gradient does not fit the model, or is zero or not finite; or another
            argument is out of range.
    """
    low, high = _pixel_range(low, high)
    steps, lr = whole_number("steps", steps, 1), number("lr", lr, above=0)
    smoothness = number("smoothness", smoothness, least=0)
    shape = [
        whole_number("a length in shape", length, 1)
        for length in list_of("shape", shape, "lengths")
    ]
    if len(shape) != 3:
        raise ValueError(
            f"shape is {shape}; it must be that of one image: channels, height and width"
        )
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is {shown(model)}; it must be a torch.nn.Module")
    parameters = list(model.parameters())
    wanted = [tuple(p.shape) for p in parameters]
    gradient = _tensors("gradient", gradient)
    if [tuple(g.shape) for g in gradient] != wanted:
        raise ValueError(
            f"the gradient's shapes are {[tuple(g.shape) for g in gradient]}; the model's "
            f"parameters have {wanted}"
        )
    target = torch.cat([g.detach().flatten() for g in gradient])
    if not target.isfinite().all() or not target.any():
        raise ValueError("the gradient is zero or not finite: there is nothing to match")
    target = target / target.norm()
    labels = whole_labels(labels).to(target.device)
    if not len(labels):
        raise ValueError("labels are empty; at least one label is needed, one an image")
    images = (low + (high - low) * torch.rand(len(labels), *shape)).to(target).requires_grad_()
    with evaluation_mode(model):
        check_labels(labels, classes=logits_of(model, images).shape[1])
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


def _tensors(name: str, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    many = isinstance(values, Iterable) and getattr(values, "ndim", 1) > 0
    values = list(values) if many else [values]
    for value in values:
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{name}: {shown(value)} is among them; all must be tensors")
    return values


def _pixel_range(low: float, high: float) -> tuple[float, float]:
    low = number("low", low)
    return low, number("high", high, above=low)


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
        ValueError: if the images differ in shape, or fewer are recovered than there were; if
            they have colours, or sides below 7 pixels; or a pixel is not finite.
    """
    low, high = _pixel_range(low, high)
    recovered, originals = _tensors("recovered and originals", (recovered, originals))
    shapes = f"{tuple(recovered.shape)} recovered and {tuple(originals.shape)} original images"
    if recovered.shape[1:] != originals.shape[1:] or not 1 <= len(originals) <= len(recovered):
        raise ValueError(f"{shapes}: they need one shape, and at least as many recovered")
    if originals.ndim != 4 or originals.shape[1] != 1 or min(originals.shape[2:]) < 7:
        raise ValueError(
            f"{shapes}: they must be (n, 1, height, width), of 7 pixels or more a side"
        )
    if not recovered.isfinite().all() or not originals.isfinite().all():
        raise ValueError(f"{shapes}: some pixels are NaN or infinite")
    found, true = (
        ((images - low) / (high - low)).clamp(0, 1)[:, 0].detach().double().cpu().numpy()
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
