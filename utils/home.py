"""The course's home page in JupyterLab, which ``make lab`` opens: every lesson, and its state.

The page is a notebook with one cell, written anew by each ``make lab`` with the table already in
it. Its links open in JupyterLab, running its cell refreshes it, and no server extension is needed.
It lies in ``progress/`` beside the file that the lessons write to (``utils.logbook``).
"""

import os
import sys
from pathlib import Path

import nbformat
from IPython.display import Markdown, display
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from utils import logbook
from utils.contents import Lesson, lesson_paths, read_lesson

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "progress"
PROGRESS = FOLDER / "progress.json"
_OPENING = """# Federated learning, hands on

Open a lesson by its link. To see here what you have done since, click into the cell below and \
press Shift+Enter.

A lesson is done when the checkpoints in it have passed and its exercises are right. Stuck? Every \
exercise has hints: `check_….hint()` in a new cell, with the check's name, prints the first."""
_CELL = """import sys

sys.path.insert(0, "..")  # the root of the repository

from utils.home import show

show()"""
_HEAD = "| | question | state | runs, minutes | study, minutes |\n|:--|:--|:--|--:|--:|\n"
OFFLINE = (  # JupyterLab would ask the network for news and for newer versions of itself
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
)


def state_of(lesson: Lesson, entry: logbook.Entry) -> str:
    """What is said of a lesson: not begun, how far, or done.

    Args:
        lesson: what there is to do.
        entry: what is kept of it; empty if nothing is.
    """
    passed = len(lesson.claims & entry.get("checkpoints", {}).keys())
    verdicts = entry.get("exercises", {})
    right = sum(verdicts.get(check) == logbook.RIGHT for check in lesson.checks)
    if not entry:
        return "not begun"
    if passed == len(lesson.claims) and right == len(lesson.checks):
        return "**done**"
    exercises = f", {right} of {_many(len(lesson.checks), 'exercise')}" if lesson.checks else ""
    return f"begun: {passed} of {_many(len(lesson.claims), 'checkpoint')}{exercises}"


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' if count != 1 else ''}"


def contents(root: Path, progress: Path) -> str:
    """The table of all lessons in Markdown; links are as seen from a folder in the root.

    Args:
        root: the folder with ``Part01`` and ``Part02``.
        progress: the file that lessons write to; need not exist.
    """
    kept, parts, states = logbook.read(progress), {}, {}
    for path in lesson_paths(root):
        where = path.relative_to(root)
        try:
            lesson = read_lesson(path, root)
        except ValueError as error:  # a learner may have left anything in it
            why = " ".join(str(error).replace("|", "&#124;").split())[:80]
            row = f"| [{where.stem}](../{where.as_posix()}) | it cannot be read: {why} | | | |\n"
            parts.setdefault(int(where.parts[0][-2:]), []).append(row)
            continue
        states[lesson] = state_of(lesson, kept.get(lesson.title, {}))
        parts.setdefault(lesson.part, []).append(_row(lesson, states[lesson]))
    tables = [f"## Part {part}\n\n{_HEAD}{''.join(rows)}" for part, rows in parts.items()]
    return "\n".join([_next(states), *tables, *_capstone(root)])


def _capstone(root: Path) -> list[str]:
    where = "Part02/capstone/capstone.ipynb"
    told = "**[The capstone: the best private medical model under three budgets](../{})**"
    return [told.format(where), ""] if (root / where).exists() else []


def _next(states: dict[Lesson, str]) -> str:
    done = sum(state == "**done**" for state in states.values())
    waiting = [x for x, state in states.items() if state.startswith("begun")]
    waiting += [x for x, state in states.items() if state == "not begun" and not x.further]
    words = f"{done} of {_many(len(states), 'notebook')} done."
    if waiting:
        words += f" Go on with Part {waiting[0].part}, {_link(waiting[0])}."
    return words + "\n"


def _link(lesson: Lesson) -> str:
    return f"[{lesson.number} {lesson.name}](../{lesson.path.as_posix()})"


def _row(lesson: Lesson, state: str) -> str:
    link = f"further: {_link(lesson)}" if lesson.further else f"**{_link(lesson)}**"
    cells = link, lesson.question, state, lesson.minutes, str(lesson.study or "")
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


def show() -> None:
    """Show the table as it is now; the home page's one cell calls it."""
    display(Markdown(contents(ROOT, PROGRESS)))


def write_home(root: Path = ROOT) -> Path:
    """Write the home page into ``progress/``, with the table in it.

    Args:
        root: of the repository.

    Returns:
        Where it is.
    """
    folder = root / FOLDER.name
    folder.mkdir(exist_ok=True)
    table = {"text/markdown": contents(root, folder / PROGRESS.name)}
    cell = new_code_cell(_CELL, execution_count=1, outputs=[new_output("display_data", data=table)])
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    page = new_notebook(cells=[new_markdown_cell(_OPENING), cell])
    page.metadata["kernelspec"] = kernel
    unfinished = folder / ".unfinished-Home.ipynb"
    nbformat.write(page, unfinished)
    return unfinished.replace(folder / "Home.ipynb")


def main(arguments: list[str] | None = None) -> int:
    """Open JupyterLab at the home page; what is given goes to JupyterLab. Returns the status."""
    from jupyterlab.labapp import LabApp  # slow, and not needed to show the table

    try:
        page = write_home()
    except OSError as error:
        print(
            f"{FOLDER} cannot be written ({error.strerror}): there is no home page, and what you "
            "do is not kept. Make it a folder of yours, or open a lesson: jupyter lab Part01/L1",
            file=sys.stderr,
        )
        return 1
    os.environ[logbook.VARIABLE] = str(PROGRESS)
    os.chdir(ROOT)
    given = sys.argv[1:] if arguments is None else arguments
    address = f"/lab/tree/{page.relative_to(ROOT).as_posix()}"
    LabApp.launch_instance([f"--LabApp.default_url={address}", *OFFLINE, *given])
    return 0


if __name__ == "__main__":
    sys.exit(main())
