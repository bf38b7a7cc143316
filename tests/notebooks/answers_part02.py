"""Answers to the exercises of Part 2: right ones, and wrong ones with their hints.

``RIGHT``: by name, which check and the answer. ``WRONG``: the same and a pattern of the hint.
A name begins with the lesson and the exercise: ``"L2.1 full"``.
"""


def lora_size(shapes, rank):
    return sum(rank * (i + o) for i, o in shapes)


def merge(weight, a, b, alpha):
    return weight + alpha / len(a) * b @ a


def choose(losses):
    means = [sum(own) / len(own) for own in losses]
    return means.index(min(means))


def sums(losses):
    totals = [sum(own) for own in losses]
    return totals.index(min(totals))


def largest(losses):
    means = [sum(own) / len(own) for own in losses]
    return means.index(max(means))


RIGHT = {
    "L2.1": ("check_lora_size", lora_size),
    "L2.2": ("check_merge", merge),
    "L2.3": ("check_choice", choose),
}
WRONG = {
    "L2.1 full": ("check_lora_size", lambda s, r: sum(i * o for i, o in s), "frozen layers"),
    "L2.1 product": ("check_lora_size", lambda s, r: r * sum(i * o for i, o in s), "add up"),
    "L2.1 one": ("check_lora_size", lambda s, r: sum(r * i for i, _ in s), "two matrices"),
    "L2.1 float": ("check_lora_size", lambda *a: float(lora_size(*a)), "Return an integer"),
    "L2.1 off": ("check_lora_size", lambda *a: lora_size(*a) + 1, "expected 460,800"),
    "L2.2 unscaled": ("check_merge", lambda w, a, b, s: w + b @ a, "alpha / rank"),
    "L2.2 by alpha": ("check_merge", lambda w, a, b, s: w + s * b @ a, "alpha / rank"),
    "L2.2 adapter": ("check_merge", lambda w, a, b, s: s / 2 * b @ a, "Add the frozen weight"),
    "L2.2 in place": ("check_merge", lambda w, a, b, s: w.add_(s / 2 * b @ a), "new matrix"),
    "L2.2 shape": ("check_merge", lambda w, a, b, s: merge(w, a, b, s).T, r"shape \(4, 6\)"),
    "L2.2 minus": ("check_merge", lambda w, a, b, s: w - s / 2 * b @ a, "largest difference"),
    "L2.3 sums": ("check_choice", sums, "favour short options"),
    "L2.3 largest": ("check_choice", largest, "choose the smallest"),
    "L2.3 no such option": ("check_choice", lambda x: 7, "expected option 1"),
}
