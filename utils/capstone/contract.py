"""What an entry says, and what it is given.

An entry is one Python file. It says ``SETTINGS``, a ``server_app``, a ``client_app``, and
``losses(arrays, questions, context)``; if it likes ``clean(record, context)`` and
``patient_key(record, context)``. Everything it is given comes with the context, as on a real
federation.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from flwr.app import Context

from utils.arguments import flag, number, whole_number
from utils.llm import LLM, load_llm
from utils.llm.reading import option_losses, tokenize

ROUNDS = 200  # at most
_AT_ONCE = 80  # answers, about

Question = tuple[str, list[str]]  # and the answers to choose from


@dataclass(frozen=True)
class Settings:
    """What an entry asks of the clinics' gate, and of the line.

    Attributes:
        private: whether the gate guards each patient. Off, a clinic sends what the ClientApp
            made of all its records, and nothing is promised: ε is infinite. On, the ClientApp
            is called once for each patient; the gate clips each patient's change of the model
            to ``max_norm``, adds them up, adds noise of standard deviation ``noise_multiplier``
            times ``max_norm``, divides by the clinic's registered number of records, and lets
            only that out.
        max_norm: the clipping norm S of one patient's change, above 0.
        noise_multiplier: z, above 0; one number, or one for each round. A round is each time
            that the server sends messages to train, also to clinics that are asked again.
        epsilon: what the entry promises a patient, at the case's δ. A reply that would pass it
            is never sent, and the entry is refused.
        bits_up, bits_down: of a number on the line: 32, 16 (bfloat16), or 2 to 8 (``Uniform``
            of ``utils.compression``), to the server and to the clinics.
    """

    private: bool = False
    max_norm: float = 1.0
    noise_multiplier: float | Sequence[float] = 1.0
    epsilon: float = 8.0
    bits_up: int = 32
    bits_down: int = 32

    def __post_init__(self) -> None:
        flag("private", self.private)
        number("max_norm", self.max_norm, above=0)
        number("epsilon", self.epsilon, above=0)
        several = isinstance(self.noise_multiplier, list | tuple)
        noises = self.noise_multiplier if several else [self.noise_multiplier]
        whole_number("the number of noise multipliers", len(noises), 1, ROUNDS)
        for z in noises:
            number("noise_multiplier", z, above=0)
        for name in ("bits_up", "bits_down"):
            bits = whole_number(name, getattr(self, name), 2, 32)
            if bits > 8 and bits not in (16, 32):
                raise ValueError(f"{name} is {bits}; it must be 32, 16, or from 2 to 8")

    def noise_of(self, round_: int) -> float:
        """The noise multiplier of a round, from 1; the last one given goes on."""
        if not isinstance(self.noise_multiplier, list | tuple):
            return float(self.noise_multiplier)
        return float(self.noise_multiplier[min(round_, len(self.noise_multiplier)) - 1])


def records_of(context: Context) -> list[dict[str, str]]:
    """The records that this call may see, each with ``question`` and ``answer``.

    Of a patient, if the gate guards patients; else of the clinic. They have gone through the
    entry's own ``clean``, and of those with the same ``patient_key`` a clinic's call sees one.
    """
    return json.loads(context.node_config["records"])


def public_of(context: Context) -> list[dict[str, str]]:
    """A hundred further patients' complaints, each a ``question``; they agreed that everybody may
    read them. Which department saw them is not told."""
    return json.loads(context.run_config["public"])


def labels_of(context: Context) -> dict[str, list[str]]:
    """All answers that there are: ``"departments"`` and ``"diseases"``."""
    return json.loads(context.run_config["labels"])


_model: list[LLM] = []


def language_model() -> LLM:
    """The bundled model, frozen; loaded once, before any entry is.

    What one call changes (adapters put on it) is gone in the next: each call has a process of
    its own.
    """
    if not _model:
        _model.append(load_llm())
    return _model[0]


def option_sums(llm: LLM, questions: Sequence[Question]) -> list[list[float]]:
    """What each answer costs a language model: the sum of its tokens' losses (nats).

    Args:
        llm: the model, with or without adapters.
        questions: each with the answers to choose from.

    Returns:
        For each question, a number for each of its answers.
    """
    found, waiting = [], []
    for place, (text, options) in enumerate(questions, start=1):
        waiting.append([{"question": text, "answer": option} for option in options])
        if sum(map(len, waiting)) >= _AT_ONCE or place == len(questions):
            groups = [tokenize(llm, cards) for cards in waiting]
            found += [[one.sum().item() for one in group] for group in option_losses(llm, groups)]
            waiting = []
    return found
