"""The two models of Part 1."""

import torch
from torch import nn


class DigitClassifier(nn.Sequential):
    """784–128–10 perceptron, 101,770 parameters.

    Takes images ``(n, 1, 28, 28)``, returns logits ``(n, 10)``.
    """

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(28 * 28, 128), nn.ReLU(), nn.Linear(128, 10))


class DigitCNN(nn.Module):
    """Two convolutions and a linear layer, 28,938 parameters; input and output as above."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Linear(32 * 7 * 7, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 10)`` of images ``(n, 1, 28, 28)``."""
        return self.classifier(self.features(images).flatten(1))
