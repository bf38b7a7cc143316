"""LoRA: small trained adapters beside frozen weights, put on a model and taken off."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn

from utils.arguments import flag, list_of, number, seed_number, text, whole_number
from utils.llm.model import LLM, an_llm


def add_lora(
    llm: LLM,
    rank: int = 8,
    *,
    top_layers: int | None = None,
    targets: str | Sequence[str] = ("q_proj", "v_proj"),
    alpha: float = 16,
    freeze_a: bool = False,
    seed: int = 0,
) -> None:
    """Put LoRA adapters on the model (Hu et al. 2021, arXiv:2106.09685); only they are trained.

    Adapters that are on already are taken off first. A new adapter changes no answer: its
    second matrix starts at zero.

    Args:
        llm: changed in place.
        rank: r of the two thin matrices, at least 1.
        top_layers: adapt only so many of the last layers; by default all.
        targets: names of the linear layers that get one, or one name, or ``"all-linear"``: all
            of them but the head.
        alpha: the adapter's output is scaled by alpha / rank; above 0.
        freeze_a: train the second matrix only (FFA-LoRA, arXiv:2403.12313).
        seed: of the first matrix, which starts at random.

    Raises:
        ValueError: for a name that no linear layer has, or values out of range; then the model
            is left as it was.
    """
    layers = an_llm(llm).model.config.num_hidden_layers
    adapted = None
    if top_layers is not None:
        top_layers = whole_number(
            f"top_layers of the model's {layers} layers", top_layers, 1, layers
        )
        adapted = list(range(layers - top_layers, layers))
    config = LoraConfig(
        r=whole_number("rank", rank, 1, 4096),
        lora_alpha=number("alpha", alpha, above=0),
        target_modules=_targets(llm, targets),
        layers_to_transform=adapted,
        task_type="CAUSAL_LM",
    )
    seed, freeze_a = seed_number(seed), flag("freeze_a", freeze_a)
    remove_lora(llm)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        # peft asks transformers for an attribute by its old name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        llm.model = get_peft_model(llm.model, config)
    for name, p in llm.model.named_parameters():
        if freeze_a and "lora_A" in name:
            p.requires_grad_(False)
    llm.model.eval()


def _targets(llm: LLM, targets: str | Sequence[str]) -> list[str]:
    """The names that are meant; peft itself would overlook a misspelt one among right ones."""
    linear = {
        name.removesuffix(".base_layer").rpartition(".")[2]
        for name, module in llm.base.named_modules()
        if isinstance(module, nn.Linear)
        and "lora_" not in name
        and module is not llm.base.get_output_embeddings()
    }
    if isinstance(targets, str) and targets == "all-linear":
        return sorted(linear)
    names = [targets] if isinstance(targets, str) else list_of("targets", targets, "names")
    names = [text("one of targets", name) for name in names]
    unknown = [name for name in names if name not in linear]
    if unknown or not names:
        raise ValueError(
            f"targets={targets!r}: the linear layers of '{llm.name}' have no such names as "
            f"{unknown}; choose from {', '.join(sorted(linear))}, or 'all-linear'"
        )
    return names


def remove_lora(llm: LLM) -> None:
    """Take the adapters off: the model is again what it was before ``add_lora``."""
    if isinstance(an_llm(llm).model, PeftModel):
        llm.model = llm.model.unload()


@contextmanager
def lora_off(llm: LLM) -> Iterator[None]:
    """Within this block, the model answers as if it had no adapters."""
    if not isinstance(an_llm(llm).model, PeftModel):
        yield
        return
    with llm.model.disable_adapter():
        yield


def adapter_state(llm: LLM) -> dict[str, torch.Tensor]:
    """A copy of the adapters' trained weights by name: what a federation sends.

    Raises:
        ValueError: if the model has no adapters.
    """
    if not isinstance(an_llm(llm).model, PeftModel):
        raise ValueError("the model has no adapters; call add_lora first")
    trained = {name: p for name, p in llm.model.named_parameters() if p.requires_grad}
    state = get_peft_model_state_dict(llm.model, state_dict=trained)
    return {name: w.detach().float().cpu().clone() for name, w in state.items()}


def load_adapter_state(llm: LLM, state: Mapping[str, torch.Tensor]) -> None:
    """Set the adapters' trained weights.

    Raises:
        ValueError: if the model has no adapters, or names or shapes differ from its own, or a
            weight is not finite; then the adapters are left as they were.
    """
    present = adapter_state(llm)
    if not isinstance(state, Mapping):
        raise ValueError(
            f"state is a {type(state).__name__}; pass weights by name, as from adapter_state"
        )
    missing, extra = sorted(present.keys() - state.keys()), sorted(state.keys() - present.keys())
    if missing or extra:
        raise ValueError(
            f"the adapter's names differ: missing {missing[:3] or 'none'}, unexpected "
            f"{extra[:3] or 'none'} ({len(missing)} and {len(extra)} in all)"
        )
    for name, w in state.items():
        if not isinstance(w, torch.Tensor | np.ndarray):
            raise ValueError(f"'{name}' is {w!r:.40}; weights are tensors or arrays")
    weights = {name: torch.as_tensor(w) for name, w in state.items()}
    for name, w in weights.items():
        if w.shape != present[name].shape:
            raise ValueError(
                f"'{name}' has shape {tuple(w.shape)}; the model's adapter has "
                f"{tuple(present[name].shape)}. Was it trained with another rank?"
            )
        if not w.isfinite().all():
            raise ValueError(f"'{name}' holds NaN or infinity; did the training diverge?")
    set_peft_model_state_dict(llm.model, weights)
