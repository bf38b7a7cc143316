"""The self-test of L1."""

from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question(
        "Hospital A has never seen a 1, a 3 or a 7. How often is its model right about them?",
        right="almost never",
        because="In training these answers were only ever pushed down.",
        wrong={
            "about one time in ten": "That would be guessing; the model is sure of something else.",
            "as often as about other digits": (
                "It can only choose among answers that it has seen to be right."
            ),
        },
    ),
    Question(
        "What would show hospital A that its model misses these digits?",
        right="a test on patients from elsewhere",
        because="Only cases that a test contains can go wrong in it.",
        wrong={
            "a larger test on its own patients": "More of the same cases show the same.",
            "a lower loss in training": (
                "The loss knows the training images only, and they lack these digits."
            ),
        },
    ),
    Question(
        "Where does averaging the hospitals' answers fail worst?",
        right="where one hospital alone knows a digit",
        because="The others are sure of something else, and outvote it.",
        wrong={
            "where each has other images of the same digits": (
                "There the average does nearly as well as pooling."
            ),
            "where nearly all know every digit": (
                "There one that does not know is outvoted, as it should be."
            ),
        },
    ),
)
