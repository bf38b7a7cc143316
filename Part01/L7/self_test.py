"""The self-test of L7."""

from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question(
        "One client of twenty sends its update × 100. Plain averaging",
        right="falls to guessing, or below",
        because="The mean moves by the liar's length over twenty, and the length has no limit.",
        wrong={
            "hardly moves: nineteen are honest": (
                "Votes would be counted so. A mean has no majority."
            ),
            "loses a twentieth of its accuracy": (
                "One in twenty heads, but five times the length of all others together."
            ),
        },
    ),
    Question(
        "Nobody lies, and three hospitals of twenty have seen a 0. Which rule learns it?",
        right="the plain average",
        because="All robust rules lost it: who is unlike the rest is taken for a liar.",
        wrong={
            "Krum": "It takes a model that is like most others.",
            "the median": "What three of twenty want is never in the middle.",
        },
    ),
    Question(
        "Four of twenty clients lie. Clipping all updates to one length stops",
        right="loud lies, but not the backdoor",
        because="The trigger still worked on 0.81 of the images; with two liars, on 0.21.",
        wrong={
            "loud lies and the backdoor": "Four liars carried it in updates of ordinary length.",
            "neither": "The length was all that a loud lie had.",
        },
    ),
)
