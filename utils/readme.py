"""The README's tables of lessons, written from the lessons themselves by ``make notebooks``.

A lesson's question is the first bold sentence of its opening, its minutes are those that it
tells ``start_lesson``, and what one will see is the headline that it printed when it was run.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

from utils.lesson import HEADLINE

BEGIN, END = "<!-- lessons: written by make notebooks -->", "<!-- end of lessons -->"
_COLUMNS = "| {} | the question it answers | minutes* | what you will see |\n|---|---|---|---|\n"


@dataclass(frozen=True)
class Lesson:
    """What a notebook says of itself: see the head of this module."""

    path: Path  # relative to the repository's root
    part: int
    number: str  # "L3"
    name: str
    question: str
    minutes: str  # in quarters, "2¾"
    headline: str

    @property
    def further(self) -> bool:
        """Whether it goes further than its lesson's core."""
        return "_more_" in self.path.stem


def headline_of(notebook: nbformat.NotebookNode) -> str:
    """What a notebook printed last by ``headline``; empty if it printed none."""
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    lines = [line for o in outputs for line in o.get("text", "").splitlines()]
    told = [line.removeprefix(HEADLINE) for line in lines if line.startswith(HEADLINE)]
    return told[-1] if told else ""


def read_lessons(root: Path) -> list[Lesson]:
    """All lessons and what goes further, in order; no solutions.

    Args:
        root: the folder with ``Part01`` and ``Part02``, whose notebooks are executed.

    Raises:
        ValueError: if a lesson has no question in bold, no minutes or no headline.
    """
    paths = sorted(root.glob("Part0*/L*/L*.ipynb"))
    return [_read(path, root) for path in paths if not path.stem.endswith("_solutions")]


def lesson_tables(root: Path) -> str:
    """Two tables in Markdown: the lessons, and what goes further.

    Args:
        root: as for ``read_lessons``.

    Raises:
        ValueError: if a lesson lacks a part, as in ``read_lessons``.
    """
    read = read_lessons(root)
    lessons = "".join(_row(lesson) for lesson in read if not lesson.further)
    further = "".join(_row(lesson) for lesson in read if lesson.further)
    return (
        f"{BEGIN}\n\n{_COLUMNS.format('lesson')}{lessons}\nSome lessons go further, in notebooks "
        f"of their own, each on one question:\n\n{_COLUMNS.format('further on')}{further}\n{END}"
    )


def write_lessons(readme: Path) -> bool:
    """Put the tables where the README holds them now, whole or not at all.

    Args:
        readme: the file, in the repository's root.

    Returns:
        Whether that changed anything.

    Raises:
        ValueError: if the README has no place for them, or a lesson lacks a part.
    """
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme.name} has no place for the lessons; write {BEGIN} and {END}")
    written = before + lesson_tables(readme.parent) + after
    if written == text:
        return False
    unfinished = readme.with_name(f".unfinished-{readme.name}")
    unfinished.write_text(written, encoding="utf-8")
    unfinished.replace(readme)
    return True


def _read(path: Path, root: Path) -> Lesson:
    notebook = nbformat.read(path, as_version=4)
    where = path.relative_to(root)
    opening = notebook.cells[0].source
    title = re.match(r"# (L\d+),? (.+)", opening)
    question = re.search(r"\*\*((?:[^*]|\*(?!\*))+\?)\*\*", opening)
    minutes = _minutes(notebook)
    seen = headline_of(notebook)
    parts = {"title": title, "question in bold": question, "minutes": minutes, "headline": seen}
    missing = [name for name, part in parts.items() if not part]
    if missing:
        raise ValueError(f"{where.as_posix()} has no {' and no '.join(missing)}")
    return Lesson(
        path=where,
        part=int(where.parts[0].removeprefix("Part")),
        number=title[1],
        name=" ".join(title[2].removeprefix("more: ").split()),
        question=" ".join(question[1].split()),
        minutes=_quarters(minutes),
        headline=" ".join(seen.split()),
    )


def _row(lesson: Lesson) -> str:
    link = f"[Part {lesson.part}, {lesson.number}]({lesson.path.as_posix()}) {lesson.name}"
    cells = link, lesson.question, lesson.minutes, lesson.headline
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


def _minutes(notebook: nbformat.NotebookNode) -> float | None:
    """What the lesson promises: ``start_lesson(…, minutes=…)``."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "start_lesson(" in cell.source:
            for call in ast.walk(ast.parse(cell.source)):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "start_lesson":
                    told = {word.arg: word.value for word in call.keywords}
                    return ast.literal_eval(told["minutes"]) if "minutes" in told else None
    return None


def _quarters(minutes: float) -> str:
    """To the nearest quarter, and at least one: ``2¾`` for 2.7."""
    whole, quarters = divmod(max(1, round(4 * minutes)), 4)
    return f"{whole or ''}{['', '¼', '½', '¾'][quarters]}"
