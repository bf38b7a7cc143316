"""Slides of a lesson that need no network: nbconvert's, with reveal.js beside them."""

import re
import shutil
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat.v4 import new_markdown_cell

REVEAL = "reveal.js"  # the folder beside the slides
_NEEDED = ("LICENSE", "dist/reveal.js", "dist/reveal.css", "dist/theme/white.css")
_FOLDERS = ("dist/theme/fonts/source-sans-pro", "plugin/notes")
_NOT_SHOWN = ("## Next", "## References")


def as_slides(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Mark what begins a slide: a heading one to the right, all else one down.

    Code stays with the prose before it, and a caption with its figure. The set-up and the
    references are left out, and so is the code that draws a figure: the figure is what a class
    looks at.
    """
    cells, skipping, before = [], True, None
    for cell in (part for whole in notebook.cells for part in _parts(whole)):
        heading = cell.cell_type == "markdown" and cell.source.startswith("#")
        if heading:
            skipping = cell.source.startswith(_NOT_SHOWN)
        set_up = cell.cell_type == "code" and len(_headings(cells)) < 2  # before section 1
        stays = before == "markdown" and cell.cell_type == "code" and not _pictures(cell)
        caption = cell.cell_type == "markdown" and cell.source.startswith("*Figure")
        stays |= caption
        kind = "slide" if heading else "-" if stays else "subslide"
        cell.metadata["slideshow"] = {"slide_type": "skip" if skipping or set_up else kind}
        if _pictures(cell):
            cell.metadata["transient"] = {"remove_source": True}
        before = None if caption else cell.cell_type
        cells.append(cell)
    notebook.cells = cells
    return notebook


def _parts(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """A cell of prose cut before each heading; any other as it is."""
    if cell.cell_type != "markdown":
        return [cell]
    texts = re.split(r"^(?=#+ )", cell.source, flags=re.MULTILINE)
    return [new_markdown_cell(text.strip()) for text in texts if text.strip()]


def _headings(cells: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    return [c for c in cells if c.cell_type == "markdown" and c.source.startswith("#")]


def _pictures(cell: nbformat.NotebookNode) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def copy_reveal(source: Path, target: Path) -> None:
    """Copy the part of reveal.js that slides need.

    Args:
        source: reveal.js as a package ships it, with ``dist`` and ``plugin``.
        target: the folder to make.

    Raises:
        FileNotFoundError: if a part is not there.
    """
    for name in _FOLDERS:
        shutil.copytree(source / name, target / name, dirs_exist_ok=True)
    for name in _NEEDED:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target / name)


def write_slides(lesson: Path, output: Path) -> None:
    """Write a lesson's slides as one page of HTML, pictures included.

    Args:
        lesson: its executed notebook.
        output: the page; the folder ``reveal.js`` must lie beside it.
    """
    templates = Path(__file__).resolve().parents[2] / "classroom"
    exporter = SlidesExporter(
        template_name="slides",
        extra_template_basedirs=[str(templates)],
        reveal_url_prefix=REVEAL,
        reveal_theme="white",
        embed_images=True,
    )
    slides = as_slides(nbformat.read(lesson, as_version=4))
    slides.metadata["title"] = slides.cells[0].source.splitlines()[0].lstrip("# ")
    resources = {"metadata": {"path": str(lesson.parent)}}
    body, _ = exporter.from_notebook_node(slides, resources=resources)
    output.write_text(body, encoding="utf-8")
