import itertools
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, Subset, TensorDataset

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


# The bundled digits


def test_the_bundled_digits_are_split_evenly_by_class(digits):
    train, test = digits
    assert (len(train), len(test)) == (4000, 1000)
    assert labels_of(train).bincount().tolist() == [400] * 10
    assert labels_of(test).bincount().tolist() == [100] * 10


def test_a_digit_is_a_float_image_with_an_int64_label(digits):
    for dataset in digits:
        image, label = dataset[0]
        assert (image.shape, image.dtype) == ((1, 28, 28), torch.float32)
        assert (label.shape, label.dtype) == ((), torch.int64)


def test_no_test_digit_is_in_the_training_set(digits):
    pixels = torch.cat([dataset.tensors[0].flatten(1) for dataset in digits])
    assert len(torch.unique(pixels, dim=0)) == 5000


def test_the_bundled_split_is_the_same_on_every_machine(digits):
    train, test = digits
    assert labels_of(train)[:12].tolist() == [6, 0, 5, 4, 9, 9, 8, 3, 1, 2, 2, 0]
    assert labels_of(test)[:12].tolist() == [6, 3, 0, 8, 8, 3, 0, 0, 7, 8, 5, 8]


def test_the_bundled_split_depends_on_no_global_generator(digits):
    torch.manual_seed(123)
    for first, again in zip(digits, load_digits("bundled"), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first.tensors, again.tensors, strict=True))


def test_pixels_are_normalized_by_the_mean_and_deviation_of_mnist(digits):
    pixels = digits[0].tensors[0]
    assert pixels.mean().item() == pytest.approx(0, abs=0.01)
    assert pixels.std().item() == pytest.approx(1, abs=0.01)
    assert pixels.min().item() == pytest.approx((0 - 0.1307) / 0.3081, abs=1e-5)
    assert pixels.max().item() == pytest.approx((1 - 0.1307) / 0.3081, abs=1e-5)


def test_images_belong_to_their_labels(digits):
    train, test = (dataset.tensors for dataset in digits)
    means = torch.stack([train[0][train[1] == digit].mean(0) for digit in range(10)])
    nearest = torch.cdist(test[0].flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == test[1]).float().mean() > 0.75


def test_changing_the_images_of_one_load_leaves_the_next_alone(digits):
    load_digits()[0].tensors[0].zero_()
    assert torch.equal(load_digits()[0].tensors[0], digits[0].tensors[0])


def test_the_bundled_digits_need_no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something called home")

    monkeypatch.setattr("torchvision.datasets.MNIST", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    load_digits()


@pytest.mark.parametrize("source", ["MNIST", "cifar", "", None])
def test_an_unknown_source_is_refused_with_the_choices(source):
    with pytest.raises(ValueError, match=f"source is {source!r}.*one of: bundled, mnist, fashion"):
        load_digits(source)


# The full sets, through torchvision

KINDS = {"mnist": "MNIST", "fashion": "FashionMNIST"}


@pytest.fixture
def downloads(monkeypatch):
    """Stand-ins for torchvision's data sets; returns how they were called."""
    calls = []

    def stand_in(kind):
        def load(root, train, download):
            calls.append((kind, root, train, download))
            n, label = (3, 7) if train else (2, 4)
            data = torch.zeros(n, 28, 28, dtype=torch.uint8)
            data[0, 0, 1] = 255
            return SimpleNamespace(data=data, targets=torch.full((n,), label))

        return load

    for kind in KINDS.values():
        monkeypatch.setattr(f"torchvision.datasets.{kind}", stand_in(kind))
    return calls


@pytest.mark.parametrize(("source", "kind"), KINDS.items())
def test_a_full_set_is_downloaded_into_the_root(downloads, tmp_path, source, kind):
    load_digits(source, tmp_path)
    assert downloads == [(kind, tmp_path, True, True), (kind, tmp_path, False, True)]


def test_downloads_go_to_the_data_folder_unless_told_otherwise(downloads):
    load_digits("mnist")
    assert [root for _, root, _, _ in downloads] == ["data", "data"]


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.usefixtures("downloads")
def test_a_full_set_has_the_form_of_the_bundled_one(source):
    train, test = load_digits(source)
    assert (len(train), len(test)) == (3, 2)
    assert labels_of(train).tolist() == [7, 7, 7]
    assert labels_of(test).tolist() == [4, 4]
    image, label = train[0]
    assert (image.shape, image.dtype, label.dtype) == ((1, 28, 28), torch.float32, torch.int64)
    assert image[0, 0, 1].item() == pytest.approx((1 - 0.1307) / 0.3081)
    assert image[0, 1, 0].item() == pytest.approx(-0.1307 / 0.3081)


@pytest.mark.parametrize(("source", "kind"), KINDS.items())
@pytest.mark.parametrize("error", [RuntimeError("no mirror answers"), OSError("disk is full")])
def test_a_failed_download_says_why_and_names_the_way_out(
    monkeypatch, tmp_path, source, kind, error
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(f"torchvision.datasets.{kind}", fail)
    with pytest.raises(ConnectionError, match="use source='bundled', which needs none") as failure:
        load_digits(source, tmp_path)
    for part in (f"source={source!r}", str(tmp_path), str(error)):
        assert part in str(failure.value)
    assert failure.value.__cause__ is error


# Choosing by label


def test_labels_of_a_subset_are_those_of_its_examples():
    labels = labels_of(Subset(numbered(30), [13, 7, 7]))
    assert labels.tolist() == [3, 7, 7]
    assert labels.dtype == torch.int64


@pytest.mark.parametrize(
    "labels", [[1, 3], {3, 1}, (3, 1, 3), range(1, 4, 2), iter([1, 3]), torch.tensor([1, 3])]
)
def test_keeping_labels_leaves_their_examples_in_order(labels):
    assert numbers_of(keep_labels(numbered(20), labels)) == [1, 3, 11, 13]


@pytest.mark.parametrize("labels", [range(2, 10), {9, 8, 7, 6, 5, 4, 3, 2}, iter(range(2, 10))])
def test_dropping_labels_leaves_all_other_examples_in_order(labels):
    assert numbers_of(drop_labels(numbered(20), labels)) == [0, 1, 10, 11]


def test_dropping_no_label_leaves_everything():
    assert numbers_of(drop_labels(numbered(20), [])) == list(range(20))


def test_filters_can_be_chained():
    assert numbers_of(drop_labels(keep_labels(numbered(20), [1, 2, 3]), [2])) == [1, 3, 11, 13]


def test_a_filter_copies_no_images():
    dataset = numbered(20)
    assert keep_labels(dataset, [1]).dataset is dataset


@settings(deadline=None)
@given(kept=st.sets(st.integers(0, 9), min_size=1, max_size=9))
def test_keeping_and_dropping_the_same_labels_divides_the_data(kept):
    dataset = numbered(30)
    one, other = numbers_of(keep_labels(dataset, kept)), numbers_of(drop_labels(dataset, kept))
    assert sorted(one + other) == list(range(30))
    assert {number % 10 for number in one} == kept


@pytest.mark.parametrize("choose", [keep_labels, drop_labels])
def test_a_label_that_does_not_occur_is_refused_and_named_with_those_that_do(choose):
    few = keep_labels(numbered(20), [1, 3, 5])
    with pytest.raises(ValueError, match=r"labels \[2, 11\] do not occur .* has \[1, 3, 5\]"):
        choose(few, [11, 3, 2])


def test_dropping_every_label_is_refused():
    with pytest.raises(ValueError, match=r"dropping the labels \[0, 1, 2\] leaves no example"):
        drop_labels(numbered(3), [2, 1, 0])


# Hospitals


def test_hospitals_that_miss_nothing_share_everything_in_equal_parts():
    parts = split_hospitals(numbered(300), [[], [], []])
    assert [len(part) for part in parts] == [100, 100, 100]
    assert sorted(itertools.chain(*map(numbers_of, parts))) == list(range(300))


def test_parts_differ_by_at_most_one_where_the_data_do_not_divide():
    sizes = [len(part) for part in split_hospitals(numbered(302), [[], [], []])]
    assert sum(sizes) == 302
    assert max(sizes) - min(sizes) == 1


def test_examples_are_dealt_out_at_random():
    for part in split_hospitals(numbered(300), [[], [], []]):
        numbers = numbers_of(part)
        assert max(numbers) - min(numbers) > 200


@settings(deadline=None)
@given(
    missing=st.lists(st.sets(st.integers(0, 9), max_size=9), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_hospitals_share_no_example_and_lack_exactly_their_missing_digits(missing, seed):
    parts = split_hospitals(numbered(1000), missing, seed)
    numbers = list(itertools.chain(*map(numbers_of, parts)))
    assert len(set(numbers)) == len(numbers)
    for part, lacks in zip(parts, missing, strict=True):
        assert set(labels_of(part).tolist()) == set(range(10)) - lacks


def test_a_hospital_loses_only_its_missing_digits():
    everything = split_hospitals(numbered(300), [[], []])
    parts = split_hospitals(numbered(300), [[1, 2], []])
    kept = [number for number in numbers_of(everything[0]) if number % 10 not in (1, 2)]
    assert numbers_of(parts[0]) == kept
    assert numbers_of(parts[1]) == numbers_of(everything[1])


def test_the_seed_decides_who_gets_which_example():
    def deal(**seed):
        return [numbers_of(part) for part in split_hospitals(numbered(300), [[1], [2]], **seed)]

    assert deal(seed=1) == deal(seed=1)
    assert deal(seed=1) != deal(seed=2)
    assert deal() == deal(seed=0)


def test_dealing_out_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    split_hospitals(numbered(300), [[1], [2]])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_hospital_cannot_miss_every_digit():
    with pytest.raises(ValueError, match="leaves no example"):
        split_hospitals(numbered(300), [[], range(10)])


def test_a_digit_that_nobody_has_cannot_be_missing():
    with pytest.raises(ValueError, match=r"labels \[10\] do not occur"):
        split_hospitals(numbered(300), [[], [10]])


@settings(deadline=None)
@given(data=st.data(), hospitals=st.integers(1, 15))
def test_every_digit_is_known_by_as_many_hospitals_as_asked(data, hospitals):
    known_by = data.draw(st.integers(max(1, hospitals - 9), hospitals))
    missing = missing_digits(hospitals, known_by)
    assert len(missing) == hospitals
    for digit in range(10):
        assert sum(digit not in lacks for lacks in missing) == known_by


def test_no_hospital_is_left_without_any_digit():
    with pytest.raises(ValueError, match="known_by is 1; with 12 hospitals it must be 3 to 12"):
        missing_digits(12, 1)
    assert all(len(lacks) < 10 for lacks in missing_digits(12, 3))


@pytest.mark.parametrize("hospitals", [9, 11, 18, 49])
def test_any_number_of_hospitals_shares_everything(hospitals):
    parts = split_hospitals(numbered(300), [[]] * hospitals)
    assert sorted(i for part in parts for i in numbers_of(part)) == list(range(300))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_part_may_already_lack_what_it_is_to_lack():
    few = TensorDataset(torch.zeros(6, 1), torch.arange(6))
    parts = split_hospitals(few, [{0, 1}, {2, 3}], seed=1)
    assert {0, 1}.isdisjoint(labels_of(parts[0]).tolist())


def test_no_hospitals_and_no_labels_are_refused():
    with pytest.raises(ValueError, match="missing is empty"):
        split_hospitals(numbered(300), [])
    with pytest.raises(ValueError, match="no label to keep"):
        keep_labels(numbered(300), [])


def test_a_change_to_loaded_labels_does_not_reach_the_next_load():
    first, _ = load_digits()
    before = int(first.tensors[1][0])
    first.tensors[1][0] = before + 1
    assert int(load_digits()[0].tensors[1][0]) == before


def test_a_digit_is_known_by_the_hospitals_that_follow_its_number():
    assert missing_digits(5, 2) == [
        set(range(10)) - known
        for known in [{0, 5, 4, 9}, {1, 6, 0, 5}, {2, 7, 1, 6}, {3, 8, 2, 7}, {4, 9, 3, 8}]
    ]


def test_where_every_hospital_knows_every_digit_nothing_is_missing():
    assert missing_digits(3, 3) == [set(), set(), set()]


@pytest.mark.parametrize("known_by", [0, -1, 6])
def test_a_digit_cannot_be_known_by_nobody_or_by_more_than_all(known_by):
    with pytest.raises(ValueError, match=f"known_by is {known_by}; with 5 hospitals .* 1 to 5"):
        missing_digits(5, known_by)


def test_missing_digits_deal_out_the_bundled_digits(digits):
    missing = missing_digits(5, 2)
    parts = split_hospitals(digits[0], missing)
    known = [set(range(10)) - lacks for lacks in missing]
    assert [set(labels_of(part).tolist()) for part in parts] == known
