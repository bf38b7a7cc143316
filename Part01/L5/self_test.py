"""The self-test of L5."""

from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question(
        "Why round at random, if many clients are averaged?",
        right="the errors cancel in the mean",
        because="They are independent and right on average. Ordinary rounding errs alike for all.",
        wrong={
            "each single error is smaller": "It is larger: ordinary rounding takes the nearest.",
            "fewer bits are needed": "The bits are the same.",
        },
    ),
    Question(
        "One bit a number is enough on the way down, if the server sends",
        right="what has changed in the model",
        because="An error is as long as what is sent, and a change is short.",
        wrong={
            "the model": "Then the error is longer than all that a round learns.",
            "the model or its change, no matter": "It is the length of what is sent that matters.",
        },
    ),
    Question(
        "A code saves 30 × against fp32. Against fp16 with as many epochs, that is",
        right="about 15 ×",
        because="A saving has a base; ask for it.",
        wrong={
            "about 30 ×": "fp16 is half as long already.",
            "about 60 ×": "The stronger the base, the smaller the saving.",
        },
    ),
)
