"""The self-test of L4."""

from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question(
        "A hospital makes one step on one image, and sends its update. The server sees",
        right="the image, exactly",
        because="In the first layer, a neuron's part of the update is the image, times one number.",
        wrong={
            "its label at most": (
                "The label, too; but the pixels stand in the first layer's gradient."
            ),
            "nothing: weights are no images": (
                "A gradient is a product, and one of its factors is the image."
            ),
        },
    ),
    Question(
        "The same ε for a thousand clients and for ten hospitals. Who loses more accuracy?",
        right="the ten hospitals",
        because="The noise is as large for both, and is divided by the number of units.",
        wrong={
            "the thousand clients": "A crowd is what makes noise cheap.",
            "both lose the same": (
                "The noise is on the sum; in the mean of ten it weighs a hundred times as much."
            ),
        },
    ),
    Question(
        "What does secure aggregation hide by itself?",
        right="each update, not their sum",
        because="So what the sum tells of a client is still told: that takes noise.",
        wrong={
            "each update and their sum": "The server needs the sum, and gets it exactly.",
            "who was in the training data": "The model comes from the exact sum, and may tell.",
        },
    ),
)
