"""The exercises as nbgrader assignments: a lesson's stubs, the worked answers, and the checks.

nbgrader itself makes the students' version (``release``) from the instructor's (``source``), and
puts back, before it grades, any check that a student has changed.
"""

import ast
import re
import shutil
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
_ROOT = """import sys
from pathlib import Path

# The course's folder: this file lies in it, or PYTHONPATH names it
sys.path += [str(p) for p in Path.cwd().parents if (p / "utils" / "lesson.py").exists()]"""
CONFIG = """# nbgrader's configuration: run nbgrader in this folder.
import os
import sys
from pathlib import Path

import nbgrader

here = Path(__file__).resolve()
c = get_config()  # noqa: F821 (nbgrader provides it)
c.CourseDirectory.course_id = "federated-learning"
c.CourseDirectory.root = str(here.parent)
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE"}
c.ExecutePreprocessor.timeout = 300


def first(variable, *folders):
    os.environ[variable] = os.pathsep.join([*map(str, folders), os.environ.get(variable, "")])


# The checks import the course, three folders above; nbgrader starts a program of this
# environment by its bare name, which imports nbgrader
first("PYTHONPATH", here.parents[3], Path(nbgrader.__file__).parents[1])
first("PATH", Path(sys.executable).parent)
"""


def exercises_of(folder: Path) -> dict[str, tuple[str, str]]:
    """A lesson's exercises by the name of their check: what is asked, and the stub.

    Args:
        folder: the lesson's.
    """
    found = {}
    for path in sorted(folder.glob("L*.ipynb")):
        if path.stem.endswith("_solutions"):
            continue
        asked = ""
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                asked = cell.source
            elif call := re.search(r"^(check_\w+)\((\w+)\)$", cell.source, re.MULTILINE):
                found[call[1]] = _asked(asked), cell.source
    return found


def _asked(prose: str) -> str:
    """From the exercise's name on, without the way to its answer."""
    text = prose.rpartition("## Exercise")[2]
    text = text[text.find("**") :]
    return re.sub(r"\s*([^.?]*solutions\.ipynb`[^.]*\.|Stuck\?.*?the next\.)", "", text).strip()


def with_solution(stub: str, solution: str) -> str:
    """The stub, with the worked answer between nbgrader's marks.

    Args:
        stub: a lesson's cell, which ends with the call of its check.
        solution: the cell that answers it.

    Raises:
        ValueError: if the solution does not define what the stub does.
    """
    given, worked = ast.parse(stub).body[0], ast.parse(solution)
    lines = stub.splitlines()[: given.end_lineno]
    if isinstance(given, ast.FunctionDef):
        answers = [x for x in worked.body if getattr(x, "name", None) == given.name]
        body = answers and answers[0].body[1:]  # without its docstring
    else:
        name = given.targets[0].id
        body = [x for x in worked.body if isinstance(x, ast.Assign) and x.targets[0].id == name]
    if not body:
        raise ValueError(f"the solution does not answer this stub: {lines[0]}")
    answer = solution.splitlines()[body[0].lineno - 1 : body[-1].end_lineno]
    margin = " " * body[0].col_offset
    marked = [margin + BEGIN, *answer, margin + END]
    if isinstance(given, ast.FunctionDef):  # what is left without the answer: return ...
        return "\n".join([*lines[:-1], *marked, lines[-1]])
    return "\n".join([*lines, *marked])


def assignment(folder: Path) -> nbformat.NotebookNode:
    """The instructor's version of a lesson's exercises.

    Args:
        folder: the lesson's, with its solutions.

    Raises:
        ValueError: if an exercise has no worked answer.
    """
    (path,) = folder.glob("L*_solutions.ipynb")
    asked, solved = exercises_of(folder), nbformat.read(path, as_version=4)
    title = solved.cells[0].source.splitlines()[0].removesuffix(": solutions")
    sources = [cell.source for cell in solved.cells if cell.cell_type == "code"]
    imports = [s for s in sources[1:] if re.match(r"(import|from) ", s) and ".require()" not in s]
    cells = [
        new_markdown_cell(f"{title}: exercises\n\nRun the two cells below first."),
        new_code_cell(_ROOT),
        new_code_cell("\n".join(imports)),
    ]
    for source in sources:
        call = re.search(r"^(check_\w+)\((\w+)\)\.require\(\)$", source, re.MULTILINE)
        if call:
            prose, stub = asked.pop(call[1])
            answer = new_code_cell(with_solution(stub, source))
            answer.metadata["nbgrader"] = _marks(call[2], solution=True)
            check = new_code_cell(f"from checks import {call[1]}\n\n{call[0]}")
            check.metadata["nbgrader"] = _marks(call[1], solution=False)
            cells += [new_markdown_cell(prose), answer, check]
    if asked:
        raise ValueError(f"{path.name} has no answer for {', '.join(asked)}")
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    return notebook


def _marks(name: str, solution: bool) -> dict:
    """nbgrader's words for a cell to fill in, or for one that grades it, for a point."""
    words = {"grade": not solution, "solution": solution, "locked": not solution, "task": False}
    return {**words, "grade_id": name, "schema_version": 3} | ({} if solution else {"points": 1})


def write_assignments(lessons: list[Path], output: Path) -> list[str]:
    """Write nbgrader's folder: its configuration, and the instructor's version of every lesson.

    Args:
        lessons: their folders.
        output: the folder to write.

    Returns:
        The assignments' names.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    names = []
    for folder in lessons:
        name = f"{folder.parent.name}_{folder.name}"
        source = output / "source" / name
        source.mkdir(parents=True, exist_ok=True)
        for module in folder.glob("*.py"):
            shutil.copy2(module, source)
        nbformat.write(assignment(folder), source / f"{folder.name}_exercises.ipynb")
        names.append(name)
    return names
