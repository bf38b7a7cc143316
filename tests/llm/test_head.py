"""The head: slice by slice it gives what all logits at once would."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from utils.llm import head, load_llm


def case(llm, n=7, scale=1.0):
    """States and wanted tokens; the vocabulary's first and last among them."""
    torch.manual_seed(2)
    weight = llm.base.get_output_embeddings().weight
    states = (scale * torch.randn(n, weight.shape[1])).to(weight.dtype).requires_grad_()
    wanted = torch.randint(0, len(weight), (n,))
    wanted[0], wanted[1] = 0, len(weight) - 1
    return states, wanted


@pytest.mark.parametrize("size", [4096, 1000, 10**6])
@pytest.mark.parametrize("scale", [1.0, 5000.0])
def test_losses_are_those_of_all_logits_at_once(tiny, monkeypatch, size, scale):
    monkeypatch.setattr(head, "_SLICE", size)
    states, wanted = case(tiny, scale=scale)
    expected = F.cross_entropy(head.logits(tiny, states), wanted, reduction="none")
    with torch.no_grad():
        measured = head.losses(tiny, states, wanted)
    assert torch.allclose(measured, expected, rtol=1e-5, atol=1e-4)


def test_in_bfloat16_losses_are_measured_in_float32():
    llm = load_llm(device="cpu", dtype=torch.bfloat16)
    states, wanted = case(llm, n=12)
    weight = llm.base.get_output_embeddings().weight.float()
    true = F.cross_entropy(F.linear(states.float(), weight), wanted, reduction="none")
    with torch.no_grad():
        assert torch.allclose(head.losses(llm, states, wanted), true, rtol=1e-3, atol=1e-3)


def test_costs_of_several_tokens_are_their_negative_log_probabilities(tiny):
    states, wanted = case(tiny)
    several = torch.stack([wanted, wanted.flip(0), torch.full_like(wanted, 4096)], dim=1)
    expected = -head.logits(tiny, states).log_softmax(dim=1).gather(1, several)
    costs = head.costs(tiny, states, several)
    assert not costs.requires_grad
    assert torch.allclose(costs, expected, atol=1e-4)


def test_a_trained_head_gets_its_gradient_too(tiny):
    tiny.model.lm_head.weight.requires_grad_(True)
    states, wanted = case(tiny)
    head.losses(tiny, states, wanted).sum().backward()
    assert tiny.model.lm_head.weight.grad.norm() > 0
    assert states.grad.norm() > 0


def test_a_head_with_a_bias_counts_it(tiny):
    states, wanted = case(tiny)
    tiny.model.lm_head.bias = nn.Parameter(torch.randn(49152), requires_grad=False)
    expected = F.cross_entropy(tiny.model.lm_head(states), wanted, reduction="none")
    assert torch.allclose(head.losses(tiny, states, wanted), expected, atol=1e-4)
    assert torch.allclose(head.costs(tiny, states, wanted[:, None])[:, 0], expected, atol=1e-4)
