"""The self-test of L2."""

from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question(
        (
            "Three unequal hospitals each take one step of gradient descent from the same "
            "weights. Their average, weighted by examples, is"
        ),
        right="a pooled step, as if all images lay together",
        because=(
            "The gradient of a mean is the mean of the gradients. With more steps each, they "
            "drift apart."
        ),
        wrong={
            "a shorter step, as they disagree": (
                "They disagree in pooled data, too: it is the same sum."
            ),
            "a step of the largest hospital": "It has the largest share, not all of it.",
        },
    ),
    Question(
        "What travels between a hospital and the server?",
        right="weights, and a few counts",
        because="And whether weights tell nothing of the images is another question: L4.",
        wrong={
            "images, but encrypted": "No image leaves, encrypted or not.",
            "the loss on each image": "It is computed in the hospital; at most its mean is told.",
        },
    ),
    Question(
        "Which hospital gains least from the shared model?",
        right="one that only ever meets patients like its own",
        because="For them its own model is a specialist.",
        wrong={
            "one that meets the others' patients, too": (
                "It gains most: its own model has never seen them."
            ),
            "one whose patients have few of the digits": (
                "If patients with the other digits come, it gains much."
            ),
        },
    ),
)
