import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, TensorDataset

from utils.data import (
    as_tensors,
    drop_labels,
    keep_labels,
    labels_of,
    load_digits,
    missing_digits,
    split_hospitals,
)


@pytest.fixture(scope="module")
def digits() -> tuple[TensorDataset, TensorDataset]:
    return load_digits()


def numbered(n: int) -> TensorDataset:
    """n examples, labelled 0 … 9 in turn; each input is the example's number."""
    return TensorDataset(torch.arange(n), torch.arange(n) % 10)


def numbers_of(dataset: Dataset) -> list[int]:
    return as_tensors(dataset)[0].tolist()


# The bundled digits ------------------------------------------------------------------------------


def test_the_bundled_digits_are_split_evenly_by_class_and_share_no_image(digits):
    train, test = digits
    assert labels_of(train).bincount().tolist() == [400] * 10
    assert labels_of(test).bincount().tolist() == [100] * 10
    assert len(torch.cat([d.tensors[0].flatten(1) for d in digits]).unique(dim=0)) == 5000


def test_the_bundled_split_is_the_same_on_every_machine(digits):
    train, test = digits
    assert labels_of(train)[:12].tolist() == [6, 0, 5, 4, 9, 9, 8, 3, 1, 2, 2, 0]
    assert labels_of(test)[:12].tolist() == [6, 3, 0, 8, 8, 3, 0, 0, 7, 8, 5, 8]


def test_images_are_normalized_floats_that_belong_to_their_labels(digits):
    pixels = digits[0].tensors[0]
    assert (pixels.shape, pixels.dtype) == ((4000, 1, 28, 28), torch.float32)
    assert pixels.mean().item() == pytest.approx(0, abs=0.01)
    assert pixels.std().item() == pytest.approx(1, abs=0.01)
    assert pixels.min().item() == pytest.approx((0 - 0.1307) / 0.3081, abs=1e-5)
    assert pixels.max().item() == pytest.approx((1 - 0.1307) / 0.3081, abs=1e-5)
    (train, labels), (test, truth) = (dataset.tensors for dataset in digits)
    means = torch.stack([train[labels == digit].mean(0) for digit in range(10)])
    nearest = torch.cdist(test.flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == truth).float().mean() > 0.75


def test_a_change_to_what_was_loaded_does_not_reach_the_next_load(digits):
    for column in load_digits()[0].tensors:
        column.zero_()
    for one, other in zip(load_digits()[0].tensors, digits[0].tensors, strict=True):
        assert torch.equal(one, other)
        assert one.any()


def test_an_unknown_source_is_refused_with_the_choices():
    for source in ("MNIST", "", None, 3):
        with pytest.raises(
            ValueError, match=f"source is {source!r}.*'bundled', 'mnist', 'fashion'"
        ):
            load_digits(source)


# The full sets, through torchvision --------------------------------------------------------------


@pytest.mark.parametrize(("source", "kind"), [("mnist", "MNIST"), ("fashion", "FashionMNIST")])
def test_a_full_set_is_downloaded_and_has_the_form_of_the_bundled_one(
    monkeypatch, tmp_path, source, kind
):
    def stand_in(root, train, download):
        calls.append((root, train, download))
        data = torch.zeros(3 if train else 2, 28, 28, dtype=torch.uint8)
        data[0, 0, 1] = 255
        return SimpleNamespace(data=data, targets=torch.full((len(data),), 7 if train else 4))

    calls = []
    monkeypatch.setattr(f"torchvision.datasets.{kind}", stand_in)
    train, test = load_digits(source, tmp_path)
    assert calls == [(tmp_path, True, True), (tmp_path, False, True)]
    load_digits(source)
    assert calls[-1][0] == Path("data")
    assert labels_of(train).tolist() == [7, 7, 7]
    assert labels_of(test).tolist() == [4, 4]
    image, label = train[0]
    assert (image.shape, image.dtype, label.dtype) == ((1, 28, 28), torch.float32, torch.int64)
    assert image[0, 0, 1].item() == pytest.approx((1 - 0.1307) / 0.3081)
    assert image[0, 1, 0].item() == pytest.approx(-0.1307 / 0.3081)


def test_a_failed_download_says_why_and_names_the_way_out(monkeypatch, tmp_path):
    for error in (RuntimeError("no mirror answers"), OSError("disk is full")):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr("torchvision.datasets.MNIST", fail)
        with pytest.raises(ConnectionError, match="use source='bundled', which needs") as failure:
            load_digits("mnist", tmp_path)
        for part in ("source='mnist'", str(tmp_path), str(error)):
            assert part in str(failure.value)


# Choosing by label -------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1).filter(lambda kept: len(set(kept)) < 10))
def test_keeping_and_dropping_the_same_labels_divides_the_data_in_order(kept):
    dataset = numbered(30)
    one, other = keep_labels(dataset, kept), drop_labels(dataset, kept)
    assert numbers_of(one) == [i for i in range(30) if i % 10 in kept]
    assert numbers_of(other) == [i for i in range(30) if i % 10 not in kept]
    assert one.dataset is other.dataset is dataset  # no image is copied


def test_labels_may_come_in_any_collection_and_filters_can_be_chained():
    some = keep_labels(numbered(20), [1, 2, 3])
    for labels in ({2}, range(2, 3), iter([2]), torch.tensor([2]), np.array([2]), [np.int64(2)]):
        assert numbers_of(drop_labels(some, labels)) == [1, 3, 11, 13]
    assert numbers_of(drop_labels(some, [])) == [1, 2, 3, 11, 12, 13]


@pytest.mark.parametrize("choose", [keep_labels, drop_labels])
def test_labels_that_are_none_or_do_not_occur_are_named(choose):
    few = keep_labels(numbered(20), [1, 3, 5])
    with pytest.raises(ValueError, match=r"labels \[2, 11\] do not occur .* has \[1, 3, 5\]"):
        choose(few, [11, 3, 2])
    for labels in ("13", None, 3):
        with pytest.raises(ValueError, match=f"labels is {labels!r}; it must be a list of whole"):
            choose(few, labels)
    for label in (1.0, 1.5, "1", None, True, -1, [1]):
        with pytest.raises(ValueError, match=r"a label is .*; it must be a whole number"):
            choose(few, [label])


def test_a_filter_that_would_leave_nothing_is_refused():
    with pytest.raises(ValueError, match=r"dropping the labels \[0, 1, 2\] leaves no example"):
        drop_labels(numbered(3), [2, 1, 0])
    with pytest.raises(ValueError, match="no label to keep"):
        keep_labels(numbered(3), [])


# Hospitals ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    missing=st.lists(st.sets(st.integers(0, 9), max_size=9), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_hospitals_lack_exactly_their_missing_digits_and_nothing_else(missing, seed):
    everything = split_hospitals(numbered(501), [[]] * len(missing), seed)
    assert sorted(itertools.chain(*map(numbers_of, everything))) == list(range(501))
    assert max(map(len, everything)) - min(map(len, everything)) <= 1
    parts = split_hospitals(numbered(501), missing, seed)
    for part, whole, lacks in zip(parts, everything, missing, strict=True):
        assert numbers_of(part) == [i for i in numbers_of(whole) if i % 10 not in lacks]


def test_examples_are_dealt_out_by_the_seed_alone():
    def deal(**seed):
        return [numbers_of(part) for part in split_hospitals(numbered(300), [[1], [2]], **seed)]

    state = torch.get_rng_state()
    assert deal(seed=1) == deal(seed=np.int64(1)) != deal(seed=2)
    assert deal() == deal(seed=0)
    assert all(max(part) - min(part) > 200 for part in deal())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_part_may_already_lack_what_it_is_to_lack():
    few = TensorDataset(torch.zeros(6, 1), torch.arange(6))
    parts = split_hospitals(few, [{0, 1}, {2, 3}], seed=1)
    assert {0, 1}.isdisjoint(labels_of(parts[0]).tolist())


def test_hospitals_that_cannot_be_are_refused():
    for missing, said in [
        ([], "missing is empty"),
        (None, "missing is None; it must be a list of lists"),
        ([1, 2], "one of missing is 1; it must be a list"),
        ([[], range(10)], "leaves no example"),
        ([[], [10]], r"labels \[10\] do not occur"),
        ([[]] * 301, "300 examples are too few for 301 hospitals"),
    ]:
        with pytest.raises(ValueError, match=said):
            split_hospitals(numbered(300), missing)
    assert len(split_hospitals(numbered(10), [[]] * 10)) == 10
    with pytest.raises(ValueError, match=r"seed is -1; it must be a whole number from 0"):
        split_hospitals(numbered(300), [[]], seed=-1)


def test_a_digit_is_known_by_the_hospitals_that_follow_its_number():
    assert missing_digits(5, 2) == [
        set(range(10)) - known
        for known in [{0, 5, 4, 9}, {1, 6, 0, 5}, {2, 7, 1, 6}, {3, 8, 2, 7}, {4, 9, 3, 8}]
    ]


@settings(deadline=None)
@given(data=st.data(), hospitals=st.integers(1, 15))
def test_every_digit_is_known_by_as_many_hospitals_as_asked(data, hospitals):
    known_by = data.draw(st.integers(max(1, hospitals - 9), hospitals))
    missing = missing_digits(hospitals, known_by)
    assert len(missing) == hospitals
    assert all(len(lacks) < 10 for lacks in missing)
    for digit in range(10):
        assert sum(digit not in lacks for lacks in missing) == known_by


def test_a_digit_cannot_be_known_by_nobody_nor_a_hospital_know_none():
    for hospitals, known_by, limits in [
        (5, 0, "from 1 to 5"),
        (5, 6, "from 1 to 5"),
        (12, 2, "from 3 to 12"),  # or a hospital would know no digit
        (5, True, "from 1 to 5"),
    ]:
        with pytest.raises(ValueError, match=f"known_by is {known_by}; .* whole number {limits}"):
            missing_digits(hospitals, known_by)
    for hospitals in (0, -1, None, 2.0):
        with pytest.raises(ValueError, match=r"num_hospitals is .* from 1 to 100,000"):
            missing_digits(hospitals, 1)
