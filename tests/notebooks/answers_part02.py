"""Answers to the exercises of Part 2: right ones, and wrong ones with their hints.

``RIGHT``: by name, which check and the answer. ``WRONG``: the same and a pattern of the hint.
A name begins with the lesson and the exercise: ``"L2.1 full"``.
"""

import math
from collections import Counter

import numpy as np
import torch


def cosines(query, records):
    lengths = np.linalg.norm(records, axis=1)
    return records @ query / np.where(lengths > 0, lengths, 1)


def nearest(query, records, k):
    return np.argsort(-cosines(query, records), kind="stable")[:k].tolist()


def nearest_of_nan(query, records, k):
    return np.argsort(records @ query / np.linalg.norm(records, axis=1))[::-1][:k].tolist()


def by_distance(query, records, k):
    return np.argsort(np.linalg.norm(records - query, axis=1), kind="stable")[:k].tolist()


def vote(labels):
    return Counter(labels).most_common(1)[0][0]


def last_in_a_tie(labels):
    return Counter(labels[::-1]).most_common(1)[0][0]


def leaves(method, at_home):
    given = {
        "examples": {"some records"},
        "retrieval": {"some records"},
        "fine-tuning": {"all records"},
        "federation": {"weights"},
    }.get(method, set())
    return given & {"weights"} if at_home else given | {"question"}


def leaves_all(method, at_home):
    return leaves(method, at_home) | ({"all records"} if method == "federation" else set())


def lora_size(shapes, rank):
    return sum(rank * (i + o) for i, o in shapes)


def merge(weight, a, b, alpha):
    return weight + alpha / len(a) * b @ a


def choose(losses):
    totals = [sum(own) for own in losses]
    return totals.index(min(totals))


def means(losses):
    averages = [sum(own) / len(own) for own in losses]
    return averages.index(min(averages))


def largest(losses):
    totals = [sum(own) for own in losses]
    return totals.index(max(totals))


def stack(bs, as_):
    return torch.cat(bs, dim=1) / len(bs), torch.cat(as_)


def clinics_needed(z, cohort, share, target):
    return cohort * target / z / share


def run_megabytes(parameters, bits, cohort, rounds):
    return parameters * bits / 8 * 2 * cohort * rounds / 1e6


def group_epsilon(epsilon, delta, copies):
    return copies * epsilon, delta * sum(np.exp(i * epsilon) for i in range(copies))


def min_k(values, k):
    return np.sort(values)[: max(1, int(k * len(values)))].mean()


def exposure(true, others):
    return np.log2(len(others) + 1) - np.log2(1 + (others <= true).sum())


def choose_defence(rows, most_loss):
    fitting = [row for row in rows if row["loss"] <= most_loss]
    best = min(fitting, key=lambda row: (row["exposure"], row["auc"]), default=None)
    return best and best["name"]


def any_defence(rows, most_loss):
    return choose_defence(rows, most_loss) or rows[0]["name"]


def by_exposure_alone(rows, most_loss):
    fitting = [row for row in rows[::-1] if row["loss"] <= most_loss]
    return min(fitting, key=lambda row: row["exposure"])["name"] if fitting else None


def open_secret(points, prime):
    secret = 0
    for x, y in points:
        for other, _ in points:
            if other != x:
                y = y * other * pow(other - x, -1, prime)
        secret += y
    return secret % prime


def open_with_floats(points, prime):
    return sum(y * np.prod([o / (o - x) for o, _ in points if o != x]) for x, y in points)


def noise_share(z, norm, needed):
    return z * norm / np.sqrt(needed)


def clients_at_a_time(cpus, gpus, cpus_each, gpus_each):
    by_cpu = cpus // cpus_each
    return min(by_cpu, gpus * int(1 / gpus_each)) if gpus_each else by_cpu


def levels(clients, at_most):
    count = 1
    while clients > at_most:
        clients, count = -(-clients // at_most), count + 1
    return count


def taken_away(before, after, spread=2.0, ddof=1):
    less = before - after
    return less.mean(), spread * less.std(ddof=ddof) / math.sqrt(len(less))


def unpaired(before, after):
    both = before.var(ddof=1) + after.var(ddof=1)
    return (before - after).mean(), 2 * math.sqrt(both / len(before))


def nearest_in(gradient, x):
    return gradient.T @ np.linalg.lstsq(gradient.T, x, rcond=None)[0]


def share_outside(x, gradient):
    return np.linalg.norm(x - nearest_in(gradient, x)) / np.linalg.norm(x)


def weighted_means(bs, as_, counts, total=None):
    shares = [n / (total or sum(counts)) for n in counts]
    products = sum(w * b @ a for w, b, a in zip(shares, bs, as_, strict=True))
    mean_a = sum(w * a for w, a in zip(shares, as_, strict=True))
    return products, sum(w * b for w, b in zip(shares, bs, strict=True)) @ mean_a


def weighted_residual(bs, as_, counts, total=None):
    return torch.sub(*weighted_means(bs, as_, counts, total))


def noise_left(z, clinics, in_league):
    return z * math.sqrt(clinics - in_league)


def from_zero(block, bits, most=None, nearest=np.round):
    step = (np.abs(block).max() if most is None else most) / (2 ** (bits - 1) - 1)
    return nearest(block / step) * step if step else block


def all_steps(block, bits):
    step = np.abs(block).max() / (2**bits - 1)
    return np.round(block / step) * step


def shared_in_order(one, two):
    longest = np.zeros((len(one) + 1, len(two) + 1), int)
    for i, word in enumerate(one, 1):
        for j, other in enumerate(two, 1):
            without = max(longest[i - 1, j], longest[i, j - 1])
            longest[i, j] = longest[i - 1, j - 1] + 1 if word == other else without
    return int(longest[-1, -1])


def next_found(answer, definition):
    left, count = list(definition), 0
    for word in answer:
        if word in left:
            left, count = left[left.index(word) + 1 :], count + 1
    return count


def rouge_l(answer, definition, shared=shared_in_order):
    return 2 * shared(answer, definition) / (len(answer) + len(definition))


RIGHT = {
    "L1.1": ("check_nearest", nearest),
    "L1.2": ("check_vote", vote),
    "L1.3": ("check_leaves", leaves),
    "L2.1": ("check_lora_size", lora_size),
    "L2.2": ("check_merge", merge),
    "L2.3": ("check_choice", choose),
    "L2.size": ("check_from_zero", from_zero),
    "L2.writing": ("check_rouge_l", rouge_l),
    "L3.1": ("check_stack", stack),
    "L3.2": ("check_clinics_needed", clinics_needed),
    "L3.3": ("check_run_megabytes", run_megabytes),
    "L3.averaging": ("check_weighted_residual", weighted_residual),
    "L3.privacy": ("check_noise_left", noise_left),
    "L4.1": ("check_group_epsilon", group_epsilon),
    "L4.2": ("check_exposure", exposure),
    "L4.3": ("check_defence", choose_defence),
    "L4.4": ("check_min_k", min_k),
    "L4.text": ("check_share_outside", share_outside),
    "L4.why": ("check_taken_away", taken_away),
    "L4.encryption 1": ("check_open_secret", open_secret),
    "L4.encryption 2": ("check_noise_share", noise_share),
    "L5.1": ("check_clients_at_a_time", clients_at_a_time),
    "L5.2": ("check_levels", levels),
}
WRONG = {
    "L1.1 product": (
        "check_nearest",
        lambda q, r, k: np.argsort(-r @ q, kind="stable")[:k],
        "Long records win",
    ),
    "L1.1 distance": ("check_nearest", by_distance, "use the angle"),
    "L1.1 empty": ("check_nearest", nearest_of_nan, "0 / 0 is NaN"),
    "L1.1 empty last": (
        "check_nearest",
        lambda q, r, k: np.argsort(-(r @ q) / np.linalg.norm(r, axis=1), kind="stable")[:k],
        "nearer than one below 0",
    ),
    "L1.1 order": ("check_nearest", lambda *a: sorted(nearest(*a)), "nearest comes first"),
    "L1.1 farthest": (
        "check_nearest",
        lambda q, r, k: np.argsort(cosines(q, r), kind="stable")[:k],
        "the farthest",
    ),
    "L1.1 all": ("check_nearest", lambda q, r, k: nearest(q, r, 5), "you return 5"),
    "L1.1 one": ("check_nearest", lambda q, r, k: 0, "a list of k integers"),
    "L1.1 others": ("check_nearest", lambda q, r, k: [3, 1, 4][:k], "expected"),
    "L1.2 nearest": ("check_vote", lambda labels: labels[0], "most say cardiology"),
    "L1.2 tie": ("check_vote", last_in_a_tie, "A tie"),
    "L1.2 count": ("check_vote", lambda labels: Counter(labels).most_common(1)[0], "one label"),
    "L1.3 none": ("check_leaves", lambda *a: set(), "a patient's data too"),
    "L1.3 text": ("check_leaves", lambda *a: "question", "Return a set"),
    "L1.3 home": ("check_leaves", lambda m, h: leaves(m, False), "model comes to the data"),
    "L1.3 weights": ("check_leaves", lambda m, h: leaves(m, h) - {"weights"}, "as weights"),
    "L1.3 pooled": ("check_leaves", leaves_all, "stays in the clinic"),
    "L1.3 no records": (
        "check_leaves",
        lambda m, h: leaves(m, h) - {"some records"},
        r"expected .'question', 'some records'",
    ),
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
    "L2.3 means": ("check_choice", means, "favours long names"),
    "L2.3 worst token": (
        "check_choice",
        lambda losses: min(range(len(losses)), key=lambda i: max(losses[i])),
        r"3.0\]\], expected label 0, got 1",
    ),
    "L2.3 largest": ("check_choice", largest, "choose the smallest"),
    "L2.3 no such label": ("check_choice", lambda x: 7, "expected label 1"),
    "L2.size counts": (
        "check_from_zero",
        lambda w, bits: np.round(w / (np.abs(w).max() / (2 ** (bits - 1) - 1))),
        "counts of steps",
    ),
    "L2.size cut": (
        "check_from_zero",
        lambda w, bits: from_zero(w, bits, nearest=np.trunc),
        "nearest",
    ),
    "L2.size signed": (
        "check_from_zero",
        lambda w, bits: from_zero(w, bits, most=w.max()),
        "negative one",
    ),
    "L2.size all": ("check_from_zero", lambda w, bits: all_steps(w, bits), "on each side"),
    "L2.size below": (
        "check_from_zero",
        lambda w, bits: from_zero(w, bits, most=-w.min()),
        "largest difference",
    ),
    "L2.size zeros": (
        "check_from_zero",
        lambda w, bits: from_zero(w, bits) if w.any() else w * np.nan,
        "0 / 0 is NaN",
    ),
    "L2.size one": ("check_from_zero", lambda w, bits: 1.0, "as many weights"),
    "L2.size off": ("check_from_zero", lambda w, bits: from_zero(w, bits) + 1, "is 1.000"),
    "L2.writing any order": (
        "check_rouge_l",
        lambda a, d: rouge_l(a, d, lambda a, d: (Counter(a) & Counter(d)).total()),
        "same order",
    ),
    "L2.writing greedy": (
        "check_rouge_l",
        lambda a, d: rouge_l(a, d, next_found),
        "the library says",
    ),
    "L2.writing recall": (
        "check_rouge_l",
        lambda a, d: shared_in_order(a, d) / len(d),
        "share of the definition's words only",
    ),
    "L2.writing precision": (
        "check_rouge_l",
        lambda a, d: shared_in_order(a, d) / len(a),
        "share of the answer's words only",
    ),
    "L2.writing text": ("check_rouge_l", lambda a, d: "good", "Return a number"),
    "L2.writing off": ("check_rouge_l", lambda a, d: rouge_l(a, d) / 3, "the library says"),
    "L3.1 mean": ("check_stack", lambda b, a: (sum(b) / 3, sum(a) / 3), "the rank grows"),
    "L3.1 sum": ("check_stack", lambda b, a: (torch.cat(b, 1), torch.cat(a)), "That is the sum"),
    "L3.1 twice": (
        "check_stack",
        lambda b, a: (torch.cat(b, 1) / 3, torch.cat(a) / 3),
        "divide one of them",
    ),
    "L3.1 one": ("check_stack", lambda b, a: sum(b), "two matrices"),
    "L3.1 flat": ("check_stack", lambda b, a: (b[0], a[0][0]), "must be matrices"),
    "L3.1 wrong way": ("check_stack", lambda b, a: (torch.cat(b), a[0]), "b needs 5 rows"),
    "L3.1 first": ("check_stack", lambda b, a: (b[0], a[0]), "largest difference"),
    "L3.2 cohort": ("check_clinics_needed", lambda z, c, s, t: c * t / z, "That is the cohort"),
    "L3.2 squared": (
        "check_clinics_needed",
        lambda z, c, s, t: c * (t / z) ** 2 / s,
        "no squares",
    ),
    "L3.2 text": ("check_clinics_needed", lambda *a: "many", "Return a number"),
    "L3.2 twice": ("check_clinics_needed", lambda *a: 2 * clinics_needed(*a), "expected 1000"),
    "L3.3 one way": ("check_run_megabytes", lambda *a: run_megabytes(*a) / 2, "way up"),
    "L3.3 bits": ("check_run_megabytes", lambda *a: run_megabytes(*a) * 8, "8 bits"),
    "L3.3 bytes": ("check_run_megabytes", lambda *a: run_megabytes(*a) * 1e6, "a million"),
    "L3.3 none": ("check_run_megabytes", lambda *a: None, "Return a number"),
    "L3.3 off": ("check_run_megabytes", lambda *a: run_megabytes(*a) * 1.5, "expected about"),
    "L3.averaging equal": (
        "check_weighted_residual",
        lambda b, a, n: weighted_residual(b, a, [1, 1, 1]),
        "weigh them by their patients",
    ),
    "L3.averaging sums": (
        "check_weighted_residual",
        lambda b, a, n: weighted_residual(b, a, n, total=1),
        "add up to 1",
    ),
    "L3.averaging sign": (
        "check_weighted_residual",
        lambda *a: -weighted_residual(*a),
        "other way round",
    ),
    "L3.averaging products": (
        "check_weighted_residual",
        lambda *a: weighted_means(*a)[0],
        "mean of the products",
    ),
    "L3.averaging factors": (
        "check_weighted_residual",
        lambda *a: weighted_means(*a)[1],
        "product of the averaged factors",
    ),
    "L3.averaging list": ("check_weighted_residual", lambda b, a, n: b, "Return one matrix"),
    "L3.averaging off": (
        "check_weighted_residual",
        lambda *a: weighted_residual(*a) + 0.5,
        "largest difference is 0.5",
    ),
    "L3.privacy added": ("check_noise_left", lambda z, n, k: z * (n - k), "Variances add up"),
    "L3.privacy all": ("check_noise_left", lambda z, n, k: z * n**0.5, "subtract their own"),
    "L3.privacy one": (
        "check_noise_left",
        lambda z, n, k: noise_left(z, n, min(k, 1)),
        "know more of them",
    ),
    "L3.privacy known": ("check_noise_left", lambda z, n, k: z * k**0.5, "what is left"),
    "L3.privacy text": ("check_noise_left", lambda *a: "much", "Return a number"),
    "L3.privacy off": ("check_noise_left", lambda *a: 3 * noise_left(*a), "expected 6.538"),
    "L4.1 delta": ("check_group_epsilon", lambda e, d, n: (n * e, n * d), "multiplies the deltas"),
    "L4.1 epsilon": ("check_group_epsilon", lambda e, d, n: (e, d), "expected epsilon 3"),
    "L4.1 one number": ("check_group_epsilon", lambda e, d, n: n * e, "Return two numbers"),
    "L4.1 off": ("check_group_epsilon", lambda e, d, n: (n * e, 9.0), "expected delta"),
    "L4.4 likeliest": ("check_min_k", lambda v, k: -min_k(-v, k), "take the least likely"),
    "L4.4 sum": ("check_min_k", lambda v, k: min_k(v, k) * max(1, int(k * len(v))), "their sum"),
    "L4.4 all": ("check_min_k", lambda v, k: v.mean(), "mean over all tokens"),
    "L4.4 sign": ("check_min_k", lambda v, k: -min_k(v, k), "keep the sign"),
    "L4.4 none": (
        "check_min_k",
        lambda v, k: np.sort(v)[: int(k * len(v))].sum() / max(1e-9, int(k * len(v))),
        "take at least one",
    ),
    "L4.4 text": ("check_min_k", lambda v, k: "low", "Return a number"),
    "L4.4 off": ("check_min_k", lambda v, k: min_k(v, k) - 1, "expected -"),
    "L4.2 nats": ("check_exposure", lambda t, o: exposure(t, o) * np.log(2), "base 2"),
    "L4.2 ties": ("check_exposure", lambda t, o: exposure(t - 1e-9, o), "just as much"),
    "L4.2 highest": ("check_exposure", lambda t, o: 3 - np.log2(1 + (o > t).sum()), "lowest loss"),
    "L4.2 list": ("check_exposure", lambda t, o: [1.0], "Return a number"),
    "L4.2 off": ("check_exposure", lambda t, o: exposure(t, o) + 1, "has rank 1 of 8"),
    "L4.3 dear": ("check_defence", lambda rows, loss: "DP-SGD", "above the budget"),
    "L4.3 unknown": ("check_defence", lambda rows, loss: "magic", "one of the rows"),
    "L4.3 nothing fits": ("check_defence", any_defence, "return None"),
    "L4.3 tie": ("check_defence", by_exposure_alone, "lower AUC"),
    "L4.3 exposed": ("check_defence", lambda rows, loss: "none", "is less exposed"),
    "L4.text length": (
        "check_share_outside",
        lambda x, g: share_outside(x, g) * np.linalg.norm(x),
        "length outside",
    ),
    "L4.text inside": (
        "check_share_outside",
        lambda x, g: np.linalg.norm(nearest_in(g, x)) / np.linalg.norm(x),
        "share inside",
    ),
    "L4.text squares": ("check_share_outside", lambda *a: share_outside(*a) ** 2, "squares"),
    "L4.text rows": (
        "check_share_outside",
        lambda x, g: np.linalg.norm(x - g.T @ (g @ x)) / np.linalg.norm(x),
        "right angles",
    ),
    "L4.text all": (
        "check_share_outside",
        lambda x, g: share_outside(x, np.linalg.qr(g.T)[0].T),
        "Expected a share",
    ),
    "L4.text none": ("check_share_outside", lambda x, g: None, "Return a number"),
    "L4.why one": ("check_taken_away", lambda b, a: taken_away(b, a)[0], "Return two numbers"),
    "L4.why sign": ("check_taken_away", lambda b, a: taken_away(a, b), "minus what is left"),
    "L4.why mean": ("check_taken_away", lambda b, a: (0.0, 1.0), "bits less, got 0.000"),
    "L4.why once": ("check_taken_away", lambda b, a: taken_away(b, a, spread=1), "give twice"),
    "L4.why spread": (
        "check_taken_away",
        lambda b, a: ((b - a).mean(), 2 * (b - a).std(ddof=1)),
        "their mean varies less",
    ),
    "L4.why ddof": ("check_taken_away", lambda b, a: taken_away(b, a, ddof=0), "n - 1"),
    "L4.why unpaired": ("check_taken_away", unpaired, "spread of the differences"),
    "L4.why off": ("check_taken_away", lambda b, a: taken_away(b, a, spread=3), "expected ±"),
    "L4.encryption 1 floats": ("check_open_secret", open_with_floats, "pow"),
    "L4.encryption 1 its own": ("check_open_secret", lambda p, m: p[0][1], "the value at 0"),
    "L4.encryption 1 not reduced": (
        "check_open_secret",
        lambda p, m: open_secret(p, m) + m,
        "multiples of 97",
    ),
    "L4.encryption 1 sum": (
        "check_open_secret",
        lambda p, m: (sum(y for _, y in p) + 1) % m,
        "expected",
    ),
    "L4.encryption 1 text": ("check_open_secret", lambda p, m: "s", "you return str"),
    "L4.encryption 2 divided": (
        "check_noise_share",
        lambda z, s, n: z * s / n,
        "Variances add up",
    ),
    "L4.encryption 2 whole": ("check_noise_share", lambda z, s, n: z * s, "the others add"),
    "L4.encryption 2 no norm": (
        "check_noise_share",
        lambda z, s, n: z / np.sqrt(n),
        "units of the norm",
    ),
    "L4.encryption 2 variance": (
        "check_noise_share",
        lambda z, s, n: z**2 * s**2 / n,
        "the variance",
    ),
    "L4.encryption 2 off": (
        "check_noise_share",
        lambda z, s, n: 3 * z * s / np.sqrt(n),
        "expected 1.5000, got 4.5000",
    ),
    "L4.encryption 2 text": ("check_noise_share", lambda z, s, n: "s", "Return a number"),
    "L5.1 only CPUs": ("check_clients_at_a_time", lambda c, g, ce, ge: c // ce, "the GPUs do not"),
    "L5.1 straddle": (
        "check_clients_at_a_time",
        lambda c, g, ce, ge: min(c // ce, int(g / ge)) if ge else c // ce,
        "must lie on one GPU",
    ),
    "L5.1 one each": ("check_clients_at_a_time", lambda c, g, ce, ge: c, "1 at a time, not 2"),
    "L5.1 float": ("check_clients_at_a_time", lambda c, g, ce, ge: c / ce, "whole number"),
    "L5.2 logarithm": (
        "check_levels",
        lambda c, m: max(1, math.ceil(math.log(c) / math.log(m))),
        "count with whole numbers",
    ),
    "L5.2 rounded down": ("check_levels", lambda c, m: max(1, levels(c, m) - 1), "leave some out"),
    "L5.2 too many": ("check_levels", lambda c, m: levels(c, m) + 1, "1 levels, not 2"),
    "L5.2 text": ("check_levels", lambda c, m: "two", "whole number of levels"),
}
