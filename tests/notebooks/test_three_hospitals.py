"""What L2's notebooks of Part 1 share: a control that shares the images, differences in pairs."""

import importlib.util
from pathlib import Path

import pytest
import torch
from scipy.stats import ttest_rel

from utils.data import as_tensors, labels_of, load_digits

_path = Path(__file__).parents[2] / "Part01/L2/three_hospitals.py"
_spec = importlib.util.spec_from_file_location("three_hospitals", _path)
lesson = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(lesson)


@pytest.fixture(scope="module")
def hospitals():
    return lesson.deal_out(list(lesson.MISSING.values()), seed=0)["train"]


def images_of(parts):
    """All images as sorted rows of bytes: equal for equal sets of images."""
    return sorted(row.numpy().tobytes() for part in parts for row in as_tensors(part)[0])


def test_dealt_again_it_is_the_same_images_in_the_same_sizes(hospitals):
    by_lot = lesson.dealt_again(hospitals, seed=0)
    assert [len(part) for part in by_lot] == [len(part) for part in hospitals]
    assert images_of(by_lot) == images_of(hospitals)


def test_dealt_again_every_hospital_knows_every_digit(hospitals):
    assert {len(labels_of(part).unique()) for part in hospitals} == {7}
    by_lot = lesson.dealt_again(hospitals, seed=0)
    assert {len(labels_of(part).unique()) for part in by_lot} == {10}


def test_the_lot_is_the_seeds(hospitals):
    first, again, other = (
        torch.tensor(lesson.dealt_again(hospitals, s)[0].indices) for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_paired_difference_is_that_of_students_paired_test():
    ones, others = [0.93, 0.91, 0.94, 0.92], [0.92, 0.90, 0.91, 0.90]
    mean, half = lesson.paired_difference(ones, others)
    low, high = ttest_rel(ones, others).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_what_makes_a_pair_easy_cancels():
    ease = [0.0, 0.3, 0.6]
    mean, half = lesson.paired_difference([0.2 + e for e in ease], [0.1 + e for e in ease])
    assert (mean, half) == (pytest.approx(0.1), pytest.approx(0, abs=1e-12))


@pytest.mark.parametrize(("ones", "others"), [([1.0], [2.0]), ([1.0, 2.0], [1.0])])
def test_what_makes_no_pairs_is_refused(ones, others):
    with pytest.raises(ValueError, match="two pairs or more"):
        lesson.paired_difference(ones, others)


def test_a_mod_and_a_weight_reach_the_clients_and_the_strategy():
    images = load_digits()[1]
    parts = [torch.utils.data.Subset(images, range(n)) for n in (60, 20)]
    seen = []

    def mod(message, context, call_next):
        seen.append(context.node_config["partition-id"])
        return call_next(message, context)

    def run(key):
        return lesson.federate(
            parts, seed=0, rounds=1, epochs=1, mods=[mod], weighted_by_key=key,
            measure=lambda received, trained: {"one": 1.0}, judged_on={"right": images},
        )  # fmt: skip

    by_examples, equal = run("num-examples"), run("one")
    assert sorted(seen) == [0, 0, 1, 1]
    assert list(by_examples.metrics["server/right"].index) == [0, 1]
    first, second = (r.result.arrays.to_torch_state_dict()["3.bias"] for r in (by_examples, equal))
    assert not torch.equal(first, second)
