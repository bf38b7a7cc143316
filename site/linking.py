"""What Sphinx does not do by itself.

A term's first use in a lesson links to the glossary; a notebook's figure can be linked to; maths is
written in the browser's own MathML, which needs no script.
"""

import re
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

GLOSSARY = Path(__file__).parent / "glossary.md"
NOT_PROSE = (
    nodes.FixedTextElement,
    nodes.literal,
    nodes.math,
    nodes.raw,
    nodes.reference,
    nodes.title,
    addnodes.pending_xref,
)
# Where a word's first use in a page is not the term's.
OTHERWISE_MEANT = {
    "Part01/L1/L1_why_federated_learning": ["sensitivity"],  # of what people type
    "Part01/L4/L4_data_privacy": ["round"],  # the other way round
    "Part02/L2/L2_more_size": ["round"],  # numbers
    "Part02/L4/L4_keeping_llms_private": ["rank"],  # among candidates
    "Part02/L4/L4_more_text": ["δ"],  # a gradient
}
WITHOUT_LINKS = ("References", "Next")  # sections: titles of papers are no first use


def terms_of(glossary: str) -> dict[str, str]:
    """The glossary's terms in lower case, each with the name under which it stands there.

    Args:
        glossary: Markdown with one ``{glossary}`` block: terms at the margin, several in a row
            where they share a definition, and the definition indented.
    """
    block = glossary.partition("```{glossary}\n")[2].partition("\n```")[0]
    lines = [line for line in block.splitlines() if line and not line.startswith((" ", ":"))]
    return {line.lower(): line for line in lines}


def pattern_of(terms: dict[str, str]) -> re.Pattern:
    """Matches any of the terms, also in the plural; of two that begin alike, the longer."""
    longest_first = sorted(terms, key=len, reverse=True)
    words = "|".join(re.escape(term).replace(r"\ ", r"\s+") for term in longest_first)
    plurals = "|".join(f"{re.escape(term[:-1])}ies" for term in terms if term.endswith("y"))
    found = rf"(?P<plural>{plurals or '(?!)'})|(?P<term>{words})s?"
    return re.compile(rf"(?<![\w-])(?:{found})(?![\w-])", re.IGNORECASE)


def link_first_uses(app: Sphinx, doctree: nodes.document) -> None:
    """In a lesson, make each term's first use in prose a link to the glossary."""
    name = app.env.docname
    if not name.startswith("Part"):
        return
    terms = terms_of(GLOSSARY.read_text(encoding="utf-8"))
    pattern, seen = pattern_of(terms), set(OTHERWISE_MEANT.get(name, ()))
    for text in list(doctree.findall(nodes.Text)):
        if not _is_prose(text):
            continue
        said, pieces, end = text.astext(), [], 0
        for match in pattern.finditer(said):
            word = " ".join((match["term"] or f"{match['plural'][:-3]}y").lower().split())
            if (term := terms[word]) in seen:
                continue
            seen.add(term)
            pieces += [nodes.Text(said[end : match.start()]), _reference(match[0], term, name)]
            end = match.end()
        if pieces:
            text.parent.replace(text, [*pieces, nodes.Text(said[end:])])


def _is_prose(text: nodes.Text) -> bool:
    parent = text.parent
    while parent is not None:
        if isinstance(parent, NOT_PROSE) or "run" in parent.get("classes", []):
            return False
        if isinstance(parent, nodes.section) and parent[0].astext() in WITHOUT_LINKS:
            return False
        if "cell_output" in parent.get("classes", []):
            return False
        parent = parent.parent
    return True


def _reference(said: str, term: str, document: str) -> addnodes.pending_xref:
    return addnodes.pending_xref(
        "",
        nodes.inline(said, said, classes=["std", "std-term"]),
        refdomain="std",
        reftype="term",
        reftarget=term,
        refexplicit=True,
        refwarn=True,
        refdoc=document,
    )


class FigureTargets(SphinxTransform):
    """A notebook's picture becomes the target of links, under the label that it has as a class."""

    default_priority = 200  # before Sphinx collects targets

    def apply(self, **_: object) -> None:
        """Name the pictures of this document."""
        for picture in self.document.findall(nodes.image):
            for label in [name for name in picture["classes"] if "-figure-" in name]:
                picture["classes"].remove(label)
                if label not in self.document.nameids:  # a cell may draw several
                    picture["names"].append(label)
                    self.document.note_explicit_target(picture, picture)


def slug(title: str) -> str:
    """A heading's anchor as JupyterLab makes it, which is how notebooks link to it."""
    return title.replace(" ", "-")


def _inline(writer: nodes.NodeVisitor, node: nodes.math) -> None:
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(writer: nodes.NodeVisitor, node: nodes.math_block) -> None:
    formula = tex2mathml(node.astext(), as_block=True)
    writer.body.append(f'<div class="math" tabindex="0">{formula}</div>')  # it may scroll
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.add_transform(FigureTargets)
    app.connect("doctree-read", link_first_uses)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
