"""The self-test of L6."""

from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question(
        "Which answers give a single patient away, although each looks harmless?",
        right="two large counts that differ by one",
        because="A minimum size of cells does not stop it; noise bounds it.",
        wrong={
            "a mean over 300 patients": "Whoever joins or leaves moves it by next to nothing.",
            "the share of values that are missing": "By itself it tells of the hospital's habits.",
        },
    ),
    Question(
        "A common model ranks a hospital's patients well, with probabilities too low. It needs",
        right="an intercept of its own",
        because="A shift of all log-odds moves the mean and keeps the order.",
        wrong={
            "a higher AUC": "AUC asks for the order only; it stays as it is.",
            "more patients of the others": "They are sick at another rate; pooled rows err alike.",
        },
    ),
    Question(
        "A hospital without data takes the others' model. What is most likely to be off?",
        right="its probabilities",
        because="Nobody has told the model how many are sick there.",
        wrong={
            "its order of the patients": "Strangers' models ranked about as well as own ones.",
            "nothing, if the scale was agreed on": "A scale says nothing of how many are sick.",
        },
    ),
)
