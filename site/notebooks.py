"""A committed notebook becomes a page: every figure with words, how to run it, what follows."""

import base64
import copy
import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

SHORTEST_CAPTION = 30  # letters: less does not tell a blind reader what there is to see


@dataclass
class Figure:
    """One picture that a notebook drew."""

    notebook: Path  # relative to the repository's root
    number: int  # in its notebook, from 1
    cell: int
    png: bytes
    caption: str = ""

    @property
    def label(self) -> str:
        """Its name for links; unique in the site."""
        return figure_label(self.notebook, self.number)


def figure_label(notebook: Path, number: int) -> str:
    """The name by which a page links to a notebook's figure of that number."""
    return f"{'-'.join(notebook.with_suffix('').parts)}-figure-{number}".lower().replace("_", "-")


def captions(markdown: str) -> list[str]:
    """The captions in a piece of prose, as plain text: what stands in italics from "Figure" on."""
    found = []
    for token in MarkdownIt().parse(markdown):
        parts, depth = [], 0
        for child in token.children or []:
            if child.type == "em_close":
                depth -= 1
                if not depth:
                    said = " ".join("".join(parts).split())
                    if said.startswith("Figure"):
                        found.append(said.partition(":")[2].strip() or said)
                    parts = []
            elif child.type == "em_open":
                depth += 1
            elif depth:
                parts.append(" " if child.type == "softbreak" else child.content)
    return found


def figures(notebook: NotebookNode, where: Path) -> list[Figure]:
    """The notebook's figures in order, each with its caption.

    A figure's caption is the first one below it, and above the next figure.

    Args:
        notebook: with its outputs.
        where: its path relative to the repository's root.

    Raises:
        ValueError: if a figure has no caption, or one of a few letters.
    """
    drawn, waiting = [], []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            for caption in captions(cell.source)[: len(waiting)]:
                waiting.pop(0).caption = caption
        shown = [o.data["image/png"] for o in cell.get("outputs", []) if "image/png" in _data(o)]
        if shown and waiting:
            break
        for png in shown:
            drawn.append(Figure(where, len(drawn) + 1, index, base64.b64decode(png)))
            waiting.append(drawn[-1])
    if short := [figure for figure in drawn if len(figure.caption) < SHORTEST_CAPTION]:
        raise ValueError(
            f"{where.as_posix()}: the figure of cell {short[0].cell + 1} has the caption "
            f"{short[0].caption!r}; a blind reader needs at least {SHORTEST_CAPTION} letters. "
            "Write a prose cell below it: *Figure: what there is to see, in words.*"
        )
    return drawn


def linked_files(notebook: NotebookNode) -> set[str]:
    """The files that a notebook's prose links to or shows, as it writes them; no notebooks."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)#\s]+)\)", prose)
    return {t for t in targets if "://" not in t and not t.endswith(".ipynb")}


def _data(output: NotebookNode) -> dict:
    return output.get("data", {})


def as_page(
    notebook: NotebookNode, drawn: list[Figure], below_the_title: str = "", at_the_end: str = ""
) -> NotebookNode:
    """The notebook as the site shows it; the one given stays as it is.

    Args:
        notebook: with its outputs.
        drawn: its ``figures``; their captions become the pictures' alternative texts.
        below_the_title: Markdown that follows the opening cell.
        at_the_end: Markdown that follows the last cell.
    """
    page = copy.deepcopy(notebook)
    for index in {figure.cell for figure in drawn}:
        here = [figure for figure in drawn if figure.cell == index]
        page.cells[index].metadata["mystnb"] = {
            "image": {
                "alt": " ".join(figure.caption for figure in here),
                "classes": here[0].label,  # which linking.py makes the target of links
            }
        }
    if below_the_title:
        page.cells.insert(1, new_markdown_cell(below_the_title))
    if at_the_end:
        page.cells.append(new_markdown_cell(at_the_end))
    return page
