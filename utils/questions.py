"""A lesson's self-test: clicked where the lesson runs in ``make lab``, and plain text elsewhere.

In plain text, as in a committed notebook, on the course's site or in another editor, the same
cell prints the questions, and ``self_test("b a")`` answers them. Answers are kept in the logbook.
"""

import html
import importlib.util
import os
from dataclasses import dataclass

from utils import logbook
from utils.arguments import text

LETTERS = "abcdefgh"


@dataclass(frozen=True)
class Question:
    """A question with one right option. The options stand in alphabetical order."""

    ask: str
    right: str
    because: str
    wrong: dict[str, str]  # each wrong option, and what it overlooks

    @property
    def options(self) -> list[str]:
        """All options, in the order in which they are shown."""
        return sorted([self.right, *self.wrong], key=str.lower)

    def reply(self, option: str) -> str:
        """What is said of an option."""
        if option == self.right:
            return f"{logbook.RIGHT}. {self.because}"
        return f"Not so. {self.wrong[option]}"


class SelfTest:
    """A few questions; calling it shows them."""

    def __init__(self, *questions: Question) -> None:
        self.questions = questions

    def __call__(self, answers: str | None = None) -> None:
        """Ask, or say what is right and why.

        Args:
            answers: a letter for each question, such as ``"b a"``; None to be asked.

        Raises:
            ValueError: if that is not one of its letters for each question.
        """
        if answers is not None:
            for number, (question, option) in enumerate(self._chosen(answers), 1):
                logbook.note("self-test", question.ask, option)
                print(f"{number}. {question.reply(option)}")
        elif os.environ.get(logbook.VARIABLE) and importlib.util.find_spec("ipywidgets"):
            self._show_buttons()
        else:
            print(self._as_text())

    def _chosen(self, answers: str) -> list[tuple[Question, str]]:
        letters = [c for c in text("answers", answers).lower() if c not in " ,;"]
        allowed = [LETTERS[: len(question.options)] for question in self.questions]
        fits = len(letters) == len(allowed)
        if not fits or any(c not in among for c, among in zip(letters, allowed, strict=True)):
            example = " ".join("a" for _ in allowed)
            raise ValueError(
                f"answers is {answers!r}; give one letter for each of the {len(allowed)} "
                f'questions, in order, such as self_test("{example}")'
            )
        pairs = zip(self.questions, letters, strict=True)
        return [(question, question.options[LETTERS.index(c)]) for question, c in pairs]

    def _as_text(self) -> str:
        blocks = []
        for number, question in enumerate(self.questions, 1):
            listed = zip(LETTERS, question.options, strict=False)
            lines = [f"   {letter}) {option}" for letter, option in listed]
            blocks.append("\n".join([f"{number}. {question.ask}", *lines]))
        example = " ".join("a" for _ in self.questions)
        how = f'Answer with a letter for each question, for example self_test("{example}").'
        return "\n\n".join([*blocks, how])

    def _show_buttons(self) -> None:
        """Options to click, with what was chosen before; the reply appears below them."""
        import ipywidgets
        from IPython.display import display

        before = logbook.noted("self-test")
        for number, question in enumerate(self.questions, 1):
            heading = ipywidgets.HTML(f"<b>{number}. {html.escape(question.ask)}</b>")
            chosen = before.get(question.ask)
            buttons = ipywidgets.RadioButtons(
                options=question.options,
                value=chosen if chosen in question.options else None,
                layout={"width": "max-content"},
            )
            reply = ipywidgets.HTML()

            def tell(change: dict, question=question, reply=reply) -> None:
                logbook.note("self-test", question.ask, change["new"])
                reply.value = html.escape(question.reply(change["new"]))

            buttons.observe(tell, names="value")
            if buttons.value is not None:
                reply.value = html.escape(question.reply(buttons.value))
            display(ipywidgets.VBox([heading, buttons, reply]))
