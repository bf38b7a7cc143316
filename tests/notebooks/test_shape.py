"""Every committed notebook: executed, clean, complete. (nbval runs them; this reads them.)"""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NUMBERED = sorted(ROOT.glob("Part0*/L*/L*.ipynb"))
NOTEBOOKS = [*NUMBERED, ROOT / "Part02" / "capstone" / "capstone.ipynb"]
MORE = [path for path in NUMBERED if "_more_" in path.stem]
LESSONS = [path for path in NUMBERED if not path.stem.endswith("_solutions") and path not in MORE]
ABSOLUTE = re.compile(r"(?<![\w.])(/(?:root|home|tmp|usr|opt|work|Users|content)/|[A-Z]:\\)[\w.-]+")
WIDGET = "application/vnd.jupyter.widget-view+json"

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
every_read = pytest.mark.parametrize("path", LESSONS + MORE, ids=lambda p: p.stem)
every_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.parent.name)


def read(path):
    return nbformat.read(path, as_version=4)


def code(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def source(path):
    return "\n".join(cell.source for cell in code(path))


def prose(path):
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def test_there_are_lessons():
    assert {path.parent.name for path in LESSONS} >= {"L1", "L2"}


@every_notebook
def test_it_is_valid_and_under_a_megabyte(path):
    nbformat.validate(read(path))
    assert path.stat().st_size < 1_000_000


@every_notebook
def test_it_was_executed_from_top_to_bottom_without_errors(path):
    cells = code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]


@every_notebook
def test_it_carries_no_widgets_no_paths_and_no_private_metadata(path):
    notebook = read(path)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert not set(cell.metadata) - {"tags"}
        for output in cell.get("outputs", []):
            assert WIDGET not in output.get("data", {})
        match = ABSOLUTE.search(str(cell))
        assert not match, f"{path.name} holds the path {match}"


@every_notebook
def test_no_code_cell_is_longer_than_25_lines_or_hides_what_happens(path):
    for cell in code(path):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= 25, cell.source
        assert "%%capture" not in cell.source
        assert "filterwarnings" not in cell.source


@every_lesson
def test_a_lesson_has_all_its_parts(path):
    text = prose(path)
    for part in (
        "You will learn",
        "You need",
        "**Time**",
        "Predict",
        "## What you learned",
        "## Check yourself",
        "## Exercises",
        "## Next",
        "## References",
    ):
        assert part in text, part
    assert text.count("<details>") == 3
    for call in ("start_lesson(", "checkpoint(", "headline("):
        assert call in source(path), call


@pytest.mark.parametrize("path", MORE, ids=lambda p: p.stem)
def test_what_goes_further_says_what_it_needs_and_what_it_found(path):
    text = prose(path)
    for part in (
        "You will learn",
        "You need",
        "**Time**",
        "Predict",
        "## What you learned",
        "## Check yourself",
        "## References",
    ):
        assert part in text, part
    for call in ("start_lesson(", "checkpoint(", "headline(", "\ncheck_"):
        assert call in source(path), call
    (core,) = (other for other in LESSONS if other.parent == path.parent)
    assert f"]({path.name})" in prose(core), "its lesson must point to it"
    assert f"]({core.name})" in text, "it must point back"


@every_read
def test_every_link_and_picture_of_a_lesson_is_there(path):
    for target in re.findall(r"\]\(([^)#]+)\)", prose(path)):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@every_lesson
def test_every_exercise_has_a_check_and_a_solution_that_passes_it(path):
    checks = set(re.findall(r"^(check_\w+)\(", source(path), re.MULTILINE))
    assert 2 <= len(checks) <= 4
    for more in MORE:  # may have exercises of their own, solved in the same notebook
        if more.parent == path.parent:
            checks |= set(re.findall(r"^(check_\w+)\(", source(more), re.MULTILINE))
    solutions = path.with_name(f"{path.stem.split('_')[0]}_solutions.ipynb")
    solved = set(re.findall(r"^(check_\w+)\(.*\.require\(\)", source(solutions), re.MULTILINE))
    assert solved == checks
    printed = [o.get("text", "") for cell in code(solutions) for o in cell.outputs]
    assert sum(text.count("Right.") for text in printed) == len(checks)


@every_read
def test_every_exercise_stands_undone_in_the_lesson(path):
    shown = [
        output["data"].get("text/plain", "")
        for cell in code(path)
        if re.match(r"check_\w+\(", cell.source.splitlines()[-1])
        for output in cell.outputs
    ]
    assert shown or path in MORE
    assert all(text.startswith("Not done yet") for text in shown)
