"""Check what a caller hands over: one sentence says what is wrong, and what is allowed.

NumPy's numbers are numbers here; True, False, "3", NaN and infinity are not.
"""

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path

import numpy as np

MANY = 10**9  # of steps, rounds, …: nobody lives to see more, and sums of them fit anywhere


def whole_number(name: str, value: object, least: int, most: int | None = None) -> int:
    """The value as an ``int``, if it is a whole number from ``least`` to ``most``.

    Raises:
        ValueError: with the name, the value and the limits; also for 3.0, which is a float.
    """
    fits = isinstance(value, Integral) and not isinstance(value, bool) and value >= least
    if not fits or (most is not None and value > most):
        limits = f"of at least {least:,}" if most is None else f"from {least:,} to {most:,}"
        raise ValueError(f"{name} is {shown(value)}; it must be a whole number {limits}")
    return int(value)


def seed_number(value: object) -> int:
    """A seed that every generator takes: torch's have 63 bits.

    Raises:
        ValueError: with the value and the limits.
    """
    return whole_number("seed", value, 0, 2**63 - 1)


def number(
    name: str,
    value: object,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> float:
    """The value as a ``float``, if it is a finite number within the limits.

    ``least`` and ``most`` may be reached; ``above`` and ``below`` may not.

    Raises:
        ValueError: with the name, the value and the limits.
    """
    try:
        found = (
            float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
        )
    except OverflowError:  # 10**400
        found = math.nan
    if not math.isfinite(found) or not (least <= found <= most and above < found < below):
        limits = {"at least": least, "above": above, "at most": most, "below": below}
        words = " and ".join(f"{w} {x:,g}" for w, x in limits.items() if math.isfinite(x))
        raise ValueError(f"{name} is {shown(value)}; it must be a finite number {words}".rstrip())
    return found


def one_of(name: str, value: object, allowed: Iterable[str]) -> str:
    """The value, if it is one of the names allowed.

    Raises:
        ValueError: with the name, the value and all that is allowed.
    """
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(
            f"{name} is {shown(value)}; it must be one of: {', '.join(map(repr, allowed))}"
        )
    return value


def flag(name: str, value: object) -> bool:
    """The value, if it is True or False; "False", None, 0 and arrays are not.

    Raises:
        ValueError: with the name and the value.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} is {shown(value)}; it must be True or False")
    return bool(value)


def text(name: str, value: object) -> str:
    """The value, if it is a string.

    Raises:
        ValueError: with the name and the value.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} is {shown(value)}; it must be text")
    return value


def folder_name(name: str, value: object) -> str:
    """The value, if a folder can have that name.

    Raises:
        ValueError: with the name and the value.
    """
    if not isinstance(value, str) or value in ("", ".", "..") or Path(value).name != value:
        raise ValueError(
            f"{name} is {shown(value)}; it must be the name of a folder, without a path"
        )
    return value


def folder_path(name: str, value: object) -> Path:
    """The value as a path, if it is text or a path, and not empty; it need not exist.

    Raises:
        ValueError: with the name and the value.
    """
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
        raise ValueError(f"{name} is {shown(value)}; it must be the path of a folder")
    return Path(value)


def function(name: str, value: object, example: str = "") -> Callable:
    """The value, if it can be called.

    Args:
        name: of the argument.
        value: what was handed over.
        example: of what is meant, for the message, if there is one.

    Raises:
        TypeError: with the name and the value.
    """
    if not callable(value):
        such = f", such as {example}" if example else ""
        raise TypeError(f"{name} is {shown(value)}; it must be a function{such}")
    return value


def functions(name: str, values: object, things: str) -> list[Callable]:
    """A list of what can be called.

    Raises:
        ValueError, TypeError: with the name and the value.
    """
    return [function(f"one of {name}", value) for value in list_of(name, values, things)]


def dict_of(name: str, value: object, things: str) -> Mapping:
    """The value, if it is a dictionary, or like one.

    Raises:
        ValueError: with the name and the value.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {shown(value)}; it must be a dictionary of {things} by name")
    return value


def floats(values: object) -> np.ndarray:
    """The values as float64, of any shape; one NaN, without a dimension, if they are no numbers."""
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return np.array(np.nan)  # words, rows of unequal length, a tensor with a gradient, 10**400


def list_of(name: str, value: object, things: str) -> list:
    """The value as a list, if one can go through it; a string is not a list of characters.

    Args:
        name: of the argument.
        value: what was handed over.
        things: what the list should hold, for the message, e.g. ``"labels"``.

    Raises:
        ValueError: with the name and the value.
    """
    if hasattr(value, "tolist"):  # arrays and tensors: their numbers as Python's
        value = value.tolist()
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ValueError(f"{name} is {shown(value)}; it must be a list of {things}")
    return list(value)


def shown(value: object) -> str:
    """A value on one short line, for a message."""
    return " ".join(reprlib.repr(value).split())


def rows_of(what: str, values: object, *texts: str) -> list[dict]:
    """Cards, or rows like them, as a list; each has the named columns, which hold text.

    Args:
        what: they are, in the plural: ``"cards"``.
        values: a list of dicts, or a Dataset.
        texts: columns that each row must have.

    Raises:
        ValueError: if they are something else, there are none, or one lacks a column.
    """
    none = isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable)
    if none or getattr(values, "ndim", 1) == 0:
        raise ValueError(
            f"{what} is a {type(values).__name__}; pass a list of {what}, each a dict with "
            f"{' and '.join(texts)}, or a Dataset such as load_cards()['train']"
        )
    rows = list(values)
    if not rows:
        raise ValueError(f"there are no {what}; at least one is needed")
    for number, row in enumerate(rows):
        wrong = [
            t for t in texts if not isinstance(row, Mapping) or not isinstance(row.get(t), str)
        ]
        if wrong:
            found = repr(row.get(wrong[0])) if isinstance(row, Mapping) else repr(row)
            raise ValueError(
                f"number {number} of the {what} has no text as its '{wrong[0]}' (found "
                f"{found[:40]}); each must be a dict with {' and '.join(texts)} as text"
            )
    return rows
