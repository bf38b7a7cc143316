"""Check what a caller hands over: one sentence says what is wrong, and what is allowed.

NumPy's numbers are numbers here; True, False, "3", NaN and infinity are not.
"""

import math
import reprlib
from collections.abc import Iterable, Mapping
from numbers import Integral, Real


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
    if (
        values is None
        or isinstance(values, str | bytes | Mapping)
        or not hasattr(values, "__iter__")
    ):
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
