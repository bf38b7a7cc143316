"""Checks of the exercises in L1."""

import numpy as np

from utils.lesson import exercise


@exercise(
    "Real texts need no more than this: a vector of weighted word counts for each.",
    hints=[
        (
            "A matrix times a vector gives all products at once. Which lengths must they be "
            "divided by, and which length can be left out?"
        ),
        "An empty record has length 0. Divide it by something harmless instead (np.where).",
        "np.argsort sorts from small to large; the nearest has the largest cosine.",
    ],
)
def check_nearest(function):
    """Exercise 1."""
    records = np.array(
        [[1.0, 0, 0, 0], [5.0, 5, 5, 0], [0, 0, 0, 0], [2.0, 1, 0, 0], [0, 0, 0, 3.0]]
    )
    cases = [
        (np.array([1.0, 0, 0, 0]), 3, [0, 3, 1]),
        (np.array([1.0, 1, 0, 0]), 2, [3, 1]),
        (np.array([0, 0, 0, 1.0]), 1, [4]),
        (np.array([-1.0, 0, 0, -1.0]), 2, [2, 1]),
    ]
    for query, k, right in cases:
        with np.errstate(divide="ignore", invalid="ignore"):
            answer = function(query.copy(), records.copy(), k)
        try:
            answer = [int(i) for i in answer]
        except (TypeError, ValueError):
            return "Return the numbers of the records: a list of k integers."
        if answer == right:
            continue
        if len(answer) != k:
            return f"Return {k} numbers; you return {len(answer)}."
        dot, length = records @ query, np.linalg.norm(records, axis=1)
        cosine = dot / np.maximum(length, 1e-9)
        hints = {
            "Long records win: divide by the lengths of the vectors (cosine).": -dot,
            "That is the distance, in which length counts; use the angle (cosine).": (
                np.linalg.norm(records - query, axis=1)
            ),
            "Those are the farthest: the largest cosine is the nearest.": cosine,
        }
        for hint, order in hints.items():
            if answer == np.argsort(order, kind="stable")[:k].tolist():
                return hint
        if 2 in answer:
            return "Record 2 is empty: 0 / 0 is NaN, and sorts as the largest. Its cosine is 0."
        if 2 in right:
            return "Record 2 is empty: its cosine is 0, and nearer than one below 0."
        if sorted(answer) == sorted(right):
            return "The right records, in another order: the nearest comes first."
        return f"For the query {query.tolist()} expected {right}, got {answer}."
    return None


@exercise(
    "With three neighbours of three departments, the vote is the nearest one's word.",
    hints=[
        (
            "Count the labels first (collections.Counter does it), then look whether several "
            "share the first place."
        ),
        (
            "Of labels that share the first place, take the one that comes first in the list. "
            "(Counter keeps the order in which it met them.)"
        ),
    ],
)
def check_vote(function):
    """Exercise 2."""
    cases = [
        (["otology", "cardiology", "cardiology"], "cardiology"),
        (["urology", "cardiology", "otology"], "urology"),
        (["otology", "cardiology", "urology", "cardiology", "urology"], "cardiology"),
        (["neurology"], "neurology"),
    ]
    for labels, right in cases:
        answer = function(list(labels))
        if answer == right:
            continue
        if not isinstance(answer, str):
            return "Return one label."
        counts = {label: labels.count(label) for label in labels}
        if counts.get(answer, 0) < max(counts.values()):
            return f"Of {labels}, most say {right}; you return {answer}."
        return f"A tie in {labels}: of those with most votes, take the nearest, {right}."
    return None


@exercise(
    "Less leaves, more work stays: a clinic that runs the model itself gives away nothing, "
    "or in a federation weights only.",
    hints=[
        (
            "Two questions: what does the method need of the clinic's data, and who holds the "
            "model that is asked?"
        ),
        (
            "If somebody else runs the model, each question leaves, whatever else does. If the "
            "clinic does, which one method still sends something?"
        ),
        (
            "Write down for each method what it gives away at a stranger's, in sets; `|` adds the"
            " question, `&` keeps only what leaves from home."
        ),
    ],
)
def check_leaves(function):
    """Exercise 3."""
    methods = {
        "as it comes": set(),
        "examples": {"some records"},
        "retrieval": {"some records"},
        "fine-tuning": {"all records"},
        "federation": {"weights"},
    }
    for method, given in methods.items():
        for at_home in (False, True):
            answer = function(method, at_home)
            if not isinstance(answer, set | frozenset):
                return 'Return a set, such as {"question"} or set().'
            right = given if at_home and method == "federation" else set()
            right = right if at_home else given | {"question"}
            if answer == right:
                continue
            where = "run by the clinic itself" if at_home else "run by somebody else"
            if at_home and method != "federation":
                return f"{method}, {where}: nothing has to leave; the model comes to the data."
            if "weights" in right - answer:
                return f"{method}, {where}: what the clinic has trained does leave, as weights."
            if method == "federation" and answer - right:
                return f"{method}, {where}: {min(answer - right)!r} stays in the clinic."
            if "question" in right - answer:
                return f"{method}, {where}: the question is a patient's data too, and leaves."
            return f"{method}, {where}: expected {sorted(right)}, got {sorted(answer)}."
    return None
