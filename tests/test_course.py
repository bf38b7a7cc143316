"""The commands that execute lessons, on a small course of which some lessons fail."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from utils import course

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><circle r="5"/></svg>'
FAILS, WORKS = "Part01/L1/L1_fails.ipynb", "Part01/L2/L2_works.ipynb"
DIES, MORE = "Part01/L3/L3_dies.ipynb", "Part02/L2/L2_more.ipynb"


def add_notebook(root, path, *cells):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=list(cells)), root / path)


@pytest.fixture
def small_course(tmp_path, monkeypatch):
    """Four lessons, of which the first fails and the third kills its kernel, and a solution."""
    monkeypatch.setattr(course, "ROOT", tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "0")
    failing = [new_code_cell(line) for line in ("print('before')", "1 / 0", "print('never')")]
    add_notebook(tmp_path, FAILS, new_markdown_cell("# One"), *failing)
    (tmp_path / "Part01/L2").mkdir()
    (tmp_path / "Part01/L2/round.svg").write_text(SVG)
    add_notebook(
        tmp_path,
        WORKS,
        new_markdown_cell("![a circle](round.svg)"),
        new_code_cell("import pathlib, os\nprint(pathlib.Path('round.svg').exists())"),
        new_code_cell("print('Headline: 3 hospitals, ' + os.environ['TQDM_DISABLE'])"),
    )
    add_notebook(tmp_path, "Part01/L2/L2_solutions.ipynb", new_code_cell("2 + 2"))
    add_notebook(tmp_path, DIES, new_code_cell("import os; os._exit(1)"))
    add_notebook(tmp_path, MORE, new_code_cell("6 * 7"))
    return tmp_path


def outputs(path):
    return [
        output.get("text") or output["data"]["text/plain"]
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
    ]


def test_lessons_come_in_order_and_solutions_only_on_request(small_course, capsys):
    names = [path.as_posix() for path in course.lesson_notebooks()]
    assert names == [FAILS, WORKS, DIES, MORE]
    assert len(course.lesson_notebooks(solutions=True)) == 5
    assert course.lesson_notebooks("Part02/L2") == [Path(MORE)]
    for unknown in ("Part01/L9", "", "L1"):
        assert course.main(["--lesson", unknown]) == 2
        said = capsys.readouterr().err
        assert "choose one of: Part01/L1, Part01/L2, Part01/L3, Part02/L2" in said


def test_the_course_goes_on_after_failures_and_writes_what_worked(small_course, capsys):
    assert course.main([]) == 1
    printed = capsys.readouterr()
    assert f"{FAILS}, cell 3: ZeroDivisionError: division by zero" in printed.err
    assert f"{DIES}: DeadKernelError" in printed.err
    table = printed.out[printed.out.index("Lesson") :].splitlines()
    starts = [line.split()[0] for line in table[:5]]
    assert starts == ["Lesson", "L1_fails", "L2_works", "L3_dies", "L2_more"]
    assert [line.count("FAILED") for line in table[:5]] == [0, 1, 0, 1, 0]
    assert "3 hospitals, 1" in table[2]  # the headline, with progress bars off
    build = small_course / "build"
    assert outputs(build / MORE) == ["42"]
    assert outputs(build / WORKS)[0] == "True\n"  # ran in the lesson's folder
    assert not (build / FAILS).exists()
    assert not list(small_course.rglob(".unfinished*"))
    assert (build / "Part01/L2/round.svg").read_text() == SVG
    page = (build / WORKS).with_suffix(".html").read_text()
    assert "data:image/svg+xml;base64" in page
    assert 'src="round.svg"' not in page


def test_in_place_saves_all_but_a_failing_notebook_and_nothing_of_the_run_itself(small_course):
    before = (small_course / FAILS).read_text()
    (small_course / DIES).unlink()
    assert course.main(["--in-place"]) == 1
    assert (small_course / FAILS).read_text() == before
    assert outputs(small_course / "Part01/L2/L2_solutions.ipynb") == ["4"]
    assert not (small_course / "build").exists()
    saved = json.loads((small_course / MORE).read_text())
    assert saved["cells"][0]["metadata"] == {}
    assert saved["cells"][0]["execution_count"] == 1
    assert set(saved["metadata"]) == {"kernelspec", "language_info"}
    assert "version" not in saved["metadata"]["language_info"]
    assert saved["metadata"]["kernelspec"]["name"] == "python3"
    assert os.fspath(small_course) not in json.dumps(saved)


def test_an_interrupted_course_goes_on_with_the_lesson_it_was_at(small_course, capsys, monkeypatch):
    for path in (FAILS, DIES):
        (small_course / path).unlink()
    executed = []

    def execute(notebook, output):
        executed.append(notebook.as_posix())
        if interrupt:
            raise KeyboardInterrupt
        return really(notebook, output)

    really, interrupt = course.execute, False
    monkeypatch.setattr(course, "execute", execute)
    assert course.main(["--lesson", "Part01/L2"]) == 0  # one lesson on its own is not remembered
    executed.clear()

    def stop_before_the_second(outcome):
        nonlocal interrupt
        interrupt = True
        add(outcome)

    progress = course.Progress()
    add = progress.add
    monkeypatch.setattr(
        course.Progress, "add", lambda self, outcome: stop_before_the_second(outcome)
    )
    with pytest.raises(KeyboardInterrupt):
        course.main([])
    assert executed == [WORKS, MORE]
    monkeypatch.setattr(course.Progress, "add", lambda self, outcome: add(outcome))
    with progress.path.open("a") as file:
        file.write('{"notebook": "Part0')  # cut off
    interrupt = False
    executed.clear()
    assert course.main([]) == 0
    assert executed == [MORE]
    said = capsys.readouterr().out
    assert "done before this course was interrupted" in said
    assert "3 hospitals" in said.splitlines()[-4]  # its headline stands in the table
    assert not progress.path.exists()
    executed.clear()
    assert course.main([]) == 0  # a course that is through begins anew
    assert executed == [WORKS, MORE]


def test_a_lesson_that_changed_since_is_run_again(small_course):
    outcome = course.Outcome(Path(WORKS), 3, 1.0, "a headline")
    (small_course / "build" / WORKS).parent.mkdir(parents=True)
    (small_course / "build" / WORKS).touch()
    progress = course.Progress()
    progress.add(outcome)
    assert progress.done(Path(WORKS)) == outcome
    assert progress.done(Path(MORE)) is None
    (small_course / "build" / WORKS).unlink()
    assert progress.done(Path(WORKS)) is None
    (small_course / "build" / WORKS).touch()
    (small_course / "utils").mkdir()
    (small_course / "utils/new.py").write_text("x = 1")
    assert progress.done(Path(WORKS)) is None
