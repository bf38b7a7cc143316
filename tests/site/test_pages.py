"""What the site makes of notebooks, of the README and of the glossary, before Sphinx sees it."""

import ast
import base64
import io
import re
from pathlib import Path

import nbformat
import pytest
from docutils import nodes
from docutils.utils import new_document
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tests.site import SITE
from utils.readme import BEGIN, END, read_lessons

# isort: split
import building
import linking
import pages
from launching import how_to_run, launch_links, repository_of
from notebooks import as_page, captions, figure_label, figures, linked_files

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(ROOT.glob("Part0*/L*/L*.ipynb"))
WHERE = Path("Part01/L9/L9_new.ipynb")
CAPTION = "*Figure: a line that rises, and a line that does not.*"


def png(width=8):
    file = io.BytesIO()
    Image.new("RGBA", (width, 4), (0, 0, 0, 0)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def drawing(count=1):
    outputs = [new_output("display_data", data={"image/png": png()}) for _ in range(count)]
    return new_code_cell("plot()", outputs=outputs)


def notebook(*cells):
    return new_notebook(
        cells=[new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    )


# Every figure has words -----------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_of_the_committed_notebooks_has_a_caption(path):
    read = nbformat.read(path, as_version=4)
    drawn = figures(read, path.relative_to(ROOT))
    outputs = [output for cell in read.cells for output in cell.get("outputs", [])]
    assert len(drawn) == sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize(
    ("prose", "found"),
    [
        (CAPTION, ["a line that rises, and a line that does not."]),
        ("*Figure: in `code`,\nand on.* Then *more*.", ["in code, and on."]),
        ("Text first. *Figure: a dot.* *Figure: two.*", ["a dot.", "two."]),
        ("*Table: numbers.* **Figure: bold**, `*Figure: code*`", []),
    ],
)
def test_a_caption_is_what_stands_in_italics_from_figure_on(prose, found):
    assert captions(prose) == found


def test_a_caption_may_follow_after_code_but_not_after_the_next_figure():
    (one,) = figures(notebook(drawing(), new_code_cell("1"), "Text.", CAPTION), WHERE)
    assert one.caption.startswith("a line")
    two = figures(
        notebook(drawing(2), f"{CAPTION} *Figure: the second of the two, in a row.*"), WHERE
    )
    assert [figure.caption[:8] for figure in two] == ["a line t", "the seco"]


@pytest.mark.parametrize(
    "cells",
    [
        [drawing()],
        [drawing(), "Prose without one."],
        [drawing(), drawing(), CAPTION],
        [CAPTION, drawing()],
        [drawing(), "*Figure: a line.*"],
    ],
)
def test_a_figure_without_words_is_refused_with_the_notebooks_name(cells):
    with pytest.raises(ValueError, match=r"Part01/L9/L9_new.ipynb: the figure of cell"):
        figures(notebook(*cells), WHERE)


def test_the_caption_becomes_the_pictures_alternative_text():
    given = notebook("# L9", drawing(), CAPTION)
    page = as_page(given, figures(given, WHERE), "how to run", "solutions")
    assert [cell.source for cell in page.cells] == [
        "# L9",
        "how to run",
        "plot()",
        CAPTION,
        "solutions",
    ]
    image = page.cells[2].metadata["mystnb"]["image"]
    assert image == {
        "alt": "a line that rises, and a line that does not.",
        "classes": figure_label(WHERE, 1),
    }
    assert len(given.cells) == 3
    assert not given.cells[1].metadata


def test_files_that_prose_links_to_are_known_and_notebooks_are_not():
    prose = "[a](checks.py) ![b](round.svg) [c](../L1/L1_why.ipynb#x) [d](https://e.org/f.py)"
    assert linked_files(notebook(prose)) == {"checks.py", "round.svg"}


def test_a_thumbnail_is_small_and_opaque():
    (figure,) = figures(notebook(drawing(), CAPTION), WHERE)
    figure.png = base64.b64decode(png(2000))
    small = Image.open(io.BytesIO(pages.thumbnail(figure))).convert("RGBA")
    assert small.width == pages.THUMBNAIL_WIDTH
    assert small.getpixel((0, 0)) == (255, 255, 255, 255)


# The pages around the lessons -----------------------------------------------------------------


@pytest.fixture
def course(tmp_path):
    """A course of one lesson with all its parts, beside the real ``utils``."""
    (tmp_path / "utils").symlink_to(ROOT / "utils")
    for name in ("LICENSE", "CITATION.cff", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "README.md").write_text(
        "# Learn\n\nThe promise.\n\n| ![x](y) |\n|---|\n\nThe rest.\n\n"
        "## Five minutes to the first result\n\nmake lab\n\n"
        f"## The course\n\n{BEGIN}x{END}"
    )
    add_lesson(tmp_path, "Part01/L1/L1_why.ipynb", "# L1 Why")
    add_lesson(tmp_path, "Part01/L1/L1_more_deep.ipynb", "# L1, more: deep down")
    nbformat.write(notebook("# L1 Why: solutions"), tmp_path / "Part01/L1/L1_solutions.ipynb")
    return tmp_path


def add_lesson(root, path, title):
    start = "start_lesson('', minutes=0.5)"
    told = new_code_cell(start, outputs=[new_output("stream", text="Headline: 1 against 2\n")])
    cells = notebook(f"{title}\n\n**Why?** [checks](checks.py)", told, drawing(), CAPTION)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).with_name("checks.py").touch()
    nbformat.write(cells, root / path)


def test_the_pages_are_made_from_the_readme_and_the_lessons(course, tmp_path_factory):
    target = tmp_path_factory.mktemp("source")
    building.gather(course, target)
    index = (target / "index.md").read_text()
    assert index.index("The promise.") < index.index("L1 Why") < index.index("The rest.")
    assert "Why?" in index
    assert "![x](y)" not in index
    assert "1 against 2" in index
    assert "make lab" in (target / "start.md").read_text()
    assert "\n## What runs where\n" in pages.start((ROOT / "README.md").read_text())
    label = "part01-l1-l1-more-deep-figure-1"
    assert f"(#{label})" in (target / "figures.md").read_text()
    assert (target / "thumbnails" / f"{label}.png").exists()
    assert (target / "Part01/L1/checks.py").exists()
    core = nbformat.read(target / "Part01/L1/L1_why.ipynb", as_version=4)
    assert "make lesson LESSON=Part01/L1" in core.cells[1].source
    assert "about ½ min" in core.cells[1].source
    assert "Further: deep down <L1_more_deep>" in core.cells[-1].source
    assert "Solutions (try first) <L1_solutions>" in core.cells[-1].source
    solutions = nbformat.read(target / "Part01/L1/L1_solutions.ipynb", as_version=4)
    assert "Try first" in solutions.cells[1].source


def test_a_new_lesson_appears_when_its_folder_does(course, tmp_path_factory):
    add_lesson(course, "Part02/L6/L6_new.ipynb", "# L6 New")
    target = tmp_path_factory.mktemp("source")
    building.gather(course, target)
    index = (target / "index.md").read_text()
    assert "**[L6 New](/Part02/L6/L6_new.ipynb)**" in index
    assert "\nPart02/L6/L6_new\n" in index.partition("{toctree}")[2]


def test_a_notebook_whose_figure_has_no_words_fails_the_build_and_leaves_the_old_site(
    monkeypatch, course, capsys
):
    nbformat.write(
        notebook("# L1 Why: solutions", drawing()), course / "Part01/L1/L1_solutions.ipynb"
    )
    old = course / "build" / "site"
    old.mkdir(parents=True)
    (old / "index.html").write_text("old")
    monkeypatch.setattr(building, "ROOT", course)
    assert building.main(["--output", str(old)]) == 1
    assert "Part01/L1/L1_solutions.ipynb: the figure of cell 2" in capsys.readouterr().err
    assert (old / "index.html").read_text() == "old"
    assert [path.name for path in old.parent.iterdir()] == ["site"]


def test_the_figure_that_stands_for_a_lesson_is_one_that_it_has():
    lessons = [lesson for lesson in read_lessons(ROOT) if not lesson.further]
    for lesson in lessons:
        drawn = figures(nbformat.read(ROOT / lesson.path, as_version=4), lesson.path)
        assert pages.STANDS_FOR.get(lesson.path.parent.as_posix(), 1) <= len(drawn), lesson.path
        assert pages.stands_for(lesson, drawn) in drawn
    assert set(pages.STANDS_FOR) <= {lesson.path.parent.as_posix() for lesson in lessons}
    assert pages.stands_for(lessons[0], []) is None


def test_all_of_utils_has_its_page():
    written = pages.functions(ROOT / "utils")
    assert {
        "functions/federation",
        "functions/plots",
        "functions/privacy.secure_aggregation",
    } <= set(written)
    assert len(written) == 1 + len(re.findall("^functions/", written["functions"], re.MULTILINE))


# Where it can be run --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("repository", "links"),
    [
        ("", None),
        (
            "https://github.com/a/b",
            {
                "Colab": "https://colab.research.google.com/github/a/b/blob/main/Part01/L9/L9_new.ipynb",
                "Binder": "https://mybinder.org/v2/gh/a/b/main?labpath=Part01/L9/L9_new.ipynb",
            },
        ),
        (
            "https://codeberg.org/a/b",
            {
                "Binder": "https://mybinder.org/v2/git/https%3A%2F%2Fcodeberg.org%2Fa%2Fb/main"
                "?labpath=Part01/L9/L9_new.ipynb"
            },
        ),
    ],
)
def test_launch_links_follow_from_where_the_repository_is(repository, links):
    assert launch_links(repository, "main", WHERE) == links
    box = how_to_run("Part01/L9", WHERE, "½", links)
    assert all(url in box for url in (links or {}).values())
    assert ("pyproject.toml" in box) == (links is None)
    assert ("/start.md#What-runs-where" in box) == ("Colab" in (links or {}))


def test_where_the_language_model_does_not_fit_no_link_leads():
    where = Path("Part02/L3/L3_federated_finetuning.ipynb")
    assert set(launch_links("https://github.com/a/b", "main", where)) == {"Colab"}
    assert launch_links("https://codeberg.org/a/b", "main", where) == {}


@pytest.mark.parametrize("suffix", ["", "/", ".git"])
def test_the_repositorys_address_is_set_in_one_place(tmp_path, suffix):
    file = tmp_path / "pyproject.toml"
    file.write_text(f'[tool.site]\nrepository = "https://github.com/a/b{suffix}"\nbranch = "dev"\n')
    assert repository_of(file) == ("https://github.com/a/b", "dev")
    file.write_text("")
    assert repository_of(file) == ("", "main")


@pytest.mark.parametrize("address", ["github.com/a/b", "http://h.org/a/b", "https://github.com/a"])
def test_what_is_no_repositorys_address_is_refused_with_the_way_out(tmp_path, address):
    file = tmp_path / "pyproject.toml"
    file.write_text(f'[tool.site]\nrepository = "{address}"\n')
    with pytest.raises(ValueError, match="it must look like"):
        repository_of(file)


# The glossary ---------------------------------------------------------------------------------

GLOSSARY = (SITE / "glossary.md").read_text(encoding="utf-8")


def entries():
    block = GLOSSARY.partition("```{glossary}\n")[2].partition("```")[0]
    for entry in block.strip().split("\n\n"):
        lines = entry.splitlines()
        words = [line for line in lines if not line.startswith(" ")]
        yield words, " ".join(line.strip() for line in lines if line.startswith(" "))


def test_every_term_has_a_short_definition_and_a_lesson_that_uses_it():
    told = list(entries())
    assert len(told) >= 50
    first = [words[0].lower() for words, _ in told]
    assert first == sorted(first)
    for words, definition in told:
        link = re.search(r"\[Part (\d), (L\d)\]\(/(Part0\d/L\d/.+\.ipynb)\)\.$", definition)
        assert link, words
        assert link[3].startswith(f"Part0{link[1]}/{link[2]}/"), words
        assert 8 <= len(definition.split()) <= 60, words
        cells = nbformat.read(ROOT / link[3], as_version=4).cells
        prose = " ".join(c.source for c in cells if c.cell_type == "markdown").lower()
        stems = [word.lower().removesuffix(" privacy")[:9] for word in words]
        assert any(stem in prose for stem in stems), f"{link[3]} does not use {words}"


TERMS = {"noise multiplier": "noise multiplier", "noise": "noise", "canary": "canary", "ε": "ε"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The noise multipliers are", ["noise multipliers"]),
        ("Noise\nmultiplier, ε-DP noisy Noises", ["Noise\nmultiplier", "Noises"]),
        ("canaries, a canary; ε = 1", ["canaries", "canary", "ε"]),
        ("noiseless, denoise, anti-noise", []),
    ],
)
def test_terms_are_found_whole_in_the_plural_and_the_longer_first(text, found):
    assert [match[0] for match in linking.pattern_of(TERMS).finditer(text)] == found


class App:
    class env:  # noqa: N801 (Sphinx's name)
        docname = "Part01/L4/L4_data_privacy"


def page_with(*children):
    document = new_document("page")
    document += children
    return document


def linked(document):
    linking.link_first_uses(App, document)
    return [(r["reftarget"], r.astext()) for r in document.findall(linking.addnodes.pending_xref)]


def test_only_the_first_use_in_prose_becomes_a_link():
    said = "Clients have data, a client trains; the cohort."
    document = page_with(
        nodes.title("", "Clients"),
        nodes.literal_block("", "client"),
        nodes.paragraph("", "", nodes.literal("", "client"), nodes.Text(" and ")),
        nodes.paragraph("", "", nodes.reference("", "client", refuri="x")),
        nodes.container("", nodes.paragraph("", "client"), classes=["cell_output"]),
        nodes.paragraph("", said),
        nodes.section("", nodes.title("", "References"), nodes.paragraph("", "FedAvg")),
    )
    assert linked(document) == [("client", "Clients"), ("cohort", "cohort")]
    assert document[5].astext() == said


def test_pages_that_are_no_lessons_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(App.env, "docname", "index")
    assert linked(page_with(nodes.paragraph("", "a client"))) == []


def test_words_meant_otherwise_are_no_terms():
    assert linked(page_with(nodes.paragraph("", "the other way round, a client"))) == [
        ("client", "client")
    ]
    terms = linking.terms_of(GLOSSARY)
    for page, words in linking.OTHERWISE_MEANT.items():
        assert (ROOT / f"{page}.ipynb").exists()
        assert set(words) <= set(terms.values())


# Imports --------------------------------------------------------------------------------------


def test_nothing_in_utils_imports_the_site():
    own = {path.stem for path in SITE.glob("*.py")}
    for path in (ROOT / "utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not own & {name.split(".")[0] for name in names}, path
