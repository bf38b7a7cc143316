"""Checks of the exercises in L4."""

import math

import numpy as np

from utils.lesson import exercise


@exercise(
    "Common words are easy for every model; the surprising ones tell members apart.",
    hints=[
        (
            "Sort the log-probabilities: the least likely tokens have the smallest, that is the "
            "most negative."
        ),
        (
            "How many of them? The share k of all, rounded down, but at least one. Then their "
            "mean, with its sign."
        ),
    ],
)
def check_min_k(function):
    """Exercise 1."""
    draw = np.random.default_rng(0)
    for length, k in ((10, 0.2), (7, 0.5), (3, 0.2), (5, 1.0)):
        values = -draw.exponential(2.0, length)
        count = max(1, int(k * length))
        answer, right = function(values.copy(), k), np.sort(values)[:count].mean()
        if not np.isscalar(answer) or isinstance(answer, str | bool):
            return f"Return a number; you return {type(answer).__name__}."
        if math.isclose(answer, right, rel_tol=1e-6):
            continue
        hints = {
            "These are the likeliest tokens; take the least likely.": np.sort(values)[
                -count:
            ].mean(),
            "That is their sum; take the mean.": np.sort(values)[:count].sum(),
            "That is the mean over all tokens: minus the loss.": values.mean(),
            "Log-probabilities are negative, and higher must mean member: keep the sign.": -right,
        }
        if length * k < 1:
            return f"Of {length} tokens and k = {k}, take at least one."
        for hint, wrong in hints.items():
            if math.isclose(answer, wrong, rel_tol=1e-6):
                return hint
        return f"For {length} tokens and k = {k}, expected {right:.4f}, got {answer:.4f}."
    return None


@exercise(
    "With n candidates the most that can be shown is log2(n) bits.",
    hints=[
        (
            "The rank: how many others cost the model no more than the secret does? Rank 1 is the"
            " best."
        ),
        (
            "The candidates are the others *and* the secret. And a logarithm to the base 2 gives "
            "bits."
        ),
    ],
)
def check_exposure(function):
    """Exercise 2."""
    others = np.array([5.0, 7.0, 9.0, 6.0, 8.0, 10.0, 11.0])
    for true, rank in ((4.0, 1), (7.5, 4), (12.0, 8), (5.0, 2)):
        answer, right = function(true, others.copy()), math.log2(8) - math.log2(rank)
        if not np.isscalar(answer) or isinstance(answer, str | bool):
            return f"Return a number; you return {type(answer).__name__}."
        if math.isclose(answer, right, abs_tol=1e-9):
            continue
        if math.isclose(answer, right * math.log(2), rel_tol=1e-6):
            return "In bits: the logarithm to the base 2."
        if true == 5.0:
            return "A candidate that costs just as much counts against the secret."
        if math.isclose(answer, math.log2(8) - math.log2(9 - rank), abs_tol=1e-6):
            return "Rank 1 is the lowest loss, not the highest."
        return (
            f"A secret that costs {true} among {len(others)} others has rank {rank} of 8: expected "
            f"{right:.3f} bits, got {answer:.3f}."
        )
    return None


@exercise(
    "And you would say to whom it applies: evidence from this attack, or a guarantee.",
    hints=[
        (
            "Two steps: throw out what costs more than the budget, then look for the least "
            "exposed of the rest."
        ),
        (
            "min takes key=…; a pair as key compares the second number only where the first are "
            "equal. What if nothing is left?"
        ),
    ],
)
def check_defence(function):
    """Exercise 3."""
    rows = [
        {"name": "none", "loss": 2.4, "exposure": 19.0, "auc": 0.9},
        {"name": "fewer passes", "loss": 2.5, "exposure": 6.0, "auc": 0.6},
        {"name": "no duplicates", "loss": 2.4, "exposure": 6.0, "auc": 0.8},
        {"name": "DP-SGD", "loss": 2.9, "exposure": 1.4, "auc": 0.5},
    ]
    for budget, right in ((3.0, "DP-SGD"), (2.5, "fewer passes"), (2.45, "no duplicates")):
        answer = function([dict(row) for row in rows], budget)
        if answer == right:
            continue
        chosen = next((row for row in rows if row["name"] == answer), None)
        if chosen is None:
            return f"Return the name of one of the rows; you return {answer!r}."
        if chosen["loss"] > budget:
            return f"'{answer}' has a loss of {chosen['loss']}, above the budget of {budget}."
        if chosen["exposure"] == 6.0 and budget == 2.5:
            return "Two are equally exposed; the one with the lower AUC is better."
        return f"With a loss of at most {budget}, '{right}' is less exposed than '{answer}'."
    if function([dict(row) for row in rows], 1.0) is not None:
        return "If nothing fits the budget, return None."
    return None


@exercise(
    "So remove duplicates before you promise anything.",
    hints=[
        "Epsilon is the easy half: every copy adds as much.",
        (
            "For delta, go copy by copy, beginning with 0: what does one more copy do to the "
            "delta so far?"
        ),
        "Each further copy multiplies the delta so far by e^ε, and then adds its own.",
    ],
)
def check_group_epsilon(function):
    """Exercise 1."""
    for epsilon, delta, copies in ((1.0, 1e-5, 1), (1.0, 1e-5, 3), (0.5, 1e-6, 6), (4.0, 1e-4, 6)):
        answer = function(epsilon, delta, copies)
        if not isinstance(answer, tuple) or len(answer) != 2:
            return f"Return two numbers, epsilon and delta; you return {answer!r}."
        right = copies * epsilon, delta * sum(math.exp(i * epsilon) for i in range(copies))
        if not math.isclose(answer[0], right[0], rel_tol=1e-6):
            return (
                f"{copies} copies of {epsilon}: expected epsilon {right[0]:g}, got {answer[0]:g}."
            )
        if math.isclose(answer[1], right[1], rel_tol=1e-6):
            continue
        if math.isclose(answer[1], copies * delta, rel_tol=1e-6):
            return "Each step of the chain multiplies the deltas before it by e^epsilon."
        return (
            f"{copies} copies at epsilon {epsilon}: expected delta {right[1]:.3g}, "
            f"got {answer[1]:.3g}."
        )
    return None


# L4_more_encryption ------------------------------------------------------------------------------


@exercise(
    "Any other points of the polynomial give the same; one fewer would fit every secret.",
    hints=[
        (
            "Lagrange: the value at 0 is a sum over the shares, each y times a factor. The factor"
            " is 1 at its own x, and 0 at the others'."
        ),
        (
            "The factor is a product over the *other* shares: their x, over the difference "
            "between their x and this one."
        ),
        (
            "Modulo a prime one does not divide: multiply by pow(difference, -1, prime), and take"
            " the sum modulo the prime in the end."
        ),
    ],
)
def check_open_secret(function):
    """Exercise 1."""
    draw = np.random.default_rng(0)
    for prime, threshold in ((97, 2), (2**31 - 1, 3), (2**127 - 1, 5)):
        ints = [int(value) for value in draw.integers(1, 90, threshold)]
        xs = [int(x) + 1 for x in draw.permutation(9)[:threshold]]
        points = [(x, sum(c * x**i for i, c in enumerate(ints)) % prime) for x in xs]
        answer, right = function([*points], prime), ints[0]
        whole = isinstance(answer, int | np.integer) and not isinstance(answer, bool)
        if whole and answer == right:
            continue
        if whole and answer % prime == right:
            return f"Right but for multiples of {prime}: return a number from 0 to prime - 1."
        if not whole:
            return (
                f"Return a whole number; you return {type(answer).__name__}. To divide modulo a "
                "prime, multiply by pow(number, -1, prime)."
            )
        if answer == points[0][1]:
            return "That is the value at a share's own x; the secret is the value at 0."
        return f"From {threshold} shares modulo {prime}, expected {right}, got {answer}."
    return None


@exercise(
    "If nobody drops out, the sum has more noise than it needs: the price of the promise.",
    hints=[
        (
            "The whole noise has standard deviation z times the norm. What of independent noises "
            "adds up: deviations or variances?"
        ),
        (
            "`needed` shares of variance v make a variance of `needed` times v. Solve for the "
            "deviation of one."
        ),
    ],
)
def check_noise_share(function):
    """Exercise 2."""
    for z, norm, needed in ((1.0, 3.0, 4), (0.5, 4.0, 14), (3.0, 1.0, 100)):
        answer, right = function(z, norm, needed), z * norm / math.sqrt(needed)
        if not np.isscalar(answer) or isinstance(answer, str | bool):
            return f"Return a number; you return {type(answer).__name__}."
        if math.isclose(answer, right, rel_tol=1e-6):
            continue
        hints = {
            "Variances add up, not standard deviations: a share is larger than that.": z
            * norm
            / needed,
            "That is the whole noise; the others add theirs, too.": z * norm,
            "The noise multiplier is in units of the norm S.": z / math.sqrt(needed),
            "That is the variance.": right**2,
        }
        for hint, wrong in hints.items():
            if math.isclose(answer, wrong, rel_tol=1e-6):
                return hint
        return f"z = {z}, S = {norm}, {needed} needed: expected {right:.4f}, got {answer:.4f}."
    return None


@exercise(
    "Pairing takes away what makes a record easy or hard. What is left is luck with records; luck "
    "with trainings takes further trainings.",
    hints=[
        "Which record lost how much? One number for each record comes first, then their mean.",
        (
            "A standard error is the standard deviation of these numbers (with ddof=1, because "
            "their mean was estimated) over the root of how many there are."
        ),
    ],
)
def check_taken_away(function):
    """Of the notebook on why the federation leaked less."""
    draw = np.random.default_rng(0)
    for records in (8, 5, 30):
        before = draw.uniform(2, 13, records)
        after = before - draw.normal(3, 1, records)
        answer, less = function(before.copy(), after.copy()), before - after
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            return "Return two numbers: how much less, and twice its standard error."
        if math.isclose(answer[0], -less.mean(), rel_tol=1e-6):
            return "How much *less*: what was there before, minus what is left."
        if not math.isclose(answer[0], less.mean(), rel_tol=1e-6):
            return f"{records} records: expected {less.mean():.3f} bits less, got {answer[0]:.3f}."
        error = less.std(ddof=1) / math.sqrt(records)
        hints = {
            "That is the standard error; give twice of it.": error,
            "That is the spread of single records; their mean varies less.": 2 * less.std(ddof=1),
            "The mean was estimated from the same records: divide by n - 1 (ddof=1).": (
                2 * less.std() / math.sqrt(records)
            ),
            "Those are the same records, before and after: take the spread of the differences.": (
                2 * math.sqrt((before.var(ddof=1) + after.var(ddof=1)) / records)
            ),
        }
        if math.isclose(answer[1], 2 * error, rel_tol=1e-6):
            continue
        for hint, wrong in hints.items():
            if math.isclose(answer[1], wrong, rel_tol=1e-6):
                return hint
        return f"{records} records: expected ± {2 * error:.3f}, got {answer[1]:.3f}."
    return None


@exercise(
    "A share of 0 says that the gradient could hold this vector, not that it does: in a span that "
    "is everything, every word fits.",
    hints=[
        (
            "Which mixture of the rows comes nearest to x? np.linalg.lstsq finds it; what is left "
            "is outside."
        ),
        (
            "The rows are the columns of gradient.T. Compare the length of what is left with the "
            "length of x."
        ),
    ],
)
def check_share_outside(function):
    """Of the notebook on text from an update."""
    draw = np.random.default_rng(0)
    gradient = draw.normal(size=(7, 3)) @ draw.normal(size=(3, 10))  # seven rows, but of rank 3
    inside = draw.normal(size=7) @ gradient
    for x in (draw.normal(size=10), inside, inside + 0.1 * draw.normal(size=10)):
        answer = function(x.copy(), gradient.copy())
        if not np.isscalar(answer) or isinstance(answer, str | bool):
            return f"Return a number; you return {type(answer).__name__}."
        nearest = gradient.T @ np.linalg.lstsq(gradient.T, x, rcond=None)[0]
        far, length = np.linalg.norm(x - nearest), np.linalg.norm(x)
        hints = {
            "That is the length outside; its share of the length of x is wanted.": far,
            "That is the share inside.": np.linalg.norm(nearest) / length,
            "Of lengths, not of their squares.": (far / length) ** 2,
            "The rows are not at right angles, nor of length 1: x's products with them are not "
            "yet its nearest point.": np.linalg.norm(x - gradient.T @ (gradient @ x)) / length,
        }
        if math.isclose(answer, far / length, abs_tol=1e-6):
            continue
        for hint, wrong in hints.items():
            if math.isclose(answer, wrong, abs_tol=1e-6):
                return hint
        return f"Expected a share of {far / length:.3f} outside, got {answer:.3f}."
    return None
