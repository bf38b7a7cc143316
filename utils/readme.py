"""The README's tables of lessons, written from the lessons themselves by ``make notebooks``."""

from pathlib import Path

from utils.contents import Lesson, read_lessons

BEGIN, END = "<!-- lessons: written by make notebooks -->", "<!-- end of lessons -->"
_COLUMNS = "| {} | the question it answers | minutes* | what you will see |\n|---|---|---|---|\n"


def lesson_tables(root: Path) -> str:
    """Two tables in Markdown: the lessons, and what goes further.

    Args:
        root: the folder with ``Part01`` and ``Part02``, whose notebooks are executed.

    Raises:
        ValueError: if a lesson has no question in bold, no minutes or no headline.
    """
    lessons = read_lessons(root)
    cores = "".join(_row(lesson) for lesson in lessons if not lesson.further)
    further = "".join(_row(lesson) for lesson in lessons if lesson.further)
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


def _row(lesson: Lesson) -> str:
    link = f"[Part {lesson.part}, {lesson.number}]({lesson.path.as_posix()}) {lesson.name}"
    cells = link, lesson.question, lesson.minutes, lesson.headline
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"
