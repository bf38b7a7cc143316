"""A learner's way through JupyterLab: the home page, a lesson, an exercise, a restart."""

import json

import pytest

from tests.lab.lab import Lab, browser_path, running_lab

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright drives the browser")
pytestmark = pytest.mark.skipif(
    browser_path() is None, reason="no Chromium here: 'make browser', or install one, to run this"
)
LESSON = "L1 Why federated learning"
NOTEBOOK = "L1_why_federated_learning.ipynb"
ANSWER = "my_missing = [{1, 3, 7}, {1, 3, 7}, {4, 6, 9}]\n\ncheck_missing_sets(my_missing)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("course")


@pytest.fixture(scope="module")
def lab(folder):
    """JupyterLab at the home page, in a browser; the tests below go on where the last one was."""
    with running_lab(folder) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(address)
        yield Lab(page)
        browser.close()


def test_it_opens_at_the_home_page_which_lists_the_lessons(lab):
    for link in (LESSON, "L2 The federated training process"):
        lab.page.get_by_role("link", name=link).first.wait_for()
    assert lab.page.get_by_role("cell", name="not begun").count() == 4
    assert lab.page.get_by_text("0 of 4 notebooks done").count() == 1


def test_a_link_opens_the_lesson_and_a_restart_in_the_middle_does_no_harm(lab, folder):
    lab.page.get_by_role("link", name=LESSON).first.click()
    lab.bring_up(NOTEBOOK)
    lab.until(lambda: lab.sources()[0].startswith(f"# {LESSON}") and lab.idle(), "the lesson")
    lab.menu("Run", "Run All Cells")
    lab.until(lambda: lab.counts()[-1] is None, "the beginning")
    lab.until(lambda: lab.counts()[5] is not None, "the middle")
    lab.menu("Kernel", "Restart Kernel…")
    lab.page.locator(".jp-Dialog").get_by_role("button", name="Confirm Kernel Restart").click()
    lab.until(lambda: lab.idle(), "the kernel again")
    lab.menu("Run", "Run All Cells")
    whole = list(range(1, len(lab.counts()) + 1))
    lab.until(lambda: lab.counts() == whole and lab.idle(), "every cell")
    assert "Error" not in "".join(lab.said_by(part) for part in ("start_lesson", "headline("))
    kept = json.loads((folder / "progress" / "progress.json").read_text())
    (lesson,) = kept.values()
    assert len(lesson["checkpoints"]) == 6
    assert set(lesson["exercises"].values()) == {"Not done yet"}


def test_an_exercise_reacts_and_gives_hints(lab):
    lab.bring_up(NOTEBOOK)
    assert lab.said_by("check_missing_sets(").startswith("Not done yet")
    cell = lab.cell("check_missing_sets(my_missing)")
    lab.type_into(cell, "check_missing_sets.hint()")
    lab.until(lambda: lab.said_by("check_missing_sets.hint").startswith("Hint 1 of"), "a hint")
    lab.type_into(cell, ANSWER)
    lab.until(lambda: lab.said_by("my_missing =").startswith("Right."), "Right")


def test_the_self_test_is_clicked_and_remembers_what_was_clicked(lab, folder):
    lab.bring_up(NOTEBOOK)
    cell = lab.cell("from self_test import")
    option = cell.get_by_role("radio", name="almost never")
    option.click()
    cell.get_by_text("Right. In training").wait_for()
    (kept,) = json.loads((folder / "progress" / "progress.json").read_text()).values()
    assert list(kept["self-test"].values()) == ["almost never"]
    lab.type_into(cell, None)
    cell.get_by_text("Right. In training").wait_for()
    assert option.is_checked()


def test_the_home_page_shows_what_was_done(lab):
    lab.bring_up("Home.ipynb")
    lab.type_into(lab.cell("show()"), None)
    lab.page.get_by_role("cell", name="begun: 6 of 6 checkpoints, 1 of 4 exercises").wait_for()
    assert lab.page.get_by_role("cell", name="not begun").count() == 3


def test_the_browser_had_nothing_to_complain_about(lab):
    assert lab.errors() == []
