"""The small models of Part 1: two for digits, one for voices."""

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


class VoiceNet(nn.Module):
    """Two convolutions along the frames and a linear layer, 4,873 parameters.

    Takes recordings ``(n, 12, frames)``, zero after each one's last frame, returns logits
    ``(n, 9)``; however many zero frames follow a recording, they stay the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = _VoiceFeatures()
        self.classifier = nn.Linear(2 * 32, 9)

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 9)`` of recordings ``(n, 12, frames)``."""
        return self.classifier(self.features(recordings))


class _VoiceFeatures(nn.ModuleList):
    """Two convolutions, and each channel's mean and maximum over the recording's own frames.

    Padded frames are zero again after each convolution, and count in neither of the two.
    """

    def __init__(self) -> None:
        super().__init__(nn.Conv1d(n, 32, kernel_size=3, padding=1) for n in (12, 32))

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        """Features ``(n, 64)`` of recordings ``(n, 12, frames)``."""
        spoken = (recordings != 0).any(dim=1, keepdim=True)  # (n, 1, frames)
        x = recordings
        for convolution in self:
            x = convolution(x).relu() * spoken
        mean = x.sum(dim=2) / spoken.sum(dim=2).clamp(min=1)
        return torch.cat([mean, x.amax(dim=2)], dim=1)
