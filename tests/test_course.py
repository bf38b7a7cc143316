import json
import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from utils import course

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><circle r="5"/></svg>'


def add_notebook(root, path, *cells):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=list(cells)), root / path)


@pytest.fixture
def small_course(tmp_path, monkeypatch):
    """Three lessons, of which the first fails, and one solution."""
    monkeypatch.setattr(course, "ROOT", tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "0")
    add_notebook(
        tmp_path,
        "Part01/L1/L1_fails.ipynb",
        new_markdown_cell("# One"),
        new_code_cell("print('before')"),
        new_code_cell("1 / 0"),
        new_code_cell("print('never')"),
    )
    (tmp_path / "Part01/L2").mkdir()
    (tmp_path / "Part01/L2/round.svg").write_text(SVG)
    add_notebook(
        tmp_path,
        "Part01/L2/L2_works.ipynb",
        new_markdown_cell("![a circle](round.svg)"),
        new_code_cell("import pathlib, os\nprint(pathlib.Path('round.svg').exists())"),
        new_code_cell("print('Headline: 3 hospitals, ' + os.environ['TQDM_DISABLE'])"),
    )
    add_notebook(tmp_path, "Part01/L2/L2_solutions.ipynb", new_code_cell("2 + 2"))
    add_notebook(tmp_path, "Part02/L2/L2_more.ipynb", new_code_cell("6 * 7"))
    return tmp_path


def outputs(path):
    notebook = nbformat.read(path, as_version=4)
    return [
        o.get("text") or o["data"]["text/plain"]
        for c in notebook.cells
        for o in c.get("outputs", [])
    ]


def test_lessons_come_in_order_and_solutions_only_on_request(small_course):
    names = [path.as_posix() for path in course.lesson_notebooks()]
    assert names == [
        "Part01/L1/L1_fails.ipynb",
        "Part01/L2/L2_works.ipynb",
        "Part02/L2/L2_more.ipynb",
    ]
    assert len(course.lesson_notebooks(solutions=True)) == 4
    assert course.lesson_notebooks("Part02/L2") == [Path("Part02/L2/L2_more.ipynb")]


@pytest.mark.parametrize("lesson", ["Part01/L9", "", "L1"])
def test_an_unknown_lesson_gets_the_list_of_lessons(small_course, lesson, capsys):
    assert course.main(["--lesson", lesson]) == 2
    assert "choose one of: Part01/L1, Part01/L2, Part02/L2" in capsys.readouterr().err


def test_the_course_goes_on_after_a_failure_and_names_the_cell(small_course, capsys):
    assert course.main([]) == 1
    printed = capsys.readouterr()
    assert "Part01/L1/L1_fails.ipynb, cell 3: ZeroDivisionError: division by zero" in printed.err
    table = printed.out[printed.out.index("Lesson") :]
    assert [line.split()[0] for line in table.splitlines()[:4]] == [
        "Lesson",
        "L1_fails",
        "L2_works",
        "L2_more",
    ]
    assert "FAILED" in table
    assert table.count("3 hospitals, 1") == 1  # the headline, with progress bars off
    build = small_course / "build"
    assert outputs(build / "Part02/L2/L2_more.ipynb") == ["42"]
    assert not (build / "Part01/L1/L1_fails.ipynb").exists()
    assert not list(small_course.rglob(".unfinished*"))


def test_a_kernel_that_dies_does_not_end_the_course(small_course, capsys):
    dying = new_code_cell("import os; os._exit(1)")
    add_notebook(small_course, "Part01/L2/L2_works.ipynb", dying)
    assert course.main([]) == 1
    printed = capsys.readouterr()
    assert "Part01/L2/L2_works.ipynb: DeadKernelError" in printed.err
    assert "L2_more" in printed.out[printed.out.index("Lesson") :]
    assert not list(small_course.rglob(".unfinished*"))


def test_the_html_page_holds_its_diagrams(small_course):
    assert course.main(["--lesson", "Part01/L2"]) == 0
    folder = small_course / "build/Part01/L2"
    assert outputs(folder / "L2_works.ipynb")[0] == "True\n"  # ran in the lesson's folder
    assert (folder / "round.svg").read_text() == SVG
    page = (folder / "L2_works.html").read_text()
    assert "data:image/svg+xml;base64" in page
    assert 'src="round.svg"' not in page


def test_in_place_saves_all_but_a_failing_notebook(small_course):
    before = (small_course / "Part01/L1/L1_fails.ipynb").read_text()
    assert course.main(["--in-place"]) == 1
    assert (small_course / "Part01/L1/L1_fails.ipynb").read_text() == before
    assert outputs(small_course / "Part01/L2/L2_solutions.ipynb") == ["4"]
    assert not (small_course / "build").exists()


def test_a_saved_notebook_tells_nothing_of_the_run_that_made_it(small_course):
    course.main(["--lesson", "Part02/L2", "--in-place"])
    saved = json.loads((small_course / "Part02/L2/L2_more.ipynb").read_text())
    assert saved["cells"][0]["metadata"] == {}
    assert saved["cells"][0]["execution_count"] == 1
    assert set(saved["metadata"]) == {"kernelspec", "language_info"}
    assert "version" not in saved["metadata"]["language_info"]
    assert saved["metadata"]["kernelspec"]["name"] == "python3"
    assert os.fspath(small_course) not in json.dumps(saved)
