"""``make classroom``: everything an instructor hands out or keeps, in ``build/classroom``."""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ClearOutputPreprocessor

from utils.classroom import timetable, write_assignments, write_slides
from utils.classroom.slides import REVEAL, copy_reveal
from utils.contents import Lesson, lesson_paths, read_lesson

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.prefix) / "classroom"  # where the Makefile puts nbgrader and reveal.js
OUTPUT = ROOT / "build" / "classroom"


def write_notebooks(lessons: list[Lesson], output: Path) -> None:
    """Every lesson without its outputs, and the solutions, as they were run, apart."""
    for lesson in lessons:
        notebook = nbformat.read(ROOT / lesson.path, as_version=4)
        notebook, _ = ClearOutputPreprocessor().preprocess(notebook, {})
        page = output / "notebooks" / lesson.path
        page.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, page)
    for path in sorted(ROOT.glob("Part0*/L*/L*_solutions.ipynb")):
        page = output / "solutions" / path.relative_to(ROOT)
        page.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, page)


def write_release(grading: Path, names: list[str]) -> None:
    """Let nbgrader make the students' versions.

    Raises:
        RuntimeError: with nbgrader's own words, if it could not.
    """
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import PyFileConfigLoader

    config = PyFileConfigLoader("nbgrader_config.py", path=str(grading)).load_config()
    api = NbGraderAPI(config=config)
    for name in names:
        result = api.generate_assignment(name, force=True, create=True)
        if not result["success"]:
            raise RuntimeError(f"nbgrader could not make {name}: {result['log']}")


def main() -> int:
    """Write it all anew; returns the exit status."""
    sys.path.append(str(TOOLS))
    missing = [name for name in ("nbgrader", "sphinx_revealjs") if find_spec(name) is None]
    if missing:
        print(f"{' and '.join(missing)} not found; 'make classroom' installs what is needed.")
        return 1
    shutil.rmtree(OUTPUT, ignore_errors=True)
    lessons = [read_lesson(path, ROOT) for path in lesson_paths(ROOT)]
    cores = [lesson for lesson in lessons if not lesson.further]
    write_notebooks(lessons, OUTPUT)
    (OUTPUT / "timetable.md").write_text(timetable(lessons), encoding="utf-8")
    shutil.copy2(ROOT / "classroom" / "discussion.md", OUTPUT)
    slides = OUTPUT / "slides"
    reveal = Path(find_spec("sphinx_revealjs").origin).parent / "_static" / "revealjs"
    copy_reveal(reveal, slides / REVEAL)
    for lesson in cores:
        name = f"{lesson.path.parts[0]}_{lesson.number}.html"
        write_slides(ROOT / lesson.path, slides / name)
    names = write_assignments([ROOT / x.path.parent for x in cores], OUTPUT / "grading")
    write_release(OUTPUT / "grading", names)
    print(f"{len(lessons)} notebooks, {len(cores)} sets of slides, {len(names)} assignments with")
    print(f"their checks, timetables and questions: {OUTPUT.relative_to(ROOT)}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
