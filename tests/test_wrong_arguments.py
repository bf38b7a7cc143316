"""Every public function, with one argument wrong at a time: it works, or says what is wrong."""

import dataclasses
import inspect
import signal
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import rouge_score.rouge_scorer  # noqa: F401  (a time limit that ends its import leaves half of it)
import torch
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import utils
from tests import valid_arguments
from tests.valid_arguments import CASES, Call
from utils import (
    attacks,
    caching,
    compression,
    course,
    data,
    deployment,
    federation,
    learning,
    lesson,
    llm,
    plots,
    privacy,
    progress,
    randomness,
)
from utils.arguments import shown
from utils.federation.recording import GridAround
from utils.llm import LLM
from utils.privacy import secure_aggregation as masks

UTILS = str(Path(utils.__file__).parent)
LONGEST = 0.25  # seconds that a call may take; then what it was given is good, only large


def words():
    yield "word"


WRONG = {
    "None": lambda: None,
    "True": lambda: True,
    "a word": lambda: "word",
    "no word": lambda: "",
    "bytes": lambda: b"word",
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "minus infinity": lambda: float("-inf"),
    "minus one": lambda: -1,
    "zero": lambda: 0,
    "one and a half": lambda: 1.5,
    "a huge number": lambda: 10**400,
    "a complex number": lambda: 1j,
    "an empty list": lambda: [],
    "an empty dictionary": lambda: {},
    "a list of words": lambda: ["word"],
    "a list of None": lambda: [None],
    "lists of unequal length": lambda: [[1], [1, 2]],
    "a dictionary of words": lambda: {"word": "word"},
    "a dictionary of None": lambda: {"word": None},
    "a dictionary by numbers": lambda: {1: 2},
    "a generator": words,
    "an object": object,
    "a class": lambda: dict,
    "a function": lambda: lambda *args, **settings: None,
    "an empty array": lambda: np.zeros(0),
    "an array of many dimensions": lambda: np.ones((2, 1, 3, 1, 2)),
    "an array of NaN": lambda: np.full(20, np.nan),
    "an array of words": lambda: np.array(["word"]),
    "a tensor of NaN": lambda: torch.full((2,), torch.nan),
    "a tensor of no dimension": lambda: torch.tensor(1.0),
    "an empty tensor": lambda: torch.zeros(0, 3),
    "a model": lambda: nn.Linear(2, 2),
}


WORDS = {  # by which a sentence may call an argument
    "dataset": {"data set"},
    "received": {"names"},
    "trained": {"names"},
    "state": {"names"},
    "matches": {"text"},
    "missing": {"label"},
    "releases": {"noise_multiplier", "sampling_rate", "rounds"},  # of one of them
}
# may be functions instead: of the learner's own, which fail in their own words
OR_FUNCTIONS = {("llm.clinic_app", "llm"), ("llm.clinic_app", "clinics")}


class _TakesLongError(BaseException):
    """It was good enough to begin with."""


@contextmanager
def time_limit(seconds):
    def stop(*_):
        raise _TakesLongError

    before = signal.signal(signal.SIGPROF, stop)
    # of computing, however busy the machine is; and again, since Python drops what is raised while
    # it frees an object, but not so soon that it would cut the cleaning up short
    signal.setitimer(signal.ITIMER_PROF, seconds, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """What a call writes, it writes there; figures, threads and random numbers are put back."""
    monkeypatch.chdir(tmp_path)
    threads, style = torch.get_num_threads(), plt.rcParams.copy()
    yield
    torch.set_num_threads(threads)
    plt.rcParams.update(style)
    plt.close("all")


def outline(value: object) -> object:
    """What a value holds, to see whether it has changed."""
    if isinstance(value, LLM):
        return id(value.model), outline(value.model)
    if isinstance(value, nn.Module):
        parts = [(name, module.training) for name, module in value.named_modules()]
        own = [(n, p.data_ptr(), p._version, p.requires_grad) for n, p in value.named_parameters()]
        return parts, own
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype, value.detach().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype, value.tobytes()
    if isinstance(value, dict):
        return type(value), [(k, outline(v)) for k, v in value.items()]
    if isinstance(value, list | tuple | set):
        return type(value), [outline(v) for v in value]
    return type(value), repr(value)


def call(case: Call, arguments: dict) -> BaseException | None:
    """What it raises, or None."""
    settings = dict(arguments)
    positional = [v for name in list(settings) if name[0] == "*" for v in settings.pop(name)]
    try:
        with time_limit(LONGEST):
            case.use(*positional, **settings)
    except _TakesLongError:
        return None
    except Exception as error:
        return error
    return None


def complaint(error: BaseException, name: str, value: object) -> str | None:
    """What is wrong with an error: nothing, if our own code raised it, and says what is wrong."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    if not frame.filename.startswith(UTILS) or not frame.line.startswith("raise "):
        return f"{type(error).__name__} from {frame.filename}:{frame.lineno} ({frame.line})"
    ours = type(error).__module__.startswith("utils.")
    if not ours and not isinstance(error, ValueError | TypeError | ConnectionError):
        return f"a {type(error).__name__}"
    said = str(error)
    known = {name, name.replace("_", " "), name.rstrip("s"), *WORDS.get(name, ())}
    known |= {shown(value), type(value).__name__}
    if isinstance(value, dict | list | tuple | np.ndarray):  # then what it holds is named
        parts = [*value, *getattr(value, "values", tuple)()]
        known |= {shown(part) for part in parts} | {str(part) for part in parts}
    if not any(word and word.lower() in said.lower() for word in known):
        return f"it does not name it: {said}"
    return None


def tried(name: str):
    """Each parameter of a function with each wrong value: the arguments, and what it raised."""
    case = CASES[name]
    for parameter in case.given():
        for kind, make in WRONG.items():
            arguments, value = case.given(), make()
            if parameter in case.slow and (value is None or isinstance(value, int | float)):
                continue  # it may be a good one
            may_be = callable(arguments[parameter]) or (name, parameter) in OR_FUNCTIONS
            if callable(value) and may_be:
                continue  # another function of the learner's own, which fails in its own words
            arguments[parameter] = (value,) if parameter[0] == "*" else value
            yield parameter, kind, value, arguments


def refresh(case: Call) -> None:
    """A language model that was changed gets new adapters: nothing else of it is ever changed."""
    if "llm" in case.changes:
        valid_arguments.one_llm().activations.clear()
        llm.add_lora(valid_arguments.one_llm(), 2)


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_argument_is_answered_with_a_sentence_and_nothing_is_changed(name, elsewhere):
    case, faults = CASES[name], []
    for parameter, kind, value, arguments in tried(name):
        before = {n: outline(v) for n, v in arguments.items()}
        figures = plt.get_fignums()
        error = call(case, arguments)
        after = {n: outline(v) for n, v in arguments.items()}
        allowed = set() if error else case.changes
        changed = [n for n in before if before[n] != after[n] and n not in allowed]
        if error is None or changed:
            refresh(case)
        fault = error and complaint(error, parameter.lstrip("*"), value)
        if error and plt.get_fignums() != figures:
            fault = f"{fault}; it leaves a figure behind"
        if changed:
            fault = f"{fault}; it changes {changed}"
        if fault:
            faults.append(f"{parameter} = {kind}: {fault}")
        plt.close("all")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", CASES)
def test_the_arguments_of_the_table_are_good(name):
    case = CASES[name]
    arguments = case.given()
    settings = {n: v for n, v in arguments.items() if n[0] != "*"}
    before = {n: outline(v) for n, v in arguments.items()}
    positional = [v for n, several in arguments.items() if n[0] == "*" for v in several]
    case.use(*positional, **settings)
    changed = {n for n, v in arguments.items() if outline(v) != before[n]}
    refresh(case)
    assert changed <= case.changes


def anything() -> st.SearchStrategy:
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    plain |= st.complex_numbers() | st.binary(max_size=5)
    several = lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)  # noqa: E731
    return st.recursive(plain, several, max_leaves=4)


def quick(case: Call) -> list[str]:
    return [name for name in case.given() if name not in case.slow]


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(chosen=st.data())
def test_whatever_is_handed_over_is_taken_or_answered_with_a_sentence(chosen):
    name = chosen.draw(st.sampled_from([name for name in CASES if quick(CASES[name])]))
    case = CASES[name]
    good = case.given()
    parameter = chosen.draw(st.sampled_from(quick(case)))
    value = chosen.draw(anything())
    positional = parameter[0] == "*"
    error = call(case, good | {parameter: (value,) if positional else value})
    assert error is None or not complaint(error, parameter.lstrip("*"), value)
    refresh(case)


def number_types(value: object) -> list[type]:
    if isinstance(value, bool):
        return [np.bool_]
    if isinstance(value, int):
        return [np.int64, np.uint8]
    return [np.float64, np.float32] if isinstance(value, float) else []


@pytest.mark.parametrize("name", CASES)
def test_numpys_numbers_are_taken_for_pythons(name):
    case = CASES[name]
    for parameter, value in case.given().items():
        for kind in number_types(value):
            error = call(case, case.given() | {parameter: kind(value)})
            assert error is None, f"{parameter}={kind.__name__}({value}): {error}"
            refresh(case)


PACKAGES = attacks, compression, data, deployment, federation, learning, llm, privacy, masks
MODULES = caching, course, lesson, plots, progress, randomness
ELSEWHERE = {  # and why no call of theirs is in the table
    "course.execute": "make course calls it, with what lesson_notebooks found: test_course.py",
    "course.publish": "as execute",
    "course.closing_table": "as execute",
    "course.Progress.add": "as execute",
    "course.Progress.done": "as execute",
    "caching.is_alive": "the course's own: test_caching.py",
    "caching.temporary_folder": "it takes nothing",
    "deployment.free_port": "it takes nothing",
    "federation.repeatable": "a mod, which Flower calls: federation/test_rounds.py",
    "federation.run_rounds": "needs a grid that answers: federation/test_rounds.py",
    **{
        f"deployment.Deployment.{name}": "it starts Flower's processes: tests/deployment"
        for name in (
            "flwr",
            "listed",
            "node_id",
            "party",
            "run",
            "start",
            "start_clinic",
            "start_superlink",
            "submit",
        )
    },
    "course.main": "its arguments are checked by argparse: test_course.py",
}


def public() -> dict[str, Callable]:
    """Functions and classes that a lesson may use, and classes' methods that take something."""
    found = {}
    for module in PACKAGES + MODULES:
        names = getattr(module, "__all__", [n for n in vars(module) if n[0] != "_"])
        for name in names:
            value, short = getattr(module, name), module.__name__.removeprefix("utils.")
            if not callable(value) or not value.__module__.startswith(module.__name__):
                continue
            if isinstance(value, type):
                found |= {f"{short}.{name}.{n}": m for n, m in methods_of(value).items()}
                if is_record(value):
                    continue
            found[f"{short}.{name}"] = value
    return {name: value for name, value in found.items() if name not in ELSEWHERE}


def is_record(kind: type) -> bool:
    """It only holds what it is given: a named tuple, a data class, an error, a list."""
    plain = dataclasses.is_dataclass(kind) and not hasattr(kind, "__post_init__")
    return plain or issubclass(kind, tuple | list | Exception) or not parameters_of(kind)


def methods_of(kind: type) -> dict[str, Callable]:
    """Those that a learner calls: not those that Flower, torch or a codec's own module call."""
    inner = Strategy, Grid, GridAround, nn.Module, Exception
    called_by_others = {name for base in inner for name in dir(base)} | {"encode", "decode"}
    own = {n: m for n, m in vars(kind).items() if n[0] != "_" and callable(m)}
    return {
        n: m
        for n, m in own.items()
        if n not in called_by_others and len(parameters_of(m)) > 1 and not issubclass(kind, Grid)
    }


def parameters_of(function: Callable) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except ValueError:  # an error's
        return set()


def test_no_public_function_and_no_parameter_is_missing_from_the_table():
    missing = {}
    for name, function in public().items():
        known = {n.lstrip("*") for n in CASES[name].given()} if name in CASES else set()
        wanted = {
            n
            for n, p in inspect.signature(function).parameters.items()
            if n != "self" and p.kind is not p.VAR_KEYWORD
        }
        if name not in CASES or wanted - known:
            missing[name] = wanted - known
    assert not missing
    assert not CASES.keys() - public().keys()


def test_a_new_function_would_be_missed(monkeypatch):
    def new(value):
        """Not in the table."""

    new.__module__ = "utils.learning.new"
    monkeypatch.setattr(learning, "new", new, raising=False)
    monkeypatch.setattr(learning, "__all__", [*learning.__all__, "new"])
    assert "learning.new" in public().keys() - CASES.keys()
