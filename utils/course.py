"""Execute lessons from the command line: ``make course``, ``make lesson``, ``make notebooks``."""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from utils.arguments import flag, text
from utils.contents import headline_of
from utils.readme import write_lessons, write_pictures

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Outcome:
    """How the execution of one notebook ended."""

    notebook: Path
    cells: int
    seconds: float
    headline: str
    error: str | None = None


def lesson_notebooks(lesson: str | None = None, solutions: bool = False) -> list[Path]:
    """The lessons' notebooks in order, relative to the repository's root.

    Args:
        lesson: a lesson's folder such as ``"Part01/L2"``; None for all.
        solutions: whether to include the ``…_solutions.ipynb``.

    Raises:
        ValueError: if there is no such lesson.
    """
    if lesson is not None:
        text("lesson", lesson)
    solutions = flag("solutions", solutions)
    found = [*ROOT.glob("Part0*/L*/L*.ipynb"), *ROOT.glob("Part0*/capstone/*.ipynb")]
    everything = sorted(path.relative_to(ROOT) for path in found)
    chosen = [
        path
        for path in everything
        if (solutions or not path.stem.endswith("_solutions"))
        and lesson in (None, path.parent.as_posix())
    ]
    if not chosen:
        known = sorted({path.parent.as_posix() for path in everything})
        raise ValueError(
            f"there is no lesson {lesson!r}; choose one of: {', '.join(known) or 'none yet'} "
            "(for example: make lesson LESSON=Part01/L2)"
        )
    return chosen


def execute(notebook: Path, output: Path) -> Outcome:
    """Run a notebook top to bottom in its own folder, and save it with its outputs.

    The output is written whole or not at all, also where a cell fails.

    Args:
        notebook: path relative to the repository's root.
        output: where to save the executed notebook; may be the notebook itself.
    """
    unfinished = output.with_name(f".unfinished-{output.name}")
    started = time.perf_counter()
    error = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        error = f"{output.parent} cannot be written ({failure.strerror}); make it a folder of yours"
        return Outcome(notebook, 0, 0.0, "", error)
    try:
        papermill.execute_notebook(
            ROOT / notebook,
            unfinished,
            cwd=ROOT / notebook.parent,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # quiet
        )
    except PapermillExecutionError as failure:
        error = f"{notebook}, cell {failure.cell_index + 1}: {failure.ename}: {failure.evalue}"
    except (DeadKernelError, CellTimeoutError) as failure:
        error = f"{notebook}: {type(failure).__name__}: {failure} (out of memory, perhaps?)"
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    seconds = time.perf_counter() - started
    executed = nbformat.read(unfinished, as_version=4)
    if error:
        unfinished.unlink()  # papermill's copy carries extra cells about the error
    else:
        _remove_run_metadata(executed)
        nbformat.write(executed, unfinished)
        unfinished.replace(output)
    return Outcome(notebook, len(executed.cells), seconds, headline_of(executed), error)


def _remove_run_metadata(notebook: nbformat.NotebookNode) -> None:
    """Keep times, versions, paths and widget state of one run out of the saved file."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)


def publish(executed: Path, lesson: Path) -> None:
    """Put the lesson's diagrams beside an executed notebook, and write it as one HTML page."""
    for diagram in lesson.glob("*.svg"):
        shutil.copy2(diagram, executed.parent)
    resources = {"metadata": {"path": str(executed.parent)}}
    body, _ = HTMLExporter(embed_images=True).from_filename(str(executed), resources=resources)
    executed.with_suffix(".html").write_text(body, encoding="utf-8")


def _digest(notebook: Path) -> str:
    """Of a lesson's source and the shared code: as long as it stays, so does the result."""
    digest = hashlib.sha256()
    cells = nbformat.read(ROOT / notebook, as_version=4).cells
    digest.update("\0".join(cell.source for cell in cells).encode())
    for path in sorted([*ROOT.glob("utils/**/*.py"), *(ROOT / notebook.parent).glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Progress:
    """What an interrupted ``make course`` has done: the next one goes on from there.

    A line of JSON a lesson, in ``build/``; a lesson whose source has changed since, or the
    shared code, or whose output is gone, is run again.
    """

    def __init__(self) -> None:
        self.path = ROOT / "build" / "progress.jsonl"

    def done(self, notebook: Path) -> Outcome | None:
        """How a lesson ended, if it need not be run again."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        for line in lines:
            with contextlib.suppress(
                ValueError, TypeError, KeyError
            ):  # half a line, cut off by a kill
                entry = json.loads(line)
                if entry.pop("digest") == _digest(notebook) and entry["notebook"] == str(notebook):
                    entry["notebook"] = notebook
                    return Outcome(**entry) if (ROOT / "build" / notebook).exists() else None
        return None

    def add(self, outcome: Outcome) -> None:
        """Note that a lesson is done."""
        entry = asdict(outcome) | {"notebook": str(outcome.notebook)}
        with self.path.open("a") as file:
            file.write(json.dumps(entry | {"digest": _digest(outcome.notebook)}) + "\n")

    def clear(self) -> None:
        """The course is through."""
        self.path.unlink(missing_ok=True)


def closing_table(outcomes: list[Outcome]) -> str:
    """Lesson, cells, minutes and headline, one line a notebook."""
    rows = [("Lesson", "Cells", "Minutes", "Headline")]
    rows += [
        (
            o.notebook.stem,
            str(o.cells),
            f"{o.seconds / 60:.1f}",
            "FAILED" if o.error else o.headline,
        )
        for o in outcomes
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {cells:>{widths[1]}}  {minutes:>{widths[2]}}  {line}"
        for name, cells, minutes, line in rows
    )


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m utils.course", description=__doc__)
    parser.add_argument("--lesson", help="one lesson's folder, e.g. Part01/L2 (default: all)")
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="save the notebooks, solutions included, where they are, instead of in build/",
    )
    options = parser.parse_args(arguments)
    try:
        notebooks = lesson_notebooks(options.lesson, solutions=options.in_place)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    os.environ["TQDM_DISABLE"] = "1"  # in the kernels: a saved notebook needs no progress bars
    outcomes = []
    progress = None if options.in_place or options.lesson else Progress()
    for notebook in notebooks:
        print(f"\n{notebook}", flush=True)
        before = progress and progress.done(notebook)
        if before:
            print("done before this course was interrupted (make clean to begin anew)", flush=True)
            outcomes.append(before)
            continue
        output = ROOT / notebook if options.in_place else ROOT / "build" / notebook
        outcomes.append(execute(notebook, output))
        if outcomes[-1].error:
            print(f"FAILED: {outcomes[-1].error}", flush=True)
        elif not options.in_place:
            publish(output, ROOT / notebook.parent)
            if progress:
                progress.add(outcomes[-1])
    print("\n" + closing_table(outcomes))
    failures = [outcome.error for outcome in outcomes if outcome.error]
    if failures:
        print("\nFailed:\n" + "\n".join(f"  {failure}" for failure in failures), file=sys.stderr)
    elif options.in_place:
        if write_lessons(ROOT / "README.md"):
            print("\nThe lessons' new headlines are in README.md")
        write_pictures(ROOT)
    else:
        if progress:
            progress.clear()
        print("\nExecuted notebooks and HTML pages are in build/")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
