"""The ontology's terms, and how they are written."""

import pytest

from utils.data.ontology import in_a_sentence, quoted, system_name, systems_of


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ('"Pain." [PMID:1]', "Pain."),
        ('"One \\"has to\\"  do it." []', 'One "has to" do it.'),
        ("", ""),
    ],
)
def test_definitions_are_read_from_obo_fields(field, text):
    assert quoted(field) == text


def test_terms_are_written_asin_a_sentence():
    names = {"Babinski"}
    assert in_a_sentence("Hemiplegia", names) == "hemiplegia"
    assert in_a_sentence("Babinski sign", names) == "Babinski sign"
    assert in_a_sentence("EEG abnormality", names) == "EEG abnormality"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Abnormality of the nervous system", "nervous system"),
        ("Abnormality of head or neck", "head or neck"),
        ("Growth abnormality", "growth"),
        ("Abnormal cellular phenotype", "cellular phenotype"),
        ("Neoplasm", "neoplasm"),
    ],
)
def test_organ_systems_have_short_names(name, short):
    assert system_name(name) == short


def test_the_nearest_organ_system_comes_first():
    import networkx

    graph = networkx.MultiDiGraph()
    for system, name in (("S1", "Abnormality of the eye"), ("S2", "Neoplasm")):
        graph.add_node(system, name=name)
        graph.add_edge(system, "HP:0000118")
    graph.add_edges_from([("a", "S1"), ("b", "a"), ("b", "S2"), ("c", "S2"), ("c", "S1")])
    systems = systems_of(graph)
    assert systems["a"] == ["eye"]
    assert systems["b"] == ["neoplasm", "eye"]  # one step against two
    assert systems["c"] == ["neoplasm", "eye"]  # as near, and with fewer terms
    assert systems["HP:0000118"] == []
