"""Prose cannot contradict outputs: a result that a caption or a summary states was printed.

Results are decimals ("0.91") and percentages ("91%"); results in words ("about two points")
are free. A table's or a figure's caption begins with "*Figure" or "*Table".
"""

import re

import pytest

from tests.notebooks.test_shape import LESSONS, MORE, read

RESULT = re.compile(r"(?<![\w.:/-])(\d+(?:\.\d+)?)(?![\d.]*\d)( ?%)?")
TERM = re.compile(r"\b95 ?% (?:confidence )?intervals?|\bguessing: 0\.\d+")
LINK = re.compile(r"\]\([^)]*\)|arXiv:\S+|doi:\S+")


def results(text):
    """The result numbers of a piece of prose, with their % where they have one."""
    plain = TERM.sub("", LINK.sub("", text))
    found = RESULT.findall(plain)
    return [number + sign.strip() for number, sign in found if sign or "." in number]


def stated(text):
    """What a cell states as results: a caption, without the text that follows; a summary."""
    start = text.lstrip()
    if start.startswith(("*Figure", "*Table")):
        return start.partition("\n\n")[0]
    return start if "what you learned" in start[:40].lower() else ""


def printed(notebook):
    """All that the notebook's cells printed or returned, as text."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts.append(output.get("text", ""))
            texts += [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return "\n".join(texts)


def unprinted(numbers, shown):
    """The numbers that do not stand in what was shown, whole and at that precision."""
    there = {number.replace(" ", "") for number in re.findall(r"\d+(?:\.\d+)?(?: ?%)?", shown)}
    there |= {number.rstrip("%") for number in there if "." in number}
    return [number for number in numbers if number not in there]


@pytest.mark.parametrize("path", LESSONS + MORE, ids=lambda p: p.stem)
def test_every_result_that_a_caption_or_summary_states_was_printed(path):
    notebook = read(path)
    shown = printed(notebook)
    told = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    faults = {
        text[:60]: strange for text in told if (strange := unprinted(results(stated(text)), shown))
    }
    assert not faults


@pytest.mark.parametrize(
    ("prose", "found"),
    [
        ("accuracy 0.91, after 0.8", ["0.91", "0.8"]),
        ("91% right, 12.5 % before", ["91%", "12.5%"]),
        ("20 clients, in 1:0.5, v1.4, arXiv:1602.05629, L3.2", []),
        ("a 95% interval, [0.3](x_0.7.md)", ["0.3"]),
        ("it ends at 0.90.", ["0.90"]),
    ],
)
def test_results_are_read_from_prose(prose, found):
    assert results(prose) == found


@pytest.mark.parametrize(
    ("numbers", "shown", "left"),
    [
        (["0.8"], "0.83", ["0.8"]),
        (["0.83"], "accuracy 0.83.", []),
        (["83%"], "83 of 100, 0.83", ["83%"]),
        (["83%"], "is 83 %", []),
        (["0.83"], "10.83", ["0.83"]),
    ],
)
def test_a_number_is_shown_only_whole_and_at_that_precision(numbers, shown, left):
    assert unprinted(numbers, shown) == left
