"""Any data set as two tensors, or one sentence that says why not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

from utils.data import as_tensors, labels_of


def dataset_of(n: int) -> TensorDataset:
    return TensorDataset(torch.arange(n, dtype=torch.float32)[:, None], torch.arange(n) % 3)


nested = st.recursive(
    st.integers(1, 5).map(dataset_of)
    | st.integers(1, 5).map(lambda n: [(torch.tensor([float(i)]), i) for i in range(n)]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ConcatDataset([*parts, []]))
        | inner.flatmap(
            lambda data: st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=6).map(
                lambda indices: Subset(data, indices)
            )
        )
    ),
    max_leaves=4,
)


@settings(deadline=None)
@given(dataset=nested)
def test_slicing_agrees_with_reading_item_by_item(dataset):
    inputs, labels = as_tensors(dataset)
    items = [dataset[i] for i in range(len(dataset))]
    assert inputs.tolist() == [item[0].tolist() for item in items]
    assert labels.tolist() == [int(item[1]) for item in items]
    assert labels.dtype == torch.int64


def test_indices_of_a_subset_may_be_a_range_or_an_array():
    for indices in (range(1, 3), np.array([1, 2]), torch.tensor([1, 2])):
        assert labels_of(Subset(dataset_of(4), indices)).tolist() == [1, 2]


def test_whole_labels_of_any_type_become_int64_and_others_are_refused():
    for dtype in (torch.int32, torch.uint8, torch.float32, torch.float64):
        labels = labels_of(TensorDataset(torch.zeros(2, 1), torch.tensor([3, 1]).to(dtype)))
        assert labels.dtype == torch.int64
        assert labels.tolist() == [3, 1]
    for bad in ([0.5, 1.0], [float("nan"), 1.0], [float("inf"), 1.0], [[1], [0]]):
        with pytest.raises(ValueError, match="must be a vector of whole numbers"):
            as_tensors(TensorDataset(torch.zeros(2, 1), torch.tensor(bad)))


def test_an_empty_data_set_is_refused():
    for empty in (Subset(dataset_of(3), []), [], TensorDataset(torch.zeros(0, 1), torch.zeros(0))):
        with pytest.raises(ValueError, match="data set is empty; did a label filter leave nothing"):
            as_tensors(empty)


class Endless(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(1), 1)])


def test_what_is_no_data_set_is_named():
    for bad in (None, 3, "digits", DataLoader(dataset_of(3)), Endless(), iter([])):
        with pytest.raises(ValueError, match="must be a Dataset with a length") as raised:
            as_tensors(bad)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "dataset",
    [
        TensorDataset(torch.zeros(3, 1)),
        TensorDataset(torch.zeros(3, 1), torch.zeros(3), torch.zeros(3)),
        torch.zeros(2, 2),
        [(torch.zeros(1), "seven")],
        [(torch.zeros(1), 1, 2)],
        [(torch.zeros(1), 1), (torch.zeros(2), 1)],
        [(None, 1)],
        [{"input": torch.zeros(1), "label": 1}],
        {"input": torch.zeros(1), "label": 1},
    ],
    ids=lambda dataset: str(dataset)[:30],
)
def test_a_data_set_without_pairs_of_one_shape_is_refused(dataset):
    with pytest.raises(
        ValueError, match=r"pairs of \(input tensor, integer label\)|of \(input, label\) pairs"
    ):
        as_tensors(dataset)


def test_parts_that_do_not_fit_together_are_named():
    other = TensorDataset(torch.zeros(1, 2), torch.zeros(1))
    with pytest.raises(ValueError, match=r"joined data sets differ in shape: \[\(1,\), \(2,\)\]"):
        as_tensors(ConcatDataset([dataset_of(1), other]))
    with pytest.raises(ValueError, match="subset does not fit its data set of 3: index 5"):
        as_tensors(Subset(dataset_of(3), [5]))
