"""The README's tables of lessons, written from the lessons themselves by ``make notebooks``.

A lesson's question is the first bold sentence of its opening, its minutes are those that it
tells ``start_lesson``, and what one will see is the headline that it printed when it was run.
"""

import ast
import re
from pathlib import Path

import nbformat

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
    paths = sorted(root.glob("Part0*/L*/L*.ipynb"))
    read = [path for path in paths if not path.stem.endswith("_solutions")]
    more = [path for path in read if "_more_" in path.stem]
    lessons = "".join(_row(path, root) for path in read if path not in more)
    further = "".join(_row(path, root) for path in more)
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


def _row(path: Path, root: Path) -> str:
    notebook = nbformat.read(path, as_version=4)
    where = path.relative_to(root).as_posix()
    opening = notebook.cells[0].source
    title = re.match(r"# (L\d+),? (.+)", opening)
    question = re.search(r"\*\*((?:[^*]|\*(?!\*))+\?)\*\*", opening)
    minutes = _minutes(notebook)
    seen = headline_of(notebook)
    parts = {"title": title, "question in bold": question, "minutes": minutes, "headline": seen}
    missing = [name for name, part in parts.items() if not part]
    if missing:
        raise ValueError(f"{where} has no {' and no '.join(missing)}")
    part, lesson = f"Part {int(path.parts[-3][-2:])}", title[1]
    name = title[2].removeprefix("more: ")
    cells = f"[{part}, {lesson}]({where}) {name}", question[1], _quarters(minutes), seen
    return f"| {' | '.join(' '.join(cell.replace('|', '&#124;').split()) for cell in cells)} |\n"


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
