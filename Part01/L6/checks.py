"""Checks of the exercises in L6."""

import hashlib

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric import x25519
from torch.utils.data import TensorDataset

from utils.data import as_tensors, load_voices
from utils.learning import VoiceNet, train
from utils.lesson import exercise
from utils.randomness import random_stream


@exercise(
    "Counts and sums add up, variances do not. Far from 0, the difference of two large numbers "
    "loses digits: hospitals would agree on a rough mean first, and send deviations from it.",
    hints=[
        "What adds up over hospitals: variances, or counts, sums and sums of squares?",
        "A variance is the mean of the squares, less the square of the mean. Both means are over "
        "all patients.",
    ],
)
def check_variance(function):
    """Exercise 1."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(mean, 5, size) for mean, size in ((130, 40), (150, 10), (120, 200))]
    answers = [(len(x), x.sum(), (x**2).sum()) for x in parts]
    found, right = float(function(answers)), np.concatenate(parts).var()
    own = [x.var() for x in parts]
    if abs(found - right) <= 1e-6 * right:
        return None
    hints = {
        np.mean(own): "This is the mean of the hospitals' own variances; what lies between their "
        "means is missing.",
        np.average(own, weights=[40, 10, 200]): "The hospitals' means differ, too: add up counts, "
        "sums and squares first.",
        np.sqrt(right): "This is the standard deviation; its square is asked for.",
        right * 250 / 249: "Divide by the number of patients, not by one less.",
    }
    for value, hint in hints.items():
        if abs(found - value) <= 1e-6 * value:
            return hint
    return f"Three hospitals' patients have a variance of {right:.2f}; you return {found:.2f}."


@exercise(
    "Each question halves what is left: ten find a cholesterol to a milligram. Under differential "
    "privacy each of them costs; a histogram with noise answers all quantiles for one.",
    hints=[
        "Ask for the middle between low and high. Do too few patients have at most that, or "
        "enough?",
        "If too few, the value lies above the middle, which is the new low; otherwise the middle "
        "is the new high. Go on until the two are half a unit apart.",
        "Too few means: fewer than the share times the number of patients.",
    ],
)
def check_quantile(function):
    """Exercise 2."""
    values = np.random.default_rng(0).normal(54, 9, 501).clip(28, 77)
    for share in (0.5, 0.9):
        asked = []

        def count_at_most(limit, asked=asked):
            asked.append(limit)
            return int((values <= limit).sum())

        found, right = function(count_at_most, 501, 0.0, 100.0, share), np.quantile(values, share)
        if not asked:
            return (
                "Ask: call count_at_most(limit), which returns how many patients have at most that."
            )
        if abs(found - right) > 0.5:
            return (
                f"{share:.0%} of the patients have at most {right:.1f}; you return {found:.1f}. "
                "If fewer than that share of the 501 have at most the middle, go on above it."
            )
        if len(asked) > 25:
            return f"You asked {len(asked)} times; halving the range needs about ten questions."
    return None


@exercise(
    "In Switzerland such a threshold sends nearly everybody, and must: who is sick nine times in "
    "ten is not ruled out by 18 numbers. What to do about it is a doctor's question.",
    hints=[
        "Only the probabilities of the sick matter. Sort them: whom do you find first?",
        "To find a share of them, rounded up to whole patients, begin at the probability of the "
        "last one needed.",
    ],
)
def check_threshold(function):
    """Exercise 3."""
    probabilities = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    sick = np.array([1, 1, 0, 1, 0, 1, 0, 0])
    for share, right in ((1.0, 0.4), (0.75, 0.6), (0.7, 0.6), (0.5, 0.8)):
        order = np.random.default_rng(1).permutation(8)
        found = float(function(probabilities[order], sick[order], share))
        caught = (probabilities[sick == 1] >= found).mean()
        if caught < share:
            return (
                f"At your threshold of {found:.2f}, {caught:.0%} of the sick are found, and "
                f"{share:.0%} should be."
            )
        if found < right - 1e-9:
            sent = int((probabilities >= found).sum())
            return (
                f"At {found:.2f}, {sent} patients are sent; {right:.2f} finds {share:.0%} of the "
                f"sick as well, and sends {int((probabilities >= right).sum())}."
            )
    return None


@exercise(
    "The sign of one number gives the owner away, before any inversion. A sum over many phones, "
    "with noise (L4), is what hides a phone; freezing the class layer alone is not.",
    hints=[
        "A step of cross-entropy raises the bias of the right class, and lowers all the others.",
        "Look at how the nine biases changed, not at how high they are.",
    ],
)
def check_whose_phone(function):
    """Exercise of L6_more_speech: nine phones' VoiceNets, and who trained them."""
    recordings, _ = as_tensors(load_voices()[0])
    with random_stream("whose phone"):
        for owner, lr in zip((4, 0, 8, 2, 5), (0.3, 0.01, 0.1, 1.0, 0.03), strict=True):
            model = VoiceNet()
            torch.nn.init.normal_(model.classifier.bias)  # as after some rounds
            received = {name: value.clone() for name, value in model.state_dict().items()}
            own = recordings[30 * owner : 30 * owner + 30]
            train(model, TensorDataset(own, torch.full((30,), owner)), lr=lr, momentum=0.0)
            trained = {name: value.clone() for name, value in model.state_dict().items()}
            highest = int(trained["classifier.bias"].argmax())
            answer = function(received, trained)
            if np.ndim(answer) != 0 or int(answer) != answer:
                return f"Return one speaker's number, 0 to 8; you return {answer}."
            if answer == owner:
                continue
            if answer == highest:
                return "A bias may be high from earlier rounds; look at how it changed."
            return f"Phone {owner} (rate {lr}) trained this model; you return {int(answer)}."
    return None


@exercise(
    "Sorted, or shuffled: the order is forgotten, and the count stays. Even a count tells: asked "
    "with one patient less, it tells about that patient.",
    hints=[
        "The practice compares what comes back with the hospital's masked numbers. How does it "
        "know which of its own patients a point belongs to?",
        "By the place in the list. What can the hospital do to the list that keeps the count?",
    ],
)
def check_answer_for_counting(function):
    """L6_more_trees_and_columns."""
    secret, other = bytes(range(32)), bytes(range(1, 33))
    points = [hashlib.sha256(bytes([number])).digest() for number in range(40)]

    def twice(given, by=secret):
        key = x25519.X25519PrivateKey.from_private_bytes(by)
        return [key.exchange(x25519.X25519PublicKey.from_public_bytes(p)) for p in given]

    answers = [list(function(list(given), secret)) for given in (points, points[::-1])]
    for given, answer in zip((points, points[::-1]), answers, strict=True):
        if sorted(answer) == sorted(given):
            return "These are the practice's own points; mask them by the hospital's secret, too."
        if sorted(answer) != sorted(twice(given)):
            return (
                f"40 points came; the answer has {len(answer)}, and should be all of them masked "
                "by the secret: masked(points, secret), in some order."
            )
        if answer == twice(given) or answer == twice(given)[::-1]:
            return (
                "In this order the practice can see which of its patients each point belongs to. "
                "Make the order forget."
            )
    places = [
        [twice(given).index(point) for point in answer]
        for given, answer in zip((points, points[::-1]), answers, strict=True)
    ]
    if places[0] == places[1]:
        return (
            "The points change places in the same way each time, so whoever knows how can undo it. "
            "Sort them, or draw the order anew, from what nobody can repeat."
        )
    if list(function(points[:1], other)) != twice(points[:1], other):
        return "With another secret, the answer should be masked by that one."
    return None
