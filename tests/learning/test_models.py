import pytest
import torch
import torch.nn.functional as F

from utils.learning import DigitClassifier, DigitCNN

both = pytest.mark.parametrize("kind", [DigitClassifier, DigitCNN])


@pytest.mark.parametrize(("kind", "count"), [(DigitClassifier, 101_770), (DigitCNN, 28_938)])
def test_a_model_has_the_stated_number_of_parameters(kind, count):
    parameters = list(kind().parameters())
    assert sum(p.numel() for p in parameters) == count
    assert all(p.requires_grad and p.dtype == torch.float32 for p in parameters)


@both
@pytest.mark.parametrize("n", [1, 7])
def test_a_model_gives_ten_logits_an_image(kind, n):
    assert kind()(torch.randn(n, 1, 28, 28)).shape == (n, 10)


@both
def test_logits_are_not_probabilities(kind):
    logits = kind()(torch.randn(50, 1, 28, 28))
    assert logits.min() < 0
    assert not torch.allclose(logits.sum(1), torch.ones(50), atol=0.1)


@both
def test_a_seed_decides_the_first_weights(kind):
    def first(seed):
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in kind().parameters()])

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@both
def test_an_images_logits_do_not_depend_on_the_rest_of_the_batch(kind):
    model, images = kind(), torch.randn(4, 1, 28, 28)
    together = model(images)
    alone = torch.cat([model(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


@both
def test_a_model_has_nothing_but_parameters_to_send(kind):
    model = kind()
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@both
def test_an_image_of_another_size_is_refused(kind):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        kind()(torch.randn(2, 1, 32, 32))


def test_the_classifier_is_two_layers_with_a_relu_between():
    model, images = DigitClassifier(), torch.randn(3, 1, 28, 28)
    w1, b1, w2, b2 = model.parameters()
    assert w1.shape == (128, 784)
    expected = (images.flatten(1) @ w1.T + b1).clamp(min=0) @ w2.T + b2
    assert torch.allclose(model(images), expected, atol=1e-5)


def test_the_cnn_is_two_convolutions_with_pooling_and_a_linear_layer():
    model, images = DigitCNN(), torch.randn(3, 1, 28, 28)
    w1, b1, w2, b2, w3, b3 = model.parameters()
    x = images
    for weight, bias in [(w1, b1), (w2, b2)]:
        x = F.max_pool2d(F.conv2d(x, weight, bias, padding=2).clamp(min=0), 2)
    assert torch.allclose(model(images), x.flatten(1) @ w3.T + b3, atol=1e-5)
