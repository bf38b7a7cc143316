"""The self-test of L4."""

from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question(
        "An attack 'finds members' in a model that was never trained on them. Why?",
        right="its strangers come from another source",
        because="What it finds is the difference between the sources.",
        wrong={
            "it is a strong attack": "There is nothing to find: the model never saw them.",
            "the model remembers them all the same": "It never saw them.",
        },
    ),
    Question(
        "All updates are encrypted. What does that change about the finished model?",
        right="nothing",
        because="It is the same model. Encryption hides what is on the way.",
        wrong={
            "it cannot be attacked": "Whoever gets it can attack it as before.",
            "it remembers less": "It was trained on the same records in the same way.",
        },
    ),
    Question(
        "What comes first?",
        right="take names out, then duplicates, then noise",
        because=(
            "What is not in the data need not be hidden, and a promise for one record costs least."
        ),
        wrong={
            "add noise, and leave the records as they are": (
                "Then noise must hide six copies, and names that teach nothing."
            ),
            "encrypt, and leave the rest as it is": "The finished model gives away the same.",
        },
    ),
)
