"""The pages that no notebook is: the landing page, how to start, the figures, the functions."""

import io
import re
from pathlib import Path

from PIL import Image

from notebooks import Figure
from utils.readme import BEGIN, END, Lesson

PARTS = {1: "Part 1: federated learning", 2: "Part 2: language models on private data"}
# The figure that stands for a lesson on the landing page, by its number; else the last one.
STANDS_FOR = {
    "Part01/L1": 4,
    "Part01/L3": 3,
    "Part01/L4": 2,
    "Part01/L7": 1,
    "Part02/L4": 1,
    "Part02/L5": 1,
}
# The lesson whose figure opens the landing page, and what a stranger has to know to read it.
FIRST_SIGHT = "Part01/L4"
SAID_AT_FIRST_SIGHT = (
    "A hospital keeps its images and sends only what training changed in its model. First row: the "
    "images. From the third row on: what the server reads off that update."
)
# The README's sections that say how to run the course.
ON_THE_START_PAGE = (
    "Five minutes to the first result",
    "What runs where",
    "Troubleshooting",
    "Credits and licences",
)
THUMBNAIL_WIDTH = 480  # pixels


def sections_of(readme: str) -> dict[str, str]:
    """The README's text by heading: its title, then each ``##``."""
    parts = re.split(r"^##? (.+)\n", readme, flags=re.MULTILINE)
    return {
        title.strip(): text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def stands_for(lesson: Lesson, drawn: list[Figure]) -> Figure | None:
    """The figure that the landing page shows of a lesson; None if the lesson has none."""
    number = STANDS_FOR.get(lesson.path.parent.as_posix(), len(drawn))
    return drawn[min(number, len(drawn)) - 1] if drawn else None


def landing(
    readme: str,
    lessons: list[Lesson],
    figures: dict[Path, list[Figure]],
    capstone: bool = False,
) -> str:
    """The first page: the promise, then the map of the course, a figure for each lesson.

    Args:
        readme: its text; the promise is what stands before its first section.
        lessons: all, and what goes further.
        figures: by notebook.
        capstone: whether there is one.
    """
    title, promise = next(iter(sections_of(readme).items()))
    cores = [lesson for lesson in lessons if not lesson.further]
    opening = next((x for x in cores if x.path.parent.as_posix() == FIRST_SIGHT), cores[0])
    promised, *rest = promise.split("\n\n")
    rest = "\n\n".join(block for block in rest if not block.startswith("|"))  # it has its own
    text = [
        f"# {title}",
        promised,
        f":::{{container}} begin\n[Begin: {cores[0].number} {cores[0].name}]"
        f"(/{cores[0].path.as_posix()})\n\n[Run it yourself](start.md)\n\n"
        "[All figures](figures.md)\n:::",
        _sight(opening, stands_for(opening, figures[opening.path])),
        rest,
    ]
    for part, name in PARTS.items():
        cards = [_card(x, stands_for(x, figures[x.path])) for x in cores if x.part == part]
        text.append(f"## {name}\n\n::::{{container}} cards\n{''.join(cards)}::::")
    if capstone:
        text.append(f"## The capstone\n\n{sections_of(readme)['The capstone']}")
    further = "\n".join(
        f"- [{_short(x)}](/{x.path.as_posix()}): {x.question}" for x in lessons if x.further
    )
    text += [f"## Further on\n\nEach on one question, independent of one another.\n\n{further}"]
    return "\n\n".join([*text, *_navigation(cores, capstone)]) + "\n"


def _short(lesson: Lesson) -> str:
    return f"Part {lesson.part}, {lesson.number} {lesson.name}"


def _sight(lesson: Lesson, figure: Figure | None) -> str:
    if figure is None:
        return ""
    return (
        f":::{{container}} sight\n{_picture(figure, lesson)}\n\n{SAID_AT_FIRST_SIGHT} "
        f"*{lesson.question}* [{_short(lesson)}](/{lesson.path.as_posix()})\n:::"
    )


def _picture(figure: Figure, lesson: Lesson) -> str:
    words = f"Figure {figure.number} of {_short(lesson)}".replace("[", "(").replace("]", ")")
    return f"[![{words}](/thumbnails/{figure.label}.png)](#{figure.label})"


def _card(lesson: Lesson, figure: Figure | None) -> str:
    picture = f"{_picture(figure, lesson)}\n\n" if figure else ""
    return (
        f":::{{container}} tile\n{picture}**[{lesson.number} {lesson.name}]"
        f"(/{lesson.path.as_posix()})**\n\n{lesson.question}\n\n*Found, in {lesson.minutes} min of "
        f"computing:* {lesson.headline}\n:::\n"
    )


def _navigation(cores: list[Lesson], capstone: bool) -> list[str]:
    groups = {"Begin": ["start"]}
    for part, name in PARTS.items():
        groups[name] = [x.path.with_suffix("").as_posix() for x in cores if x.part == part]
    capstone_pages = ["Part02/capstone/capstone", "Part02/capstone/rubric", "leaderboard"]
    groups["Capstone"] = capstone_pages if capstone else []
    groups["Look up"] = ["glossary", "figures", "functions"]
    return [
        f"```{{toctree}}\n:hidden:\n:caption: '{caption}'\n\n" + "\n".join(pages) + "\n```"
        for caption, pages in groups.items()
        if pages
    ]


def start(readme: str) -> str:
    """How to run it: the README's own sections, but for its tables of lessons."""
    readme = readme[: readme.index(BEGIN)] + readme[readme.index(END) + len(END) :]
    sections = sections_of(readme)
    told = [f"## {name}\n\n{sections[name]}" for name in ON_THE_START_PAGE if name in sections]
    return "\n\n".join(["# Run it yourself", *told]) + "\n"


def figure_index(lessons: list[Lesson], figures: dict[Path, list[Figure]]) -> str:
    """All figures of the lessons: small, with the caption, each a link to where it was drawn."""
    text = ["# All figures", "Each was drawn by the notebook that it links to."]
    for lesson in lessons:
        if figures[lesson.path]:
            items = "".join(
                f":::{{container}} tile\n{_picture(figure, lesson)}\n\n"
                f"{_sentence(figure.caption)}\n:::\n"
                for figure in figures[lesson.path]
            )
            link = f"[{_short(lesson)}](/{lesson.path.as_posix()})"
            text.append(f"## {link}\n\n::::{{container}} cards\n{items}::::")
    return "\n\n".join(text) + "\n"


def _sentence(caption: str) -> str:
    return caption[:1].upper() + caption[1:]


def thumbnail(figure: Figure) -> bytes:
    """The figure as a small PNG, in 64 colours, on white."""
    picture = Image.open(io.BytesIO(figure.png)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    white.thumbnail((THUMBNAIL_WIDTH, picture.height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    white.convert("RGB").quantize(64).save(file, "PNG", optimize=True)
    return file.getvalue()


def functions(utils: Path) -> dict[str, str]:
    """The pages about what the lessons import: an overview, and one for each part of ``utils``.

    Returns:
        Markdown by the page's name.
    """
    names = sorted(
        path.parent.name if path.name == "__init__.py" else path.stem
        for path in [*utils.glob("*/__init__.py"), *utils.glob("[a-z]*.py")]
    )
    names += [
        f"{path.parents[1].name}.{path.parent.name}" for path in utils.glob("*/*/__init__.py")
    ]
    listed = "\n".join(f"functions/{name}" for name in names)
    pages = {
        "functions": "# What the lessons import\n\nThe package `utils`, from its docstrings.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
    }
    for name in names:
        pages[f"functions/{name}"] = (
            f"# utils.{name}\n\n```{{eval-rst}}\n.. automodule:: utils.{name}\n   :members:\n"
            "   :imported-members:\n```\n"
            if (utils / name.replace(".", "/")).is_dir()
            else f"# utils.{name}\n\n```{{eval-rst}}\n.. automodule:: utils.{name}\n"
            "   :members:\n```\n"
        )
    return pages
