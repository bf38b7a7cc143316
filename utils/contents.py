"""What every lesson says of itself: the course's table of contents, read off its notebooks.

A lesson's question is the first bold sentence of its opening, its minutes are those that it
tells ``start_lesson``, its study time stands in its line **Time**, and its headline is what it
printed when it was run.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat

from utils.lesson import HEADLINE

_IN_MINUTES = {
    "half an hour": 30,
    "three quarters of an hour": 45,
    "an hour and a half": 90,
    "an hour": 60,
    "two hours": 120,
}
_STUDY = re.compile(rf"(?:(\d+) minutes|({'|'.join(_IN_MINUTES)})) (?:to|of) study")


@dataclass(frozen=True)
class Lesson:
    """One notebook of the course, by what it says of itself."""

    path: Path  # relative to the root
    part: int
    number: str  # "L2"
    name: str  # without the number
    question: str
    minutes: str  # to run on two cores, in quarters: "2¾"
    headline: str  # empty if it was not run
    title: str  # what it tells start_lesson
    running: float  # minutes, as it tells start_lesson
    study: int | None  # minutes; None if it does not say
    claims: frozenset[str]  # of its checkpoints; one made in a loop has no text of its own
    checks: tuple[str, ...]  # of its exercises, in order

    @property
    def further(self) -> bool:
        """Whether it goes further than its lesson's core."""
        return "_more_" in self.path.stem


def lesson_paths(root: Path) -> list[Path]:
    """The notebooks that one reads, without solutions: each core before what goes further."""
    paths = [p for p in root.glob("Part0*/L*/L*.ipynb") if not p.stem.endswith("_solutions")]
    return sorted(paths, key=lambda path: (path.parent, "_more_" in path.stem, path.stem))


def read_lessons(root: Path) -> list[Lesson]:
    """All lessons and what goes further, in order; no solutions.

    Args:
        root: the folder with ``Part01`` and ``Part02``, whose notebooks are executed.

    Raises:
        ValueError: if a lesson has no title, question in bold, minutes or headline.
    """
    lessons = [read_lesson(path, root) for path in lesson_paths(root)]
    for lesson in lessons:
        if not lesson.headline:
            raise ValueError(f"{lesson.path.as_posix()} has no headline")
    return lessons


def read_lesson(path: Path, root: Path) -> Lesson:
    """Read a lesson's notebook.

    Args:
        path: of the notebook.
        root: the folder with ``Part01`` and ``Part02``.

    Raises:
        ValueError: if it is no notebook, or has no title, question in bold or minutes.
    """
    notebook = nbformat.read(path, as_version=4)
    where = path.relative_to(root)
    opening = notebook.cells[0].source if notebook.cells else ""
    heading = re.match(r"# (L\d+),? (.+)", opening)
    question = re.search(r"\*\*((?:[^*]|\*(?!\*))+\?)\*\*", opening)
    calls = [call for cell in notebook.cells for call in _calls(cell)]
    title, running = _told_start_lesson(calls)
    parts = {"title": heading, "question in bold": question, "minutes": running}
    if missing := [name for name, part in parts.items() if not part]:
        raise ValueError(f"{where.as_posix()} has no {' and no '.join(missing)}")
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return Lesson(
        path=where,
        part=int(where.parts[0].removeprefix("Part")),
        number=heading[1],
        name=" ".join(heading[2].removeprefix("more: ").split()),
        question=" ".join(question[1].split()),
        minutes=in_quarters(running),
        headline=" ".join(headline_of(notebook).split()),
        title=title,
        running=running,
        study=_study(prose),
        claims=frozenset(_claims(calls)),
        checks=tuple(dict.fromkeys(n for n, _ in calls if n.startswith("check_"))),
    )


def _calls(cell: nbformat.NotebookNode) -> list[tuple[str, ast.Call]]:
    """The named calls of a code cell; none if a learner left it unfinished."""
    if cell.cell_type != "code":
        return []
    try:
        tree = ast.parse(cell.source)
    except SyntaxError:
        return []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(call.func.id, call) for call in calls if isinstance(call.func, ast.Name)]


def _told_start_lesson(calls: list[tuple[str, ast.Call]]) -> tuple[str, float | None]:
    for name, call in calls:
        if name == "start_lesson":
            told = dict(zip(("title",), call.args, strict=False))
            told |= {word.arg: word.value for word in call.keywords}
            title, minutes = told.get("title"), told.get("minutes")
            return title and ast.literal_eval(title), minutes and ast.literal_eval(minutes)
    return "", None


def _claims(calls: list[tuple[str, ast.Call]]) -> Iterator[str]:
    for name, call in calls:
        if name == "checkpoint" and call.args and isinstance(call.args[0], ast.Constant):
            yield call.args[0].value


def _study(prose: str) -> int | None:
    line = re.search(r"\*\*Time\*\*.*", prose)
    found = line and _STUDY.search(line[0])
    return (int(found[1]) if found[1] else _IN_MINUTES[found[2]]) if found else None


def headline_of(notebook: nbformat.NotebookNode) -> str:
    """What a notebook printed last by ``headline``; empty if it printed none."""
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    lines = [line for o in outputs for line in o.get("text", "").splitlines()]
    told = [line.removeprefix(HEADLINE) for line in lines if line.startswith(HEADLINE)]
    return told[-1] if told else ""


def in_quarters(minutes: float) -> str:
    """To the nearest quarter, and at least one: ``2¾`` for 2.7."""
    whole, quarters = divmod(max(1, round(4 * minutes)), 4)
    return f"{whole or ''}{['', '¼', '½', '¾'][quarters]}"
