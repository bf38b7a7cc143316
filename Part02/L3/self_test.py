"""The self-test of L3."""

from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question(
        (
            "A clinic knows two departments of ten. Alone, how many questions of the whole exam "
            "can it get right?"
        ),
        right="about two of ten",
        because="It sends everyone to one of its two.",
        wrong={
            "about half": (
                "Of its own patients even more, but eight departments of ten are not its own."
            ),
            "nearly all, with more epochs": "No number of passes shows it a third department.",
        },
    ),
    Question(
        "What travels in each round?",
        right="the adapter",
        because="The model itself is shipped once, and frozen.",
        wrong={
            "the records, without names": "No record leaves, with a name or without.",
            "the whole model": "Only what is trained has changed.",
        },
    ),
    Question(
        "Which comparison tells what it costs to leave the records where they are?",
        right="with pooled records and as many steps",
        because="One thing differs. (Learning rates must be tuned for both.)",
        wrong={
            "with one clinic, on its own patients": (
                "There it is a specialist; that is another exam."
            ),
            "with pooled records, trained until it gets no better": (
                "Then the number of steps differs as well."
            ),
        },
    ),
)
