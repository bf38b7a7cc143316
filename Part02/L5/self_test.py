"""The self-test of L5."""

from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question(
        "A clinic proves with its key who it is. What does that say of its update?",
        right="nothing: it must be checked",
        because="A broken scanner has a valid key, too.",
        wrong={
            "it comes from real patients": "The key says whose it is, not what it was made of.",
            "it is sound": "The key belongs to a clinic, not to numbers.",
        },
    ),
    Question(
        (
            "The server is killed, and starts again with its database. What is gone, if no rounds"
            " were kept?"
        ),
        right="the run's model",
        because="It lived in the server app's process.",
        wrong={
            "the clinics' keys": "They are in the database.",
            "the clinics' records": "They were never here.",
        },
    ),
    Question(
        "A clinic dies in the middle of a round. The round",
        right="ends without it, after a while",
        because="Its silence is noticed after about a minute, and the others' replies count.",
        wrong={
            "fails, and the run with it": "The server averages those who answered.",
            "waits until it is back": "The server stops asking a node that has fallen silent.",
        },
    ),
)
