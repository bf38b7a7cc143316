"""The self-test of L1."""

from utils.questions import Question, SelfTest

self_test = SelfTest(
    Question(
        "Asked for a department, the model as it comes mostly answers",
        right="with one favourite, whatever is asked",
        because="Take off each name's average score, and it does much better, for nothing.",
        wrong={
            "at random": "Then all departments would come up alike.",
            "with what the complaints suggest": (
                "That is what it should do; without help it seldom did."
            ),
        },
    ),
    Question(
        "Say that records in the prompt raise the score. Which control shows what the model adds?",
        right="a vote of the same records, without a model",
        because="If the vote does as well, the records were the answer.",
        wrong={
            "asking each question twice": "The answer is the same twice, understood or not.",
            "more records in the prompt": "That asks how many help, not who helps.",
        },
    ),
    Question(
        "A clinic looks records up at home and runs the model at home. What leaves?",
        right="nothing",
        because="The model came to the data.",
        wrong={
            "each question": "Only if somebody else runs the model.",
            "the records that are looked up": "They go into a prompt that stays in the house.",
        },
    ),
)
