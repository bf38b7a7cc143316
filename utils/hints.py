"""Help in steps, for who is stuck: a nudge first, and never the whole answer."""

from collections.abc import Callable

from utils.arguments import whole_number

LAST = "The worked answer is in the lesson's solutions notebook."


def in_steps(hints: list[str]) -> Callable[[int | None], None]:
    """A function that prints the hints, one a call.

    Args:
        hints: from a nudge to nearly the answer; may be empty.
    """
    given = 0

    def hint(step: int | None = None) -> None:
        """Print the next hint, or the one of this number; after the last, the last again.

        Args:
            step: from 1; by default one further than last time.

        Raises:
            ValueError: if there is no hint of this number.
        """
        nonlocal given
        if not hints:
            print(f"This exercise has no hints. {LAST}")
            return
        following = min(given + 1, len(hints))
        given = following if step is None else whole_number("step", step, 1, len(hints))
        told = f" {LAST}" if given == len(hints) else ""
        print(f"Hint {given} of {len(hints)}. {hints[given - 1]}{told}")

    return hint
