"""A model's layers, run in two parts: the frozen ones below the lowest adapter, and the rest.

What comes out of the frozen part for a text never changes. It is computed once and kept, at
about 2.3 kB a token (576 numbers of 4 bytes; the bundled model).
"""

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from uuid import uuid4

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

MOST_TOKENS = 200_000  # whose activations are kept, the latest: about 460 MB
_TEXTS, _TOKENS = 4, 64  # of a batch that is read below the adapters


class Activations:
    """Kept activations by text, of one depth and one state of the frozen weights.

    They are checked at each use: with another lowest adapter, or other frozen weights, all are
    forgotten. (Adapters that are switched off for a while leave the part below them as it is.)
    """

    def __init__(self) -> None:
        self.by_text: dict[tuple, torch.Tensor] = {}
        self.made_with: tuple = ()
        self.name = uuid4().hex  # in all processes

    def clear(self) -> None:
        """Free the memory."""
        self.by_text.clear()

    def of(self, frozen: tuple) -> dict[tuple, torch.Tensor]:
        """What is kept for this state of the frozen layers; the oldest beyond the limit go."""
        if frozen != self.made_with:
            self.clear()
            self.made_with = frozen
        tokens = sum(len(states) for states in self.by_text.values())
        while tokens > MOST_TOKENS:
            tokens -= len(self.by_text.pop(next(iter(self.by_text))))
        return self.by_text


_received: dict[tuple, Activations] = {}  # of the last model that came from another process


def kept_here(sender: tuple, frozen: tuple) -> Activations:
    """What this process has kept for a model that came from another one.

    It comes anew with each run, its frozen weights at another address: what was kept for the
    same weights is still right.

    Args:
        sender: which model it is there, and the state of its frozen weights.
        frozen: the state of the frozen weights here, just received.
    """
    if sender not in _received:
        _received.clear()
        _received[sender] = Activations()
    _received[sender].made_with = frozen
    return _received[sender]


def frozen_state(body: nn.Module) -> tuple:
    """The number of frozen layers below the lowest adapter, and the state of their weights."""
    depth = first_adapted(body)
    parameters = [p for layer in body.layers[:depth] for p in layer.parameters()]
    return depth, *((p.data_ptr(), p._version) for p in parameters)


def first_adapted(body: nn.Module) -> int:
    """The number of the lowest layer with adapters or trained weights; 0 if there are none."""
    if any(p.requires_grad for p in body.embed_tokens.parameters()):
        return 0
    for number, layer in enumerate(body.layers):
        if any(p.requires_grad or "lora_" in name for name, p in layer.named_parameters()):
            return number
    return 0


def hidden(
    body: nn.Module,
    activations: Activations,
    rows: Sequence[Sequence[int]],
    positions: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Last hidden states ``(rows, longest, width)``; beyond a row's end without meaning.

    Args:
        body: the model without its head.
        activations: the model's own.
        rows: token ids.
        positions: int64 ``(1, n)``, by default 0, 1, 2, …
        mask: bool ``(1, 1, n, n)``, true where a token (row) sees another (column); by default
            each sees itself and what comes before it, so padding on the right disturbs nobody.
    """
    below = below_adapters(body, activations, rows, positions, mask)
    states = nn.utils.rnn.pad_sequence(below, batch_first=True)
    return through(body, slice(first_adapted(body), None), states, positions, mask)


def below_adapters(
    body: nn.Module,
    activations: Activations,
    rows: Sequence[Sequence[int]],
    positions: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> list[torch.Tensor]:
    """What comes out of the frozen layers for each row, ``(tokens, width)``: read, or kept.

    Where no layer is frozen, the tokens' embeddings. Arguments as for ``hidden``.
    """
    depth, device = first_adapted(body), body.embed_tokens.weight.device

    def lower(some: Sequence[Sequence[int]], length: int) -> torch.Tensor:
        ids = [[*row, *[0] * (length - len(row))] for row in some]
        states = body.embed_tokens(torch.tensor(ids, device=device))
        return through(body, slice(depth), states, positions, mask) if depth else states

    longest = max(map(len, rows))
    if not depth:
        return [own[: len(row)] for own, row in zip(lower(rows, longest), rows, strict=True)]
    kept = activations.of(frozen_state(body))
    seen = b"" if mask is None else hashlib.blake2s(mask.cpu().numpy().tobytes()).digest()
    keys = [(tuple(row), seen) for row in rows]  # a mask implies its positions
    new = {key: row for key, row in zip(keys, rows, strict=True) if key not in kept}

    def keep(some: Sequence[tuple], length: int, filled: int = 0) -> None:
        filling = [new[some[0]]] * (filled - len(some))
        with torch.no_grad():
            states = lower([*(new[key] for key in some), *filling], length)
        for key, own in zip(some, states, strict=False):
            kept[key] = own[: len(new[key])].clone()  # or the padded batch would be kept

    if device.type == "cuda" and new:
        keep(list(new), longest)
    elif mask is not None:
        _side_by_side(keep, [([key], len(row)) for key, row in new.items()])
    else:
        _side_by_side(keep, list(_alike(new)))
    return [kept[key] for key in keys]


def _alike(texts: Mapping[tuple, Sequence[int]]) -> Iterator[tuple[list[tuple], int, int]]:
    """Batches of one shape, 4 texts of 64 tokens (2 of 128, 1 of more): texts, length, number.

    A batch that has fewer is filled. The last bits of a text depend on the shape that it is read
    in, so it may not depend on what there is to read; on one thread, they depend on nothing else.
    """
    by_length: dict[int, list[tuple]] = {}
    for key, row in texts.items():
        by_length.setdefault(-(-len(row) // _TOKENS) * _TOKENS, []).append(key)
    for length, keys in by_length.items():
        size = max(1, _TEXTS * _TOKENS // length)
        for start in range(0, len(keys), size):
            yield keys[start : start + size], length, size


def _side_by_side(keep: Callable[..., None], batches: Sequence[tuple]) -> None:
    """Read batches on a CPU, each on one thread, as many at a time as torch has threads."""
    threads = torch.get_num_threads()
    settings = {"initializer": torch.set_num_threads, "initargs": (1,)}
    try:
        with ThreadPoolExecutor(max(1, min(threads, len(batches))), **settings) as pool:
            list(pool.map(lambda batch: keep(*batch), batches))  # raises what a reading raised
    finally:
        torch.set_num_threads(threads)  # the pool's setting is every later thread's too


def through(
    body: nn.Module,
    which: slice,
    states: torch.Tensor,
    positions: torch.Tensor | None,
    mask: torch.Tensor | None,
    **further: object,
) -> torch.Tensor:
    """Some of the layers: the model itself, seen as one that has only these.

    ``further`` goes to their attention.
    """
    view = copy.copy(body)
    view._modules = dict(body._modules)
    view.layers = body.layers[which]
    view.config = copy.copy(body.config)
    view.config.num_hidden_layers = len(view.layers)
    if which.stop is not None:
        view.norm = nn.Identity()  # it comes after the last layer
    settings = {"position_ids": positions, "attention_mask": mask, "use_cache": False}
    with _attention(states):
        return view(inputs_embeds=states, **settings, **further).last_hidden_state


def _attention(states: torch.Tensor) -> AbstractContextManager:
    """How attention is computed: torch's own choice, but for bfloat16 on a CPU.

    Its fused kernel is slow there. In bfloat16, its gradient took ten times as long as the forward
    pass, and 30% of a training step; in float32 with products of bfloat16
    (``products_of_bfloat16``), it took ten times as long as without. With plain matrix products a
    step takes three quarters of the time.
    """
    slow = states.dtype == torch.bfloat16 and torch.is_grad_enabled()
    rounded = torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    if states.device.type == "cpu" and (slow or rounded):
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()
