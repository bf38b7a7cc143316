import torch
import torch.nn.functional as F

from utils.learning import DigitClassifier, DigitCNN, VoiceNet

IMAGES = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
LENGTHS = (29, 7, 1)  # frames spoken


def recordings():
    """Three of random coefficients, zero after their last frame."""
    padded = torch.randn(3, 12, 29, generator=torch.Generator().manual_seed(1))
    return padded * (torch.arange(29) < torch.tensor(LENGTHS)[:, None])[:, None]


def test_a_model_has_the_stated_number_of_parameters_and_nothing_else_to_send():
    for kind, count in ((DigitClassifier, 101_770), (DigitCNN, 28_938), (VoiceNet, 4_873)):
        model = kind()
        assert sum(p.numel() for p in model.parameters()) == count
        assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_the_classifier_is_two_layers_with_a_relu_between():
    model = DigitClassifier()
    w1, b1, w2, b2 = model.parameters()
    expected = (IMAGES.flatten(1) @ w1.T + b1).clamp(min=0) @ w2.T + b2
    assert torch.allclose(model(IMAGES), expected, atol=1e-5)


def test_the_cnn_is_two_convolutions_with_pooling_and_a_linear_layer():
    model = DigitCNN()
    w1, b1, w2, b2, w3, b3 = model.parameters()
    x = IMAGES
    for weight, bias in [(w1, b1), (w2, b2)]:
        x = F.max_pool2d(F.conv2d(x, weight, bias, padding=2).clamp(min=0), 2)
    assert torch.allclose(model(IMAGES), x.flatten(1) @ w3.T + b3, atol=1e-5)


def test_the_voice_net_sees_a_recording_as_it_would_without_its_padding():
    model, padded = VoiceNet(), recordings()
    w1, b1, w2, b2, w3, b3 = model.parameters()
    for recording, length, logits in zip(padded, LENGTHS, model(padded), strict=True):
        x = recording[None, :, :length]
        for weight, bias in [(w1, b1), (w2, b2)]:
            x = F.conv1d(x, weight, bias, padding=1).clamp(min=0)
        pooled = torch.cat([x.mean(dim=2), x.max(dim=2).values], dim=1)
        assert torch.allclose(logits, (pooled @ w3.T + b3)[0], atol=1e-5)


def test_more_zero_frames_change_no_logit_of_the_voice_net_and_spoken_ones_do():
    model, padded = VoiceNet(), recordings()
    assert torch.allclose(model(F.pad(padded, (0, 40))), model(padded), atol=1e-6)
    longer = padded.clone()
    longer[1, :, LENGTHS[1]] = 1.0  # one more frame, spoken
    changed = (model(longer) - model(padded)).abs().amax(dim=1)
    assert changed[1] > 1e-3
    assert changed[[0, 2]].max() < 1e-6


def test_silence_alone_gives_the_voice_net_finite_logits_and_gradients():
    model = VoiceNet()
    model(torch.zeros(2, 12, 29)).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())
