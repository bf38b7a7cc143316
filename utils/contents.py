"""What every lesson says of itself: the course's table of contents, read off its notebooks.

A lesson's question is the first bold sentence of its opening, its minutes are those that it
tells ``start_lesson``, and its study time stands in its line **Time**.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat

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
    part: str  # "Part 1"
    label: str  # "L2"
    name: str  # without the label
    question: str
    title: str  # what it tells start_lesson
    minutes: float  # to run on two cores
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
    title, minutes = _told_start_lesson(calls)
    parts = {"title": heading, "question in bold": question, "minutes": minutes}
    if missing := [name for name, part in parts.items() if not part]:
        raise ValueError(f"{where.as_posix()} has no {' and no '.join(missing)}")
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return Lesson(
        path=where,
        part=f"Part {int(where.parts[0][-2:])}",
        label=heading[1],
        name=heading[2].removeprefix("more: "),
        question=" ".join(question[1].split()),
        title=title,
        minutes=minutes,
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


def in_quarters(minutes: float) -> str:
    """To the nearest quarter, and at least one: ``2¾`` for 2.7."""
    whole, quarters = divmod(max(1, round(4 * minutes)), 4)
    return f"{whole or ''}{['', '¼', '½', '¾'][quarters]}"
