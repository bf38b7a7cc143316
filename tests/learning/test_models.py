import torch
import torch.nn.functional as F

from utils.learning import DigitClassifier, DigitCNN

IMAGES = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_a_model_has_the_stated_number_of_parameters_and_nothing_else_to_send():
    for kind, count in ((DigitClassifier, 101_770), (DigitCNN, 28_938)):
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
