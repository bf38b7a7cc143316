"""The self-test of L3."""

from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question(
        "Clients hold two labels each. Five local epochs instead of one give you",
        right="somewhat fewer rounds, for several times the work",
        because="They walk on towards their own optimum, and the average throws much of it away.",
        wrong={
            "five times fewer rounds": "Only if five epochs went where five rounds go.",
            "fewer rounds, and less work in all": (
                "Where clients differ, more work is done for the same model."
            ),
        },
    ),
    Question(
        "Ten times as many clients a round mean",
        right="fewer rounds, but more bytes",
        because="The rounds fell by less than three, and each costs ten times as much.",
        wrong={
            "as many rounds as before": "The average is calmer, and gets there sooner.",
            "ten times fewer rounds, so it costs nothing": (
                "Averaging helps less and less: the return falls as the price rises."
            ),
        },
    ),
    Question(
        "On which images are the learning rates to be chosen?",
        right="on the clients' validation images",
        because="Then the test set stays what it is for: the last word.",
        wrong={
            "on the test set": "What was used to choose can no longer judge.",
            "on those that are trained on": "Then the rate that learns by heart looks best.",
        },
    ),
)
