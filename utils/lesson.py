"""What every notebook opens with, checks its claims with, and marks its exercises with."""

import functools
import importlib.metadata
import inspect
import math
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from utils import caching, logbook
from utils.arguments import folder_name, list_of, number, shown, text, whole_number
from utils.hardware import multiplies_bfloat16
from utils.hints import in_steps
from utils.plots import use_course_style
from utils.randomness import seed_everything

_PACKAGES = ("torch", "flwr")


def start_lesson(title: str, *, minutes: float, seed: int = 0, threads: int | None = None) -> None:
    """Seed everything, set the figure style, and say what this lesson runs on.

    Args:
        title: printed first, e.g. ``"Part 1, L1 Why federated learning"``.
        minutes: how long the whole notebook takes on 2 CPU cores; a language model's, where
            they multiply bfloat16 (``multiplies_bfloat16``).
        seed: of Python's, NumPy's and torch's generators.
        threads: that torch may use; by default all. The digit models ask for 1: they gain
            nothing from a second, and lose minutes where another program wants it.

    Raises:
        ValueError: for values out of range; then nothing is set.
    """
    text("title", title)
    minutes, seed = number("minutes", minutes, above=0), whole_number("seed", seed, 0)
    if threads is not None:
        torch.set_num_threads(whole_number("threads", threads, 1, 1024))
    seed_everything(seed)
    use_course_style()
    logbook.begin(title)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    print(f"{title}: about {_minutes(minutes)} on 2 CPU cores")
    print(f"Python {platform.python_version()}, {', '.join(versions)}; seed {seed}")
    print(f"This machine: {os.cpu_count()} CPU cores, {gpu or 'no GPU'}", end="")
    quick = multiplies_bfloat16("cuda" if gpu else "cpu")
    precision = "bfloat16" if quick else "float32, which takes several times as long"
    print(f"; the language model in {precision}" if title.startswith("Part 2") else "")


def _minutes(minutes: float) -> str:
    if minutes < 1:
        return f"{minutes * 60:.0f} seconds"
    return f"{minutes:g} minute{'s' if minutes != 1 else ''}"


def resumable(run: str) -> Path | None:
    """Where ``simulate(checkpoint=…)`` keeps a lesson's long run until it has finished.

    Interrupted, or after its kernel ended, the same cell goes on after the last whole round.

    Args:
        run: its name, which no other run of the course has, e.g. ``"Part 2, L3 federated"``.

    Returns:
        A folder among the course's caches; None (nothing is kept) where these are read-only.

    Raises:
        ValueError: if the name is none that a folder can have.
    """
    folder_name("run", run)
    cache = caching.CACHE_DIR
    writable = os.access(cache if cache.exists() else cache.parent, os.W_OK)
    return cache / "unfinished" / run if writable else None


class CheckpointError(AssertionError):
    """A lesson's claim did not hold in this run."""


def checkpoint(
    claim: str,
    value: float,
    *,
    equals: float | None = None,
    within: float = 0.0,
    at_least: float | None = None,
    at_most: float | None = None,
) -> None:
    """Test a claim about a number that was just computed, and print it as a sentence.

    Args:
        claim: a sentence in which ``{value}`` stands for the number.
        value: the number.
        equals: what it must be, give or take ``within``.
        within: the tolerance of ``equals``, in the same unit.
        at_least: a lower limit.
        at_most: an upper limit.

    Raises:
        CheckpointError: if the claim does not hold (NaN never holds).
        ValueError: if there is nothing to test against, or something is no number.
    """
    given = {"value": value, "within": within, "equals": equals}
    given |= {"at_least": at_least, "at_most": at_most}
    for name, found in given.items():
        if found is not None or name in ("value", "within"):
            _check_number(name, found)
    limits = []
    if equals is not None:
        limits.append(
            (value == equals or abs(value - equals) <= within, f"{equals:g} ± {within:g}")
        )
    if at_least is not None:
        limits.append((value >= at_least, f"at least {at_least:g}"))
    if at_most is not None:
        limits.append((value <= at_most, f"at most {at_most:g}"))
    if not limits:
        raise ValueError("checkpoint needs equals=, at_least= or at_most= to test the value by")
    try:
        sentence = text("claim", claim).format(value=value)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(_no_claim(claim, error)) from error
    if math.isnan(value) or not all(holds for holds, _ in limits):
        expected = " and ".join(text for _, text in limits)
        raise CheckpointError(
            f"This claim does not hold here: {sentence} (the value is {value:g}; expected "
            f"{expected}). If you changed a number above, that may be the finding; if not, "
            "restart the kernel and run all cells in order."
        )
    print(f"Checkpoint passed. {sentence}")
    logbook.note("checkpoints", claim, "passed")


def _check_number(name: str, value: object) -> None:
    """Refuse what is no number; NaN, infinity and tensors of one number are."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"{name} is {shown(value)}; it must be a number") from None


def _no_claim(claim: str, error: Exception) -> str:
    return (
        f"claim is {shown(claim)}, which cannot be filled in ({error}); in it, {{value}} stands "
        "for the number, {value:.2f} for two digits of it"
    )


HEADLINE = "Headline: "


def headline(sentence: str) -> None:
    """Print a lesson's main figure; ``make course`` shows it in its closing table."""
    print(HEADLINE + text("sentence", sentence))


@dataclass(frozen=True)
class Verdict:
    """What a check thinks of an answer. True if it is right."""

    status: str
    message: str

    def __bool__(self) -> bool:
        return self.status == logbook.RIGHT

    def __repr__(self) -> str:
        return f"{self.status}. {self.message}"

    def require(self) -> None:
        """Print the verdict, and raise unless the answer is right (for the solutions)."""
        print(self)
        if not self:
            raise AssertionError(repr(self))


class _NotDoneError(Exception):
    """The learner's function still returns ``...``."""


def exercise(
    praise: str, hints: Iterable[str] = ()
) -> Callable[[Callable], Callable[[object], Verdict]]:
    """Turn a function that finds what is wrong with an answer into a kind check.

    The decorated function takes the answer and returns None if it is right, or what is wrong.
    An answer of ``...``, or a function that returns ``...``, is "not done yet"; an exception in
    the learner's code becomes a verdict that names it. ``check.hint()`` prints the first hint,
    then the next, and ``check.hint(2)`` the second.

    Args:
        praise: what to say of a right answer; it should add something to think about.
        hints: from a nudge to nearly the answer, which they never hold.

    Raises:
        ValueError: if praise or a hint is no text.
    """
    text("praise", praise)
    hints = [text("a hint", hint) for hint in list_of("hints", hints, "hints")]

    def decorate(find_fault: Callable[[object], str | None]) -> Callable[[object], Verdict]:
        @functools.wraps(find_fault)
        def check(answer: object) -> Verdict:
            verdict = _verdict(find_fault, answer, praise)
            logbook.note("exercises", find_fault.__name__, verdict.status)
            return verdict

        check.hint, check.hints = in_steps(hints), tuple(hints)
        return check

    return decorate


def _verdict(find_fault: Callable, answer: object, praise: str) -> Verdict:
    if answer is ...:
        return Verdict("Not done yet", "Replace the ... in the cell above.")
    try:
        fault = find_fault(_guard(answer) if inspect.isroutine(answer) else answer)
    except _NotDoneError:
        return Verdict("Not done yet", "Your function still returns ... .")
    except Exception as error:
        return Verdict("Not right yet", f"Your answer led to {type(error).__name__}: {error}")
    return Verdict("Not right yet", fault) if fault else Verdict(logbook.RIGHT, praise)


def _guard(function: Callable) -> Callable:
    @functools.wraps(function)
    def guarded(*args, **kwargs):
        result = function(*args, **kwargs)
        if result is ...:
            raise _NotDoneError
        return result

    return guarded
