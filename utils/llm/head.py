"""A model's head: from hidden states to what tokens cost, the vocabulary slice by slice.

All logits of a thousand tokens are 200 MB. To get that much memory and to go through it several
times takes longer than to compute them: where they are only measured, a slice is there at a time.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from utils.hardware import products_of_bfloat16
from utils.llm.model import LLM

_SLICE = 4096  # words that are looked at together


def logits(llm: LLM, states: torch.Tensor) -> torch.Tensor:
    """All logits, float32 ``(n, vocabulary)``. Without gradients they are computed so as well:

    bfloat16 has steps of a sixteenth at a logit of 16, and whole groups of answers would tie.
    """
    if torch.is_grad_enabled():
        return llm.base.get_output_embeddings()(states).float()
    return _measured(llm, states, slice(None))


def _measured(llm: LLM, states: torch.Tensor, words: slice) -> torch.Tensor:
    head = llm.base.get_output_embeddings()
    bias = None if head.bias is None else head.bias[words].float()
    with products_of_bfloat16(states.dtype == head.weight.dtype == torch.bfloat16):
        return F.linear(states.float(), head.weight[words].float(), bias)


@torch.no_grad()
def costs(llm: LLM, states: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Cross-entropy (nats) of k tokens after each of n states, without gradients, in float32.

    Args:
        llm: the model.
        states: ``(n, width)``.
        wanted: int64 ``(n, k)``.

    Returns:
        float32 ``(n, k)``.
    """
    totals, own = [], states.new_zeros(wanted.shape, dtype=torch.float32)
    for words in _slices(llm):
        part = _measured(llm, states, words)
        totals.append(part.logsumexp(dim=1))
        own += _of(part, wanted, words)
    return torch.stack(totals).logsumexp(dim=0)[:, None] - own


def losses(llm: LLM, states: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Cross-entropy (nats) of the token after each state, float32 ``(n,)``.

    With gradients, unless they are switched off.
    """
    if torch.is_grad_enabled():
        return F.cross_entropy(logits(llm, states), wanted, reduction="none")
    return costs(llm, states, wanted[:, None])[:, 0]


def _slices(llm: LLM) -> Iterator[slice]:
    vocabulary = llm.base.get_output_embeddings().weight.shape[0]
    return (slice(a, min(a + _SLICE, vocabulary)) for a in range(0, vocabulary, _SLICE))


def _of(part: torch.Tensor, wanted: torch.Tensor, words: slice) -> torch.Tensor:
    """The logits of those tokens that are in this slice, zero for others."""
    here = (wanted >= words.start) & (wanted < words.stop)
    return part.gather(1, wanted.clamp(words.start, words.stop - 1) - words.start) * here
