"""The self-test of L2."""

from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question(
        "LoRA trains a thousandth of the weights. What becomes a thousand times less?",
        right="what must be sent",
        because="And what the optimizer remembers. In a federation that is the point.",
        wrong={
            "the model's memory when it answers": "The frozen weights are all still there.",
            "the time of a step": "The gradient still has to pass through the layers.",
        },
    ),
    Question(
        "A department trains on its own patients only. Afterwards the model sends",
        right="everyone to this department",
        because="That name was right in every example that it saw.",
        wrong={
            "its own patients right, all others as before": (
                "Nothing in its data said that others exist."
            ),
            "fewer patients to this department": "That name was only ever pushed up.",
        },
    ),
    Question(
        "Lay names stood in no record. Why is it further ahead of the letters there?",
        right="it had read them before",
        because="The records taught it what is asked, not what the words mean.",
        wrong={
            "the exam gives itself away": "Then it would help the letters as well.",
            "the records explain them": "No record says which lay name means which clinical one.",
        },
    ),
)
