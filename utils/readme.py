"""The README's tables of lessons, written from the lessons themselves by ``make notebooks``.

What one will see of a lesson is the headline that it printed when it was run; the rest is what
it says of itself (``utils.contents``).
"""

from pathlib import Path

import nbformat

from utils.contents import Lesson, in_quarters, lesson_paths, read_lesson
from utils.lesson import HEADLINE

BEGIN, END = "<!-- lessons: written by make notebooks -->", "<!-- end of lessons -->"
_COLUMNS = "| {} | the question it answers | minutes* | what you will see |\n|---|---|---|---|\n"


def headline_of(notebook: nbformat.NotebookNode) -> str:
    """What a notebook printed last by ``headline``; empty if it printed none."""
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    lines = [line for o in outputs for line in o.get("text", "").splitlines()]
    told = [line.removeprefix(HEADLINE) for line in lines if line.startswith(HEADLINE)]
    return told[-1] if told else ""


def lesson_tables(root: Path) -> str:
    """Two tables in Markdown: the lessons, and what goes further.

    Args:
        root: the folder with ``Part01`` and ``Part02``, whose notebooks are executed.

    Raises:
        ValueError: if a lesson has no question in bold, no minutes or no headline.
    """
    lessons = [read_lesson(path, root) for path in lesson_paths(root)]
    cores = "".join(_row(lesson, root) for lesson in lessons if not lesson.further)
    further = "".join(_row(lesson, root) for lesson in lessons if lesson.further)
    return (
        f"{BEGIN}\n\n{_COLUMNS.format('lesson')}{cores}\nSome lessons go further, in notebooks "
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


def _row(lesson: Lesson, root: Path) -> str:
    where = lesson.path.as_posix()
    seen = headline_of(nbformat.read(root / lesson.path, as_version=4))
    if not seen:
        raise ValueError(f"{where} has no headline")
    link = f"[{lesson.part}, {lesson.label}]({where}) {lesson.name}"
    cells = link, lesson.question, in_quarters(lesson.minutes), seen
    return f"| {' | '.join(' '.join(cell.replace('|', '&#124;').split()) for cell in cells)} |\n"
