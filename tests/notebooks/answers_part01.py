"""Answers to the exercises of Part 1: right ones, and wrong ones with their hints.

``RIGHT``: by name, which check and the answer. ``WRONG``: the same and a pattern of the hint.
A name begins with the lesson and the exercise: ``"L4.1 no clip"``.
"""

import math

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric import x25519

from utils.privacy import epsilon


def changed_in_place(updates, sizes):
    updates[0]["w"] += updates[1]["w"]
    updates[0]["w"] /= 2
    return {"w": updates[0]["w"]}


def cosine(round_, rounds, lr):
    return lr / 2 * (1 + math.cos(math.pi * (round_ - 1) / rounds))


def seconds(n, bits_down, bits_up, speed_down, speed_up):
    return n * (bits_down / speed_down + bits_up / speed_up) / 1e6


def round_at_random(values):
    return np.floor(values + np.random.random(values.shape))


def top_k(update, memory, k):
    wanted = update + memory
    sent = np.where(np.abs(wanted) >= np.sort(np.abs(wanted))[-k], wanted, 0)
    return sent, wanted - sent


def momentum(old, average, velocity, beta, server_lr):
    velocity = beta * velocity + (old - average)
    return old - server_lr * velocity, velocity


def velocity_in_place(old, average, velocity, beta, server_lr):
    velocity *= beta
    velocity += old - average
    return old - server_lr * velocity, velocity


def model_in_place(old, average, velocity, beta, server_lr):
    velocity = beta * velocity + (old - average)
    old -= server_lr * velocity
    return old, velocity


def pooled_variance(answers):
    n, total, squares = np.sum(answers, axis=0)
    return squares / n - (total / n) ** 2


def bisected(count_at_most, patients, low, high, share, width=0.25):
    while high - low > width:
        middle = (low + high) / 2
        if count_at_most(middle) < share * patients:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def threshold(probabilities, sick, share):
    of_the_sick = np.sort(probabilities[sick == 1])[::-1]
    return of_the_sick[int(np.ceil(share * len(of_the_sick))) - 1]


def masked(points, secret):
    key = x25519.X25519PrivateKey.from_private_bytes(secret)
    return [key.exchange(x25519.X25519PublicKey.from_public_bytes(point)) for point in points]


def own_accuracy(accuracies, counts):
    return (accuracies * counts).sum() / counts.sum()


def whose_phone(received, trained):
    return int((trained["classifier.bias"] - received["classifier.bias"]).argmax())


def round_minutes(minutes, taken, deadline):
    return min(np.sort(minutes)[taken - 1], deadline)


def total(cost, prices):
    return sum(c * p for c, p in zip(cost, prices, strict=True))


def cheapest(costs, prices, key=total, best=min):
    reached = {name: key(cost, prices) for name, cost in costs.items() if cost is not None}
    return best(reached, key=reached.get) if reached else None


def private_mean(updates, norm, z, expected, rng, lift=1.0):
    lengths = np.linalg.norm(updates, axis=1, keepdims=True)
    total = (updates / np.maximum(lengths / norm, lift)).sum(axis=0)
    return (total + rng.normal(0, z * norm, total.shape)) / expected


def noised_by_client(updates, norm, z, expected, rng):
    noise = rng.normal(0, z * norm, updates.shape).sum(axis=0)
    return private_mean(updates, norm, 0, expected, rng) + noise / expected


def clipped_by_number(updates, norm, z, expected, rng):
    total = np.clip(updates, -norm, norm).sum(axis=0)
    return (total + rng.normal(0, z * norm, total.shape)) / expected


def rounds_within(budget, z, rate, delta):
    rounds = 0
    while epsilon(z, rate, rounds + 1, delta) <= budget:
        rounds += 1
    return rounds


def most_found(epsilon_, delta, fpr):
    odds = math.exp(epsilon_)
    return min(1.0, odds * fpr + delta, 1 - (1 - fpr - delta) / odds)


def mask_of(client, clients, pair_mask, sign=-1):
    total = np.zeros(50, np.uint32)
    for other in clients:
        if other != client:
            mask = pair_mask(client, other)
            total += mask if client < other else (-mask if sign < 0 else mask)
    return total


def mask_of_neighbours(client, clients, pair_mask):
    """A ring: sums to zero, but two neighbours together unmask a client."""
    i = clients.index(client)
    after, before = clients[(i + 1) % len(clients)], clients[i - 1]
    return pair_mask(client, after) - pair_mask(before, client)


def largest_signed(wanted, k):
    sent = np.where(wanted >= np.sort(wanted)[-k], wanted, 0)
    return sent, wanted - sent


def memory_in_place(update, memory, k):
    memory += update
    return top_k(memory, 0, k)


def trimmed(updates, beta):
    cut = int(beta * len(updates))
    return np.sort(updates, axis=0)[cut : len(updates) - cut].mean(axis=0)


def trimmed_in_place(updates, beta):
    updates.sort(axis=0)
    return trimmed(updates, beta)


def trimmed_by_length(updates, beta):
    cut, order = int(beta * len(updates)), np.argsort(np.linalg.norm(updates, axis=1))
    return updates[order][cut : len(updates) - cut].mean(axis=0)


def trimmed_upwards(updates, beta):
    cut = math.ceil(round(beta * len(updates), 9))
    return np.sort(updates, axis=0)[cut : len(updates) - cut].mean(axis=0)


def near_ones(updates):
    """Squared distances from each client, the nearest first: its own is 0."""
    return np.sort(np.square(updates[:, None] - updates[None]).sum(axis=2), axis=1)


def krum(updates, f, first=1, more=0):
    return near_ones(updates)[:, first : len(updates) - f - 1 + more].sum(axis=1)


def krum_in_place(updates, f):
    updates -= updates.mean(axis=0)
    return krum(updates, f)


def tolerated(rule, n, least=0):
    factor, rest = {"FedAvg": (1, n), "FedMedian": (2, 1), "Krum": (2, 3), "Bulyan": (4, 3)}[rule]
    return max(least, (n - rest) // factor)


def who_answers(images, hospitals, components, centred=True, choose=torch.argmin):
    """By the residual of a PCA of each hospital's own images."""
    left = []
    for own in hospitals:
        mean = own.mean(dim=0) * centred
        v = torch.linalg.svd(own - mean, full_matrices=False).Vh[:components]
        left.append((images - mean - (images - mean) @ v.T @ v).norm(dim=1))
    return choose(torch.stack(left), dim=0)


def nearest_mean(images, hospitals, components):
    return who_answers(images, hospitals, 0)


def average_of_answers(weights, updates, sizes, quorum, whole=False, least=0):
    came = [(u, n) for u, n in zip(updates, sizes, strict=True) if u is not None]
    held = sum(n for _, n in came)
    if held <= least or held < quorum * sum(sizes):
        return weights
    total = sum(sizes) if whole else held
    return {name: sum(n / total * u[name] for u, n in came) for name in weights}


def average_of_answers_in_place(weights, updates, sizes, quorum):
    new = average_of_answers(weights, updates, sizes, quorum)
    if updates[0] is not None:
        updates[0]["w"] *= 0
    return {"w": new["w"].clone()}


def megabytes_down(clients, cohort, rounds, whole, change):
    again = cohort / clients
    return cohort * (whole + (rounds - 1) * (again * change + (1 - again) * whole))


RIGHT = {
    "L1.4": ("check_who_answers", who_answers),
    "L2.4": ("check_average_of_answers", average_of_answers),
    "L3.1": ("check_cosine_schedule", cosine),
    "L3.1 numpy": ("check_cosine_schedule", lambda *a: np.float64(cosine(*a))),
    "L3.momentum": ("check_server_momentum", momentum),
    "L3.momentum velocity towards the average": (  # the model is what counts
        "check_server_momentum",
        lambda o, a, v, beta, lr: (o + lr * (beta * v + (a - o)), beta * v + (a - o)),
    ),
    "L3.2": ("check_cheapest", cheapest),
    "L3.own": ("check_own_accuracy", own_accuracy),
    "L3.own average": ("check_own_accuracy", lambda a, n: np.average(a, weights=n)),
    "L3.minutes": ("check_round_minutes", round_minutes),
    "L4.1": ("check_private_mean", private_mean),
    "L4.2": ("check_masks", mask_of),
    "L4.2 the other one subtracts": ("check_masks", lambda *a: -mask_of(*a)),
    "L4.accounting": ("check_rounds", rounds_within),
    "L4.accounting numpy": ("check_rounds", lambda *a: np.int64(rounds_within(*a))),
    "L4.audit": ("check_most_found", most_found),
    "L4.audit numpy": ("check_most_found", lambda *a: np.float64(most_found(*a))),
    "L5.1": ("check_bill", seconds),
    "L5.2": ("check_rounding", round_at_random),
    "L5.3": ("check_top_k", top_k),
    "L5.downlink": ("check_megabytes_down", megabytes_down),
    "L6.1": ("check_variance", pooled_variance),
    "L6.speech": ("check_whose_phone", whose_phone),
    "L6.speech by rows": (
        "check_whose_phone",
        lambda r, t: (t["classifier.weight"] - r["classifier.weight"]).sum(dim=1).argmax(),
    ),
    "L6.2": ("check_quantile", bisected),
    "L6.3": ("check_threshold", threshold),
    "L6.columns": ("check_answer_for_counting", lambda p, s: sorted(masked(p, s))),
    "L6.columns shuffled": (
        "check_answer_for_counting",
        lambda p, s: [masked(p, s)[i] for i in np.random.default_rng().permutation(len(p))],
    ),
    "L7.1": ("check_trimmed_mean", trimmed),
    "L7.1 a list": ("check_trimmed_mean", lambda u, beta: trimmed(u, beta).tolist()),
    "L7.2": ("check_krum_scores", krum),
    "L7.3": ("check_tolerated_liars", tolerated),
    "L7.3 numpy": ("check_tolerated_liars", lambda *a: np.int64(tolerated(*a))),
}
WRONG = {
    "L1.1 precision": (
        "check_accuracy_by_digit",
        lambda m: m.diagonal() / m.sum(dim=0),
        "column sums",
    ),
    "L1.1 overall": (
        "check_accuracy_by_digit",
        lambda m: m.diagonal() / m.sum(),
        "digit 7 should be 0.75",
    ),
    "L1.1 scalar": ("check_accuracy_by_digit", lambda m: 0.9, "yours is a float"),
    "L1.1 counts": ("check_accuracy_by_digit", lambda m: m.sum(), r"of shape \(\)"),
    "L1.2 loudest": (
        "check_majority_vote",
        lambda p: p.mean(dim=0).argmax(dim=1),
        "Votes count, not volume",
    ),
    "L1.2 first model": (
        "check_majority_vote",
        lambda p: p[0].argmax(dim=1),
        "you chose",
    ),
    "L1.2 ties": (
        "check_majority_vote",
        lambda p: p.argmax(dim=2).mode(dim=0).values.where(torch.tensor(p.shape[1] > 1), 8),
        "In a tie",
    ),
    "L1.2 shape": ("check_majority_vote", lambda p: p.argmax(dim=2), r"of shape \(3, 3\)"),
    "L1.3 two sets": ("check_missing_sets", [{1, 2, 3}, {4, 5, 6}], "three sets of three"),
    "L1.3 four digits": ("check_missing_sets", [{1, 2, 3, 4}, {5, 6, 7}, {8, 9, 0}], "three sets"),
    "L1.3 no digits": ("check_missing_sets", [{10, 2, 3}, {5, 6, 7}, {8, 9, 0}], "from 0 to 9"),
    "L1.3 lost": ("check_missing_sets", [{1, 2, 3}] * 3, r"Nobody knows \[1, 2, 3\]"),
    "L1.3 works": ("check_missing_sets", [{1, 3, 7}, {2, 5, 8}, {4, 6, 9}], "still reaches 0.9"),
    "L1.3 nonsense": ("check_missing_sets", 7, "led to TypeError"),
    "L1.4 largest": (
        "check_who_answers",
        lambda i, h, c: who_answers(i, h, c, choose=torch.argmax),
        "largest residual",
    ),
    "L1.4 no mean": (
        "check_who_answers",
        lambda i, h, c: who_answers(i, h, c, centred=False),
        "own mean",
    ),
    "L1.4 all directions": (
        "check_who_answers",
        lambda i, h, c: who_answers(i, h, 784),
        "only the first `components`",
    ),
    "L1.4 one direction": (
        "check_who_answers",
        lambda i, h, c: who_answers(i, h, 1),
        "six hospitals reach 0.7",
    ),
    "L1.4 no direction": ("check_who_answers", nearest_mean, r"hospitals \[0, 1, 1\]|reach 0"),
    "L1.4 scalar": ("check_who_answers", lambda i, h, c: 0, "yours is a int"),
    "L2.4 all examples": (
        "check_average_of_answers",
        lambda w, u, n, q: average_of_answers(w, u, n, q, whole=True),
        "all 60 examples",
    ),
    "L2.4 alike": (
        "check_average_of_answers",
        lambda w, u, n, q: average_of_answers(w, u, [1, 1, 1], q),
        "weigh alike",
    ),
    "L2.4 strict": (
        "check_average_of_answers",
        lambda w, u, n, q: w if None in u else average_of_answers(w, u, n, q),
        "that is enough",
    ),
    "L2.4 no quorum": (
        "check_average_of_answers",
        lambda w, u, n, q: average_of_answers(w, u, n, 0),
        "the old model should stay",
    ),
    "L2.4 nobody": (
        "check_average_of_answers",
        lambda w, u, n, q: average_of_answers(w, u, n, q, least=-1),
        "0 of 60 examples .* the old model should stay",
    ),
    "L2.4 in place": (
        "check_average_of_answers",
        average_of_answers_in_place,
        "changed what it was given",
    ),
    "L2.4 list": ("check_average_of_answers", lambda w, u, n, q: [3, 1], "a dictionary"),
    "L2.1 weighted": (
        "check_equal_average",
        lambda u, n: {"w": sum(x["w"] * k for x, k in zip(u, n, strict=True)) / sum(n)},
        "still weights by examples",
    ),
    "L2.1 empty": (
        "check_equal_average",
        lambda u, n: {"w": sum(x["w"] for x in u) / len(u)},
        "0 examples and should be left out",
    ),
    "L2.1 sum": (
        "check_equal_average",
        lambda u, n: {"w": u[0]["w"] + u[1]["w"]},
        r"is \[1.5, 1\]",
    ),
    "L2.1 in place": ("check_equal_average", changed_in_place, "changed the updates"),
    "L2.1 list": ("check_equal_average", lambda u, n: [1.5, 1], "Return a dictionary"),
    "L2.2 above": (
        "check_rounds_to_reach",
        lambda a, t: next((i for i, x in enumerate(a) if x > t), None),
        "target 0.8, expected 1",
    ),
    "L2.2 last": (
        "check_rounds_to_reach",
        lambda a, t: next((i for i, x in enumerate(a) if x >= t), len(a)),
        "expected None, got 5",
    ),
    "L2.3 no evaluation": (
        "check_bytes",
        lambda r, c, p: r * c * 2 * p * 4 / 1e6,
        "also sent to evaluate",
    ),
    "L2.3 one way": ("check_bytes", lambda r, c, p: r * c * p * 4 / 1e6, "every direction"),
    "L2.3 four ways": ("check_bytes", lambda r, c, p: r * c * 4 * p * 4 / 1e6, "holds no weights"),
    "L2.3 bytes": ("check_bytes", lambda r, c, p: r * c * 3 * p * 4, "a megabyte 10"),
    "L3.1 one late": (
        "check_cosine_schedule",
        lambda r, n, lr: cosine(r + 1, n, lr),
        "Rounds count from 1",
    ),
    "L3.1 to 0 in the last round": (
        "check_cosine_schedule",
        lambda r, n, lr: cosine(r, n - 1, lr),
        r"Round 6 of 10, lr=0.2: expected 0.1, got 0.08264",
    ),
    "L3.1 constant": ("check_cosine_schedule", lambda r, n, lr: lr, "expected 0.1, got 0.2"),
    "L3.1 linear": (
        "check_cosine_schedule",
        lambda r, n, lr: lr * (1 - (r - 1) / n),
        "Round 25 of 25, lr=0.1: expected 0.0003943, got 0.004",
    ),
    "L3.1 not halved": (
        "check_cosine_schedule",
        lambda r, n, lr: 2 * cosine(r, n, lr),
        "Round 1 should have the full rate 0.1; you return 0.2",
    ),
    "L3.1 nothing": ("check_cosine_schedule", lambda r, n, lr: None, "you return NoneType"),
    "L3.momentum away": (
        "check_server_momentum",
        lambda o, a, v, beta, lr: momentum(o, 2 * o - a, v, beta, lr),
        "The sign is wrong",
    ),
    "L3.momentum no momentum": (
        "check_server_momentum",
        lambda o, a, v, beta, lr: momentum(o, a, v, 0, lr),
        r"Round 2: Flower's model is .*, yours .*velocity = beta",
    ),
    "L3.momentum velocity forgotten": (
        "check_server_momentum",
        lambda o, a, v, beta, lr: (momentum(o, a, v, beta, lr)[0], v),
        "Round 2: Flower's model is",
    ),
    "L3.momentum damped": (
        "check_server_momentum",
        lambda o, a, v, beta, lr: momentum(o, o - (1 - beta) * (o - a), v, beta, lr),
        "Round 1: Flower's model is",
    ),
    "L3.momentum no learning rate": (
        "check_server_momentum",
        lambda o, a, v, beta, lr: momentum(o, a, v, beta, 1),
        "Round 1: Flower's model is",
    ),
    "L3.momentum velocity in place": ("check_server_momentum", velocity_in_place, "make new ones"),
    "L3.momentum model in place": ("check_server_momentum", model_in_place, "make new ones"),
    "L3.momentum model only": (
        "check_server_momentum",
        lambda *a: momentum(*a)[0],
        "Return two arrays: the new model and the new velocity",
    ),
    "L3.2 None is free": (
        "check_cheapest",
        lambda c, p: min(c, key=lambda name: total(c[name] or (0,) * 4, p)),
        "'lost' never reached the target",
    ),
    "L3.2 dearest": (
        "check_cheapest",
        lambda c, p: cheapest(c, p, best=max),
        r"prices \(1, 0, 0, 0\), expected 'large cohort', got 'many rounds'",
    ),
    "L3.2 rounds only": (
        "check_cheapest",
        lambda c, p: cheapest(c, p, key=lambda cost, prices: cost[0]),
        r"prices \(0, 0, 0, 1\), expected 'many rounds', got 'large cohort'",
    ),
    "L3.2 prices ignored": (
        "check_cheapest",
        lambda c, p: cheapest(c, p, key=lambda cost, prices: sum(cost)),
        r"prices \(1, 0, 0, 0\), expected 'large cohort'",
    ),
    "L3.2 the cost": (
        "check_cheapest",
        lambda c, p: min(total(cost, p) for cost in c.values() if cost),
        "expected 'large cohort', got 10",
    ),
    "L3.2 a name for none": (
        "check_cheapest",
        lambda c, p: cheapest(c, p) or "none",
        "If no variant reached the target, return None",
    ),
    "L3.own unweighted": ("check_own_accuracy", lambda a, n: a[n > 0].mean(), "weigh them by its"),
    "L3.own all ten": ("check_own_accuracy", lambda a, n: a.mean(), "average over all ten"),
    "L3.own by digit": ("check_own_accuracy", lambda a, n: a * n, "Return one number"),
    "L3.own sum": ("check_own_accuracy", lambda a, n: (a * n).sum(), "expected 0.8000, got 32"),
    "L3.minutes unsorted": (
        "check_round_minutes",
        lambda m, taken, deadline: min(m[taken - 1], deadline),
        "sort the minutes first",
    ),
    "L3.minutes no deadline": (
        "check_round_minutes",
        lambda m, taken, deadline: np.sort(m)[taken - 1],
        "past the deadline",
    ),
    "L3.minutes always to the deadline": (
        "check_round_minutes",
        lambda m, taken, deadline: deadline if deadline < 50 else np.sort(m)[taken - 1],
        "why wait longer",
    ),
    "L3.minutes mean": ("check_round_minutes", lambda m, t, d: m.mean(), "got 4.6"),
    "L3.minutes who": ("check_round_minutes", lambda m, t, d: m < d, "Return one number"),
    "L4.1 no clip": (
        "check_private_mean",
        lambda u, s, z, n, r: (u.sum(0) + r.normal(0, z * s, 5)) / n,
        "Nothing is clipped",
    ),
    "L4.1 clip up": (
        "check_private_mean",
        lambda *a: private_mean(*a, lift=1e-9),
        "never scale up",
    ),
    "L4.1 by number": ("check_private_mean", clipped_by_number, "each client's row"),
    "L4.1 divided by those that came": (
        "check_private_mean",
        lambda u, s, z, n, r: private_mean(u, s, z, len(u), r),
        "not by those that came",
    ),
    "L4.1 sum": (
        "check_private_mean",
        lambda u, s, z, n, r: private_mean(u, s, z, 1, r),
        "Divide the sum",
    ),
    "L4.1 noise after": (
        "check_private_mean",
        lambda u, s, z, n, r: private_mean(u, s, 0, n, r) + r.normal(0, z * s, 5),
        "before the division",
    ),
    "L4.1 noise for each": ("check_private_mean", noised_by_client, "once, to the sum"),
    "L4.1 no noise": (
        "check_private_mean",
        lambda u, s, z, n, r: private_mean(u, s, 0, n, r),
        "There is no noise",
    ),
    "L4.1 noise of z": (
        "check_private_mean",
        lambda u, s, z, n, r: private_mean(u, s, 0, n, r) + r.normal(0, z, 5) / n,
        "should be 0.375",
    ),
    "L4.1 one noise": (
        "check_private_mean",
        lambda u, s, z, n, r: private_mean(u, s, 0, n, r) + r.normal(0, z * s) / n,
        "draw one for each",
    ),
    "L4.1 in place": (
        "check_private_mean",
        lambda u, *a: np.multiply(u, 1.5, out=u).sum(0),
        "make new ones",
    ),
    "L4.1 noise by the longest": (
        "check_private_mean",
        lambda u, s, z, n, r: (
            private_mean(u, s, 0, n, r)
            + r.normal(0, z * min(s, np.linalg.norm(u, axis=1).max()), 5) / n
        ),
        "which is private",
    ),
    "L4.1 not a number": (
        "check_private_mean",
        lambda u, s, z, n, r: (u / np.linalg.norm(u, axis=1, keepdims=True)).sum(0),
        "makes your answer NaN",
    ),
    "L4.1 scalar": ("check_private_mean", lambda *a: 1.0, "Return 5 numbers"),
    "L4.2 both add": ("check_masks", lambda *a: mask_of(*a, sign=1), "do not add up to zero"),
    "L4.2 nothing": ("check_masks", lambda *a: np.zeros(50, np.uint32), "hides nothing"),
    "L4.2 a ring": ("check_masks", mask_of_neighbours, "Every pair"),
    "L4.2 itself": (
        "check_masks",
        lambda c, clients, pair: sum(pair(c, other) for other in clients),
        "no mask with itself",
    ),
    "L4.2 peeking": (
        "check_masks",
        lambda c, clients, pair: pair(clients[0], clients[1]),
        "cannot know the mask",
    ),
    "L4.2 floats": ("check_masks", lambda *a: mask_of(*a).astype(float), "uint32"),
    "L4.accounting one late": ("check_rounds", lambda *a: rounds_within(*a) + 1, "spend more than"),
    "L4.accounting one early": (
        "check_rounds",
        lambda *a: max(rounds_within(*a) - 1, 0),
        "one more would still fit",
    ),
    "L4.accounting half": ("check_rounds", lambda *a: 2.5, "whole number of rounds"),
    "L4.audit one way": (
        "check_most_found",
        lambda e, d, f: min(1.0, math.exp(e) * f + d),
        "the other way round",
    ),
    "L4.audit no limit": ("check_most_found", lambda e, d, f: math.exp(e) * f + d, "more than all"),
    "L4.audit no delta": (
        "check_most_found",
        lambda e, d, f: most_found(e, 0.0, f),
        "δ is missing",
    ),
    "L4.audit nothing": ("check_most_found", lambda e, d, f: None, "Return one number"),
    "L4.audit ratio": ("check_most_found", lambda e, d, f: e * f, "expected 0.0272"),
    "L5.1 bytes": ("check_bill", lambda *a: 8 * seconds(*a), "in bits already"),
    "L5.1 divided": ("check_bill", lambda *a: seconds(*a) / 8, "nothing to divide by 8"),
    "L5.1 no mega": ("check_bill", lambda *a: 1e6 * seconds(*a), r"10\^6 bits a second"),
    "L5.1 at once": (
        "check_bill",
        lambda n, d, u, down, up: n * max(d / down, u / up) / 1e6,
        "one after the other",
    ),
    "L5.1 swapped": (
        "check_bill",
        lambda n, d, u, down, up: seconds(n, u, d, down, up),
        "Which speed goes with which direction",
    ),
    "L5.1 wrong": ("check_bill", lambda *a: 0.5 * seconds(*a), r"101770.*expected"),
    "L5.2 nearest": ("check_rounding", np.round, "always rounds the same way"),
    "L5.2 coin": (
        "check_rounding",
        lambda v: np.floor(v) + (np.random.random(v.shape) < 0.5) * (v % 1 > 0),
        "should be the distance from the lower neighbour",
    ),
    "L5.2 one draw": (
        "check_rounding",
        lambda v: np.floor(v + np.random.random()),
        "draw one number for each value",
    ),
    "L5.2 toward zero": (
        "check_rounding",
        lambda v: np.trunc(v + np.random.random(v.shape)),
        "(is not one of its neighbours|on average)",
    ),
    "L5.2 always up": ("check_rounding", lambda v: np.floor(v) + 1, "not one of its neighbours"),
    "L5.2 reals": ("check_rounding", lambda v: v, "should be integers"),
    "L5.2 one number": ("check_rounding", lambda v: 1.0, "as many numbers as there are values"),
    "L5.3 no memory": (
        "check_top_k",
        lambda u, m, k: top_k(u, 0 * m, k),
        "Round 2: what was sent and the memory do not add up",
    ),
    "L5.3 old memory": (
        "check_top_k",
        lambda u, m, k: (top_k(u, m, k)[0], m),
        "Round 1: what was sent and the memory do not add up",
    ),
    "L5.3 signed": ("check_top_k", lambda u, m, k: largest_signed(u + m, k), "largest of update"),
    "L5.3 short": (
        "check_top_k",
        lambda u, m, k: (top_k(u, m, k)[0][:k], top_k(u, m, k)[1]),
        "length of the update",
    ),
    "L5.3 too many": (
        "check_top_k",
        lambda u, m, k: top_k(u, m, k + 1),
        "3 numbers should be sent, not 4",
    ),
    "L5.3 memory in place": ("check_top_k", memory_in_place, "make new ones"),
    "L5.3 sent only": ("check_top_k", lambda *a: top_k(*a)[0], "Return two vectors"),
    "L5.downlink all change": (
        "check_megabytes_down",
        lambda n, k, r, w, c: k * (w + (r - 1) * c),
        "has no model",
    ),
    "L5.downlink first": (
        "check_megabytes_down",
        lambda n, k, r, w, c: k * r * (k / n * c + (1 - k / n) * w),
        "first round",
    ),
    "L5.downlink swapped": (
        "check_megabytes_down",
        lambda n, k, r, w, c: k * (w + (r - 1) * (k / n * w + (1 - k / n) * c)),
        "the others the model",
    ),
    "L5.downlink one": (
        "check_megabytes_down",
        lambda n, k, *a: megabytes_down(n, k, *a) / k,
        "Each client",
    ),
    "L5.downlink text": ("check_megabytes_down", lambda *a: "much", "Return a number"),
    "L5.downlink off": (
        "check_megabytes_down",
        lambda *a: 2 * megabytes_down(*a),
        "expected 5.80 MB",
    ),
    "L6.speech highest": (
        "check_whose_phone",
        lambda r, t: t["classifier.bias"].argmax(),
        "look at how it changed",
    ),
    "L6.speech next": (
        "check_whose_phone",
        lambda r, t: (whose_phone(r, t) + 1) % 9,
        r"Phone 4 \(rate 0.3\)",
    ),
    "L6.speech all": (
        "check_whose_phone",
        lambda r, t: t["classifier.bias"] - r["classifier.bias"],
        "one speaker's number",
    ),
    "L6.1 mean of variances": (
        "check_variance",
        lambda a: np.mean([q / n - (t / n) ** 2 for n, t, q in a]),
        "mean of the hospitals' own",
    ),
    "L6.1 weighted": (
        "check_variance",
        lambda a: sum(q - t * t / n for n, t, q in a) / sum(n for n, _, _ in a),
        "means differ, too",
    ),
    "L6.1 deviation": ("check_variance", lambda a: pooled_variance(a) ** 0.5, "deviation"),
    "L6.1 sample": ("check_variance", lambda a: pooled_variance(a) * 250 / 249, "one less"),
    "L6.1 wrong": ("check_variance", lambda a: 1.0, "you return 1.00"),
    "L6.2 not asked": ("check_quantile", lambda c, n, low, high, s: 54.0, "call count_at_most"),
    "L6.2 wrong way": (
        "check_quantile",
        lambda c, n, low, high, s: bisected(lambda x: n - c(x), n, low, high, s),
        "go on above it",
    ),
    "L6.2 step by step": (
        "check_quantile",
        lambda c, n, low, high, s: next(x for x in np.arange(low, high, 0.25) if c(x) >= s * n),
        "You asked",
    ),
    "L6.3 none": ("check_threshold", lambda p, s, share: 0.0, "8 patients are sent"),
    "L6.3 half": ("check_threshold", lambda p, s, share: 0.5, "of the sick are found"),
    "L6.3 quantile of all": (
        "check_threshold",
        lambda p, s, share: np.quantile(p, 1 - share),
        "patients are sent",
    ),
    "L6.columns in order": ("check_answer_for_counting", masked, "In this order the practice"),
    "L6.columns backwards": (
        "check_answer_for_counting",
        lambda p, s: masked(p, s)[::-1],
        "In this order the practice",
    ),
    "L6.columns the same shuffle": (
        "check_answer_for_counting",
        lambda p, s: [masked(p, s)[i] for i in np.random.default_rng(0).permutation(len(p))],
        "in the same way each time",
    ),
    "L6.columns moved on": (
        "check_answer_for_counting",
        lambda p, s: masked(p, s)[1:] + masked(p, s)[:1],
        "in the same way each time",
    ),
    "L6.columns unmasked": (
        "check_answer_for_counting",
        lambda p, s: sorted(p),
        "the practice's own points",
    ),
    "L6.columns half": (
        "check_answer_for_counting",
        lambda p, s: sorted(masked(p, s))[:20],
        "the answer has 20",
    ),
    "L6.columns one secret": (
        "check_answer_for_counting",
        lambda p, s: sorted(masked(p, bytes(range(32)))),
        "With another secret",
    ),
    "L7.1 only the highest": (
        "check_trimmed_mean",
        lambda u, beta: np.sort(u, axis=0)[: len(u) - int(beta * len(u))].mean(axis=0),
        "as well as too high",
    ),
    "L7.1 only the lowest": (
        "check_trimmed_mean",
        lambda u, beta: np.sort(u, axis=0)[int(beta * len(u)) :].mean(axis=0),
        "the highest are still in",
    ),
    "L7.1 whole clients": ("check_trimmed_mean", trimmed_by_length, "sort along axis 0"),
    "L7.1 half at each end": (
        "check_trimmed_mean",
        lambda u, beta: trimmed(u, beta / 2),
        "from each end",
    ),
    "L7.1 rounds up": ("check_trimmed_mean", trimmed_upwards, "Round down: 0.3 of 7 clients is 2"),
    "L7.1 the mean": ("check_trimmed_mean", lambda u, beta: u.mean(axis=0), "Nothing is trimmed"),
    "L7.1 the median": (
        "check_trimmed_mean",
        lambda u, beta: np.median(u, axis=0),
        "all but the middle",
    ),
    "L7.1 in place": ("check_trimmed_mean", trimmed_in_place, "make new ones"),
    "L7.1 one number": (
        "check_trimmed_mean",
        lambda u, beta: trimmed(u, beta).mean(),
        r"yours has shape \(\)",
    ),
    "L7.1 twice": (
        "check_trimmed_mean",
        lambda u, beta: 2 * trimmed(u, beta),
        "For 10 clients and beta=0.2, expected",
    ),
    "L7.2 itself": (
        "check_krum_scores",
        lambda u, f: krum(u, f, first=0, more=-1),
        "no neighbour of itself",
    ),
    "L7.2 not squared": (
        "check_krum_scores",
        lambda u, f: np.sqrt(near_ones(u))[:, 1 : len(u) - f - 1].sum(axis=1),
        "Square the distances",
    ),
    "L7.2 two too many": ("check_krum_scores", lambda u, f: krum(u, f, more=2), "not n - f of"),
    "L7.2 one too many": ("check_krum_scores", lambda u, f: krum(u, f, more=1), "not n - f - 1"),
    "L7.2 all": (
        "check_krum_scores",
        lambda u, f: near_ones(u).sum(axis=1),
        "moves every score",
    ),
    "L7.2 mean": (
        "check_krum_scores",
        lambda u, f: krum(u, f) / (len(u) - f - 2),
        "takes no mean",
    ),
    "L7.2 negative": ("check_krum_scores", lambda *a: -krum(*a), "lowest score is the best"),
    "L7.2 twice": (
        "check_krum_scores",
        lambda *a: 2 * krum(*a),
        "For 9 clients and f=2, expected",
    ),
    "L7.2 the chosen one": ("check_krum_scores", lambda *a: krum(*a).argmin(), "Return 9 scores"),
    "L7.2 in place": ("check_krum_scores", krum_in_place, "make new ones"),
    "L7.3 average": ("check_tolerated_liars", lambda rule, n: 1, "tolerates nobody"),
    "L7.3 negative": (
        "check_tolerated_liars",
        lambda *a: tolerated(*a, least=-9),
        "the least is 0",
    ),
    "L7.3 half": (
        "check_tolerated_liars",
        lambda rule, n: 0 if rule == "FedAvg" else n // 2,
        r"FedMedian needs n >= 2f \+ 1: with n = 2, f = 1 is too many",
    ),
    "L7.3 one less": (
        "check_tolerated_liars",
        lambda *a: max(0, tolerated(*a) - 1),
        "one more than 0 would still do",
    ),
    "L7.3 a fraction": ("check_tolerated_liars", lambda rule, n: n / 4, "Return a whole number"),
}
