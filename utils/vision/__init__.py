"""Handwritten digits: the data, two small models, and how to train and judge them."""

from utils.vision.digits import (
    drop_labels,
    keep_labels,
    labels_of,
    load_digits,
    missing_digits,
    split_hospitals,
)
from utils.vision.model import DigitClassifier, DigitCNN
from utils.vision.training import (
    Score,
    as_tensors,
    confusion_matrix,
    ensemble_accuracy,
    evaluate,
    predict,
    train,
    train_classifier,
)

__all__ = [
    "DigitCNN",
    "DigitClassifier",
    "Score",
    "as_tensors",
    "confusion_matrix",
    "drop_labels",
    "ensemble_accuracy",
    "evaluate",
    "keep_labels",
    "labels_of",
    "load_digits",
    "missing_digits",
    "predict",
    "split_hospitals",
    "train",
    "train_classifier",
]
