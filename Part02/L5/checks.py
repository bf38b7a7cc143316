"""Checks of the exercises in L5."""

from utils.lesson import exercise

_MACHINES = {  # CPUs, GPUs, CPUs a client, GPUs a client: clients at a time
    (2, 0, 2, 0.0): 1,
    (2, 0, 1, 0.0): 2,
    (16, 1, 1, 0.25): 4,
    (16, 2, 1, 0.4): 4,
    (16, 2, 8, 0.4): 2,
    (3, 0, 2, 0.0): 1,
    (1, 0, 2, 0.0): 0,
}


@exercise(
    "So a client that asks for two CPUs of two is alone, and one that asks for 0.3 of a GPU has"
    " two beside it: what is left of each GPU serves nobody.",
    hints=[
        "Without GPUs only the CPUs count: how many whole clients fit?",
        (
            "With GPUs, whichever runs out first decides. How many clients fit on *one* GPU, if a"
            " share may not straddle two?"
        ),
        "Round down for each GPU first, then multiply by their number.",
    ],
)
def check_clients_at_a_time(function):
    """Exercise 1."""
    for machine, right in _MACHINES.items():
        answer = function(*machine)
        cpus, gpus, cpus_each, gpus_each = machine
        if isinstance(answer, bool) or not isinstance(answer, int):
            return f"Return a whole number; you return {answer!r}."
        if answer == right:
            continue
        case = f"{cpus} CPUs and {gpus} GPUs, {cpus_each} and {gpus_each:g} a client"
        if gpus_each and answer == cpus // cpus_each:
            return f"{case}: the CPUs would do for {answer}, but the GPUs do not."
        if gpus_each and answer == int(gpus / gpus_each):
            return f"{case}: a client's share must lie on one GPU; {answer} would need to straddle."
        return f"{case}: {right} at a time, not {answer}."
    return None


@exercise(
    "Two levels of a thousand each serve a million: nobody handles more than a thousand.",
    hints=[
        (
            "Start at the bottom: how many servers does the first level need, if each takes "
            "at_most clients? Round up."
        ),
        (
            "These servers are the clients of the next level. Go on until one server can take "
            "all, and count the levels."
        ),
        ("Rounding up with whole numbers: minus (minus a // b). A logarithm is not exact enough."),
    ],
)
def check_levels(function):
    """Exercise 2."""
    for clients, at_most, right in (
        (1000, 1000, 1),
        (1001, 1000, 2),
        (1_000_000, 1000, 2),
        (1_000_001, 1000, 3),
        (8, 2, 3),
        (125, 5, 3),
        (1, 10, 1),
    ):
        answer = function(clients, at_most)
        if isinstance(answer, bool) or not isinstance(answer, int):
            return f"Return a whole number of levels; you return {answer!r}."
        if answer == right:
            continue
        if (clients, at_most) == (125, 5) and answer == 4:
            return "math.log(125, 5) is 3.0000000000000004 on a computer: count with whole numbers."
        if answer == right - 1:
            return f"{clients:,} clients, {at_most:,} a server: {answer} levels leave some out."
        return f"{clients:,} clients, {at_most:,} a server: {right} levels, not {answer}."
    return None
