"""Build the site from the committed notebooks: ``make site``, or ``python site/building.py``."""

import argparse
import contextlib
import shutil
import sys
from pathlib import Path

import nbformat
from sphinx.cmd.build import main as sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]

import pages  # noqa: E402 (the path is set first)
from launching import how_to_run, launch_links, repository_of  # noqa: E402
from leaderboard import leaderboard  # noqa: E402
from notebooks import as_page, figures, linked_files  # noqa: E402
from utils.readme import Lesson, read_lessons  # noqa: E402

CAPSTONE = Path("Part02/capstone/capstone.ipynb")
TRY_FIRST = (
    ":::{admonition} Try first\n:class: warning\n\nThese are the answers to the exercises. The "
    "checks in the lesson say what is wrong with yours; come here when one of them passes.\n:::"
)


def gather(root: Path, target: Path) -> None:
    """Write what Sphinx reads: the notebooks as pages, and the pages around them.

    Args:
        root: the repository.
        target: an empty folder.

    Raises:
        ValueError: if a figure has no caption, a lesson lacks a part, a result file is none, or the
            repository's address is no address.
    """
    root = root.resolve()
    lessons = sorted(read_lessons(root), key=lambda x: (x.path.parent, x.further, x.path))
    readme = (root / "README.md").read_text(encoding="utf-8")
    drawn = {}
    for path in sorted(root.glob("Part0*/L*/L*.ipynb")):
        where = path.relative_to(root)
        notebook = nbformat.read(path, as_version=4)
        drawn[where] = figures(notebook, where)
        below, end = _around(root, where, lessons)
        page = target / where
        page.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(as_page(notebook, drawn[where], below, end), page)
        for name in linked_files(notebook):
            copy = target / (path.parent / name).resolve().relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path.parent / name, copy)
    for lesson in lessons:
        for figure in drawn[lesson.path]:
            small = target / "thumbnails" / f"{figure.label}.png"
            small.parent.mkdir(exist_ok=True)
            small.write_bytes(pages.thumbnail(figure))
    capstone = root / CAPSTONE
    if capstone.exists():
        _add_capstone(root, target)
    texts = {
        "index": pages.landing(readme, lessons, drawn, capstone.exists()),
        "start": pages.start(readme),
        "figures": pages.figure_index(lessons, drawn),
        "glossary": (HERE / "glossary.md").read_text(encoding="utf-8"),
        **pages.functions(root / "utils"),
    }
    for name, text in texts.items():
        (target / name).with_name(f"{Path(name).name}.md").parent.mkdir(exist_ok=True)
        (target / f"{name}.md").write_text(text, encoding="utf-8")
    for name in ("LICENSE", "CITATION.cff"):
        shutil.copy2(root / name, target)


def _add_capstone(root: Path, target: Path) -> None:
    """The capstone's notebook, what it links to, and the leaderboard from its result files."""
    notebook = nbformat.read(root / CAPSTONE, as_version=4)
    folder = target / CAPSTONE.parent
    folder.mkdir(parents=True)
    nbformat.write(as_page(notebook, figures(notebook, CAPSTONE)), target / CAPSTONE)
    for name in linked_files(notebook):
        shutil.copy2(root / CAPSTONE.parent / name, folder / name)
    text, picture = leaderboard(root / CAPSTONE.parent / "results")
    (target / "leaderboard.md").write_text(text, encoding="utf-8")
    (target / "leaderboard.png").write_bytes(picture)


def _around(root: Path, where: Path, lessons: list[Lesson]) -> tuple[str, str]:
    """What a page shows below its title and at its end."""
    told = {lesson.path: lesson for lesson in lessons}
    if where not in told:
        return TRY_FIRST, ""
    lesson, folder = told[where], where.parent
    links = launch_links(*repository_of(root / "pyproject.toml"), where)
    below = how_to_run(folder.as_posix(), where, lesson.minutes, links)
    if lesson.further:
        return below, ""
    further = [x for x in lessons if x.further and x.path.parent == folder]
    entries = [f"Further: {x.name} <{x.path.stem}>" for x in further]
    solutions = folder / f"{lesson.number}_solutions.ipynb"
    end = ""
    if (root / solutions).exists():
        entries.append(f"Solutions (try first) <{solutions.stem}>")
        end = (
            "<details><summary>Solutions: try the exercises first</summary>\n\n"
            f"[{lesson.number}: worked answers](/{solutions.as_posix()})\n\n</details>\n\n"
        )
    if entries:
        end += "```{toctree}\n:hidden:\n\n" + "\n".join(entries) + "\n```"
    return below, end


def build(root: Path, output: Path) -> int:
    """Build the whole site, or leave the one that is there.

    Args:
        root: the repository.
        output: the site's folder.

    Returns:
        Sphinx's exit status; a warning is an error.
    """
    work = output.with_name(f".unfinished-{output.name}")
    shutil.rmtree(work, ignore_errors=True)
    try:
        gather(root, work / "source")
        options = ["-b", "html", "-q", "-W", "--keep-going", "-c", str(HERE), "-d", str(work / "d")]
        status = sphinx([*options, str(work / "source"), str(work / "html")])
        if not status:
            for left in (".buildinfo", "objects.inv"):
                (work / "html" / left).unlink(missing_ok=True)
            shutil.rmtree(output, ignore_errors=True)
            (work / "html").replace(output)
        return status
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(work)


def main(arguments: list[str] | None = None) -> int:
    """Build what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python site/building.py", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "site")
    output = parser.parse_args(arguments).output
    try:
        status = build(ROOT, output)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if not status:
        print(f"The site is in {output}: open index.html, or run python -m http.server in it")
    return status


if __name__ == "__main__":
    sys.exit(main())
