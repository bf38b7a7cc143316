"""The instructor's edition: timetables, slides without a network, questions for every lesson."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from utils.classroom import timetable, write_slides
from utils.classroom.slides import REVEAL, as_slides
from utils.classroom.timetable import minutes_of, split
from utils.contents import lesson_paths, read_lesson

ROOT = Path(__file__).parents[1]
COURSE = [read_lesson(path, ROOT) for path in lesson_paths(ROOT)]
CORES = [lesson for lesson in COURSE if not lesson.further]

# Timetables --------------------------------------------------------------------------------------


def lasting(*minutes):
    return [
        dataclasses.replace(COURSE[0], study=study, running=0.0, name=f"lesson {number}")
        for number, study in enumerate(minutes)
    ]


@pytest.mark.parametrize(("minutes", "parts"), [((60, 30, 30, 60, 45), 3), ((5, 5, 90), 2)])
def test_no_other_split_has_a_shorter_longest_part(minutes, parts):
    found = split(lasting(*minutes), parts)
    assert [lesson.study for part in found for lesson in part] == list(minutes)
    cuts = itertools.combinations(range(1, len(minutes)), parts - 1)
    longest = min(
        max(sum(minutes[a:b]) for a, b in itertools.pairwise((0, *cut, len(minutes))))
        for cut in cuts
    )
    assert max(sum(map(minutes_of, part)) for part in found) == longest


def test_a_split_into_more_parts_than_lessons_is_refused():
    for parts in (0, 3):
        with pytest.raises(ValueError, match="cannot be split"):
            split(lasting(10, 10), parts)


def test_minutes_are_study_and_running_rounded_up_to_five():
    (lesson,) = lasting(60)
    for running, total in ((0.0, 60), (0.5, 65), (5.0, 65), (5.1, 70)):
        assert minutes_of(dataclasses.replace(lesson, running=running)) == total
    with pytest.raises(ValueError, match="has no study time"):
        minutes_of(dataclasses.replace(lesson, study=None))


def test_each_plan_holds_each_lesson_once_and_adds_up():
    day, week, weeks = timetable(COURSE).split("\n## ")[1:]
    for lesson in CORES:
        name = f"Part {lesson.part} {lesson.number} {lesson.name}"
        assert week.count(name) == weeks.count(name) == 1
    further = [lesson.name for lesson in COURSE if lesson.further]
    assert all(weeks.count(name) >= 1 and week.count(name) >= 1 for name in further)
    minutes = [int(n) for n in re.findall(r"\| (\d+) \|$", week, re.MULTILINE)]
    assert sum(minutes) == sum(map(minutes_of, COURSE))
    clock = [int(h) * 60 + int(m) for h, m in re.findall(r"\| (\d+):(\d\d) \|", day)]
    assert clock == sorted(clock)
    assert clock[0] == 9 * 60
    assert clock[-1] <= 18 * 60
    assert day.count("lunch") == 1


def test_a_longer_lesson_makes_a_longer_plan():
    longer = [dataclasses.replace(COURSE[0], study=COURSE[0].study + 60), *COURSE[1:]]
    assert timetable(longer) != timetable(COURSE)


# Questions ---------------------------------------------------------------------------------------


def test_every_lesson_has_two_to_four_questions():
    text = (ROOT / "classroom" / "discussion.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    cores = [f"Part {x.part}, {x.number} {x.name}" for x in CORES]
    assert list(sections) == [*cores, "The capstone"]
    for name, section in sections.items():
        numbers = [int(n) for n in re.findall(r"^(\d)\. .+[?.]$", section, re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1)), name
        assert 2 <= len(numbers) <= 4, name


# Slides ------------------------------------------------------------------------------------------

PICTURE = new_output("display_data", data={"image/png": "aGVsbG8="})


def test_headings_begin_slides_figures_lose_their_code_and_the_rest_goes_down():
    cells = [
        new_markdown_cell("# L1 Why\n\nA question?"),
        new_code_cell("start_lesson()"),
        new_markdown_cell("Seen.\n\n## One\n\nSo."),
        new_code_cell("x = 1"),
        new_code_cell("y = 2"),
        new_code_cell("plot()", outputs=[PICTURE]),
        new_markdown_cell("*Figure: a line.*"),
        new_markdown_cell("## References\n\n- A book"),
        new_code_cell("z = 3"),
    ]
    slides = as_slides(new_notebook(cells=cells)).cells
    assert [(c.source.split("\n")[0], c.metadata.slideshow.slide_type) for c in slides] == [
        ("# L1 Why", "slide"),
        ("start_lesson()", "skip"),
        ("Seen.", "subslide"),
        ("## One", "slide"),
        ("x = 1", "-"),
        ("y = 2", "subslide"),
        ("plot()", "subslide"),
        ("*Figure: a line.*", "-"),
        ("## References", "skip"),
        ("z = 3", "skip"),
    ]
    hidden = [c.source for c in slides if c.metadata.get("transient", {}).get("remove_source")]
    assert hidden == ["plot()"]


@pytest.mark.parametrize("lesson", CORES, ids=lambda x: x.path.stem)
def test_a_lessons_slides_hold_its_figures_and_load_nothing_from_elsewhere(lesson, tmp_path):
    output = tmp_path / "slides.html"
    write_slides(ROOT / lesson.path, output)
    page = output.read_text(encoding="utf-8")
    loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"([^\"]+)\"", page)
    assert loaded
    assert all(address.startswith((f"{REVEAL}/", "data:")) for address in loaded)
    assert not re.search(r"(?:import .*from|@import|url\() *['\"]?https?:", page)
    notebook = nbformat.read(ROOT / lesson.path, as_version=4)
    pictures = json.dumps(notebook).count('"image/png"')
    shown = re.findall(r"<img[^>]*data:image/png", page)
    assert len(shown) == pictures > 0
    assert lesson.question.split("*")[0][:40] in page
    assert "## References" not in page
    assert "arXiv:" not in page.split("Check yourself")[-1]
