"""Small models, and how to train and judge any classifier."""

from utils.learning.evaluation import (
    Score,
    confusion_matrix,
    ensemble_accuracy,
    evaluate,
    predict,
)
from utils.learning.models import DigitClassifier, DigitCNN, VoiceNet
from utils.learning.training import train, train_classifier

__all__ = [
    "DigitCNN",
    "DigitClassifier",
    "Score",
    "VoiceNet",
    "confusion_matrix",
    "ensemble_accuracy",
    "evaluate",
    "predict",
    "train",
    "train_classifier",
]
