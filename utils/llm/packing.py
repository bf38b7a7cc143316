"""Texts read as one row: without padding, and what they begin with alike only once.

A batch of unlike lengths is padded to its longest text, and chats begin alike: of the tokens
that a step on eight patients' messages reads, a quarter need not be read. Attention alone is
computed text by text, each seeing itself only. (Until the pass is over, the model's
configuration says so: one thread at a time.)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from utils.llm.layers import Activations, below_adapters, first_adapted, through

_NAME = "text_by_text"


class Packing(NamedTuple):
    """Where texts stand in one row.

    ``places``: int64 ``(texts, longest)``, of each text's tokens in the row, 0 beyond its end;
    ``found``: int64 ``(row,)``, where each of the row's tokens is found first in ``places``, all
    texts in a line; ``depths``: int64 ``(row,)``, how many tokens stand before it in its text.
    """

    places: torch.Tensor
    found: torch.Tensor
    depths: torch.Tensor


def can_be_packed(body: nn.Module, longest: int) -> bool:
    """Whether all that a model does to a text, but attention, it does token by token.

    Not so where a layer is recurrent, or attention does not reach back over ``longest`` tokens.
    """
    window = getattr(body.config, "sliding_window", None) or longest
    return window >= longest and all(hasattr(layer, "self_attn") for layer in body.layers)


def pack(texts: Sequence[Sequence[int]], device: torch.device) -> Packing:
    """Lay texts, token ids each, into one row, every common beginning once."""
    longest = max(map(len, texts))
    place_of: dict[tuple[int, int], int] = {}  # by the place before a token, and the token
    places = torch.zeros((len(texts), longest), dtype=torch.int64)
    found, depths = [], []
    for number, text in enumerate(texts):
        place = -1
        for depth, token in enumerate(text):
            place = place_of.setdefault((place, token), len(found))
            if place == len(found):
                found.append(number * longest + depth)
                depths.append(depth)
            places[number, depth] = place
    row = torch.tensor([found, depths], device=device)
    return Packing(places.to(device), row[0], row[1])


def packed(
    body: nn.Module, activations: Activations, texts: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Last hidden states of texts, and where each text's are among them.

    Args:
        body: the model without its head.
        activations: the model's own.
        texts: token ids.

    Returns:
        States ``(n, width)``, of no two tokens the same that follow the same tokens; and places
        ``(texts, longest)`` among them, beyond a text's end without meaning.
    """
    packing = pack(texts, body.embed_tokens.weight.device)
    below = nn.utils.rnn.pad_sequence(below_adapters(body, activations, texts), batch_first=True)
    states = below.flatten(0, 1)[packing.found]
    upper = slice(first_adapted(body), None)
    with _text_by_text(body):
        row = through(body, upper, states[None], packing.depths[None], None, packing=packing)
    return row[0], packing.places


@contextmanager
def _text_by_text(body: nn.Module) -> Iterator[None]:
    """Within it, the model's attention takes a row of packed texts apart."""
    from transformers import AttentionInterface  # here, because it takes a second to import

    AttentionInterface.register(_NAME, _attend)
    before = body.config._attn_implementation
    body.config._attn_implementation = _NAME
    try:
        yield
    finally:
        body.config._attn_implementation = before


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    packing: Packing,
    **settings: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each text of a row: queries, keys, values ``(1, heads, n, size)``."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward  # as above

    texts, longest = packing.places.shape
    line = packing.places.flatten()

    def apart(vectors: torch.Tensor) -> torch.Tensor:
        """``(texts, heads, longest, size)``"""
        return vectors[0].index_select(1, line).unflatten(1, (texts, longest)).transpose(0, 1)

    seen, _ = sdpa_attention_forward(
        module, apart(query), apart(key), apart(value), attention_mask, **settings
    )
    return seen.flatten(0, 1).index_select(0, packing.found)[None], None
