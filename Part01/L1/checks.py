"""Checks of the exercises in L1."""

import torch

from utils import learning
from utils.data import as_tensors, labels_of, load_digits, missing_digits, split_hospitals
from utils.lesson import exercise


@exercise(
    "Reading the diagonal against the row sums is also called recall. Which digits are hardest "
    "for the pooled model?",
    hints=[
        (
            "Look at one row of the matrix: which of its numbers counts the images that were "
            "recognized?"
        ),
        (
            "What was recognized stands on the diagonal. Divide it by the number of images that "
            "truly are this digit; along which dimension do you add?"
        ),
        (
            "A tensor has diagonal() and sum(dim=…). A row holds one true digit, so its sum runs "
            "over the columns."
        ),
    ],
)
def check_accuracy_by_digit(function):
    """Exercise 1."""
    matrix = torch.eye(10, dtype=torch.int64) * 6
    matrix[7, 9] += 2  # six of eight 7s are recognized; one column has two false answers
    answer = function(matrix)
    if not isinstance(answer, torch.Tensor) or answer.shape != (10,):
        return f"Return a tensor of shape (10,); yours is {_describe(answer)}."
    by_column = matrix.diagonal() / matrix.sum(dim=0)
    if torch.allclose(answer.float(), by_column):
        return "You divided by the column sums: that is how often an answer 9 is right (precision)."
    expected = matrix.diagonal() / matrix.sum(dim=1)
    if not torch.allclose(answer.float(), expected):
        return (
            "For 6 of 8 sevens recognized, digit 7 should be 0.75 and all others 1.0; "
            f"you have {[round(x, 2) for x in answer.tolist()]}."
        )
    return None


@exercise(
    "A vote throws away how sure each model was. Does that cost anything? Put it into "
    "ensemble_accuracy above and compare.",
    hints=[
        (
            "First find each model's favourite for each image: one digit each. How sure it was no"
            " longer matters."
        ),
        (
            "Count the votes for each image and digit; one_hot in torch.nn.functional turns a "
            "favourite into a vote that can be added up."
        ),
        (
            "For ties: a mean probability is below 1. Added to whole numbers of votes, it can "
            "decide a tie and nothing else."
        ),
    ],
)
def check_majority_vote(function):
    """Exercise 2."""
    favourites = torch.tensor([[3, 3, 1], [3, 5, 2], [7, 5, 2]])  # 3 models, 3 images
    probabilities = torch.full((3, 3, 10), 0.01)
    for model in range(3):
        for image in range(3):
            probabilities[model, image, favourites[model, image]] = 0.4
    probabilities[2, 0, 7] = 0.9  # one loud voice for 7 must lose against two for 3
    answer = function(probabilities)
    if not isinstance(answer, torch.Tensor) or answer.shape != (3,):
        return f"Return a tensor of shape (images,), here (3,); yours is {_describe(answer)}."
    if answer[0] == 7:
        return "Image 0: two quiet models say 3, one loud model says 7. Votes count, not volume."
    if answer.tolist() != [3, 5, 2]:
        return f"The favourites are {favourites.T.tolist()} by image; you chose {answer.tolist()}."
    tied = torch.full((2, 1, 10), 0.01)
    tied[0, 0, 8], tied[1, 0, 4] = 0.5, 0.8  # one vote each: 8 and 4
    answers = {int(function(tied)[0]), int(function(tied.flip(0))[0])}
    if answers != {4}:
        return "In a tie (one vote for 8 at 0.5, one for 4 at 0.8) the surer one should win: 4."
    return None


@exercise(
    "A digit that only one hospital knows is outvoted, two to one. The more often the same "
    "digit is missing, the worse the ensemble.",
    hints=[
        (
            "When does an average of three answers go wrong: if one of the three does not know "
            "the digit, or if two do not?"
        ),
        "Let two hospitals miss the same digits, and watch that the third still knows them.",
    ],
)
def check_missing_sets(missing):
    """Exercise 3: trains three models, about a second."""
    missing = [set(digits) for digits in missing]
    if len(missing) != 3 or any(len(digits) != 3 for digits in missing):
        return f"Give three sets of three digits each; you gave {missing}."
    if not set().union(*missing) <= set(range(10)):
        return f"Digits run from 0 to 9; you gave {sorted(set().union(*missing))}."
    if lost := set.intersection(*missing):
        return f"Nobody knows {sorted(lost)}: every digit must be known to at least one hospital."
    train_set, test_set = load_digits()
    hospitals = split_hospitals(train_set, missing)
    models = [learning.train_classifier(data) for data in hospitals]
    accuracy = learning.ensemble_accuracy(models, test_set)
    if accuracy >= 0.80:
        return f"The ensemble still reaches {accuracy:.2f}. How many hospitals know each digit?"
    return None


@exercise(
    "On digits that one hospital in six knows, the gate sends most images to the one that "
    "knows. Now show a hospital's mean and its first directions as pictures: what have you "
    "handed out?",
    hints=[
        (
            "Work hospital by hospital: take its mean away from its own images, and the same mean"
            " from the new ones."
        ),
        (
            "Vh of torch.linalg.svd holds directions in its rows, the most important first. "
            "Projecting means: multiply with the first rows, transposed, then with these rows "
            "again."
        ),
        (
            "The residual is what is left of the new image after its projection is taken away. "
            "Compare its length over the hospitals, and take the smallest for each image."
        ),
    ],
)
def check_who_answers(function):
    """Exercise 4: points whose answer is known, then six hospitals, about a second."""
    own = torch.zeros(2, 41, 784)
    steps = torch.linspace(-1, 1, 41)
    own[0, :, 0], own[0, :, 1] = 5 * steps, 2 * steps**2  # along axis 0, a little along axis 1
    own[1, :, 0], own[1, :, 2] = 5 * steps, 8.0  # along axis 0 as well, but elsewhere
    images = torch.zeros(3, 784)
    images[:, 2] = torch.tensor([1.0, 7.0, 6.0])
    images[:, 1] = torch.tensor([0.0, 0.0, 6.0])  # the last one: by two directions, hospital 0's
    answer = function(images, list(own), 1)
    if not isinstance(answer, torch.Tensor) or answer.shape != (3,):
        return f"Return a tensor of shape (images,), here (3,); yours is {_describe(answer)}."
    if answer.tolist() == [1, 0, 0]:
        return "You chose the largest residual; what a hospital explains leaves little over."
    if answer.tolist() != [0, 1, 1]:
        return (
            "With 1 component, the images should go to hospitals [0, 1, 1], you send them to "
            f"{answer.tolist()}. Is the hospital's own mean taken from its images and from the new "
            "one, and are only the first `components` rows of V kept?"
        )
    train_set, test_set = load_digits()
    hospitals = split_hospitals(train_set, missing_digits(6, known_by=1))
    flat = [as_tensors(data)[0].flatten(1) for data in (*hospitals, test_set)]
    chosen = function(flat[-1], flat[:-1], 25)
    models = [learning.train_classifier(data) for data in hospitals]
    logits = torch.stack([learning.predict(model, test_set) for model in models])
    answers = logits[chosen, torch.arange(len(chosen))].argmax(dim=1)
    accuracy = (answers == labels_of(test_set)).float().mean().item()
    if accuracy < 0.85:
        return f"The toy images are right, yet six hospitals reach {accuracy:.2f}, not 0.85."
    return None


def _describe(answer):
    if isinstance(answer, torch.Tensor):
        return f"a tensor of shape {tuple(answer.shape)}"
    return f"a {type(answer).__name__}"
