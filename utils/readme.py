"""The README's tables and pictures, taken from the lessons themselves by ``make notebooks``."""

import base64
from pathlib import Path

import nbformat

from utils.contents import Lesson, read_lessons

BEGIN, END = "<!-- lessons: written by make notebooks -->", "<!-- end of lessons -->"
_COLUMNS = "| {} | the question it answers | minutes* | what you will see |\n|---|---|---|---|\n"
PICTURES = {  # by file: the notebook, and which of its figures, from 1
    "figures/update.png": ("Part01/L4/L4_data_privacy.ipynb", 2),
    "figures/federated.png": ("Part02/L3/L3_federated_finetuning.ipynb", 3),
}


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


def picture(root: Path, notebook: str, number: int) -> bytes:
    """A figure of an executed notebook, as a PNG file's content.

    Args:
        root: the folder with ``Part01`` and ``Part02``.
        notebook: its path in there.
        number: of the figure, from 1.

    Raises:
        ValueError: if the notebook has no such figure.
    """
    cells = nbformat.read(root / notebook, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    drawn = [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    if not 1 <= number <= len(drawn):
        raise ValueError(f"{notebook} has no figure {number}; it has {len(drawn)}")
    return base64.b64decode(drawn[number - 1])


def write_pictures(root: Path) -> list[str]:
    """Put the README's pictures where it shows them from; each whole or not at all.

    Args:
        root: of the repository.

    Returns:
        The files that changed.

    Raises:
        ValueError: if a notebook has no such figure.
    """
    changed = []
    for name, (notebook, number) in PICTURES.items():
        file, content = root / name, picture(root, notebook, number)
        if not file.is_file() or file.read_bytes() != content:
            file.parent.mkdir(exist_ok=True)
            unfinished = file.with_name(f".unfinished-{file.name}")
            unfinished.write_bytes(content)
            unfinished.replace(file)
            changed.append(name)
    return changed
