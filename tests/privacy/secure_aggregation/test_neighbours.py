"""Who shares masks with whom."""

import numpy as np
import pytest

from utils.privacy.secure_aggregation import enough_neighbours
from utils.privacy.secure_aggregation.neighbours import ring


def test_everybody_is_in_everybodys_circle_where_no_number_is_given():
    for neighbours in (None, 4, 10):
        assert ring([5, 3, 9, 1], neighbours) == {n: [1, 3, 5, 9] for n in (5, 3, 9, 1)}


def test_each_has_so_many_neighbours_and_neighbours_are_mutual():
    circles = ring(range(50), 6)
    for node, circle in circles.items():
        assert len(set(circle)) == 7
        assert node in circle
        assert all(node in circles[other] for other in circle)


def test_the_order_is_random_and_not_pythons():
    import random

    random.seed(0)
    first = ring(range(50), 6)
    random.seed(0)
    assert ring(range(50), 6) != first


def connected(circles, without):
    left = set(circles) - set(without)
    seen, edge = set(), {min(left)}
    while edge:
        seen |= edge
        edge = {other for node in edge for other in circles[node]} & left - seen
    return seen == left


def test_the_chances_are_those_of_a_simulation():
    """Weak demands, so that what may go wrong does so often enough to be counted."""
    n, bad, gone = 40, 4, 8
    enough = enough_neighbours(n, bad / n, gone / n, security=4, correctness=4)
    needed = round(enough.threshold * (enough.neighbours + 1)) + 1
    draw = np.random.default_rng(0)
    opened = cut = stuck = 0
    trials = 1500
    for _ in range(trials):
        circles = ring(range(n), enough.neighbours)
        nodes = draw.permutation(n)
        conspirators, dropped = set(nodes[:bad].tolist()), set(nodes[bad : bad + gone].tolist())
        others = [set(circle) - {node} for node, circle in circles.items()]
        opened += any(len(circle & conspirators) >= needed for circle in others)
        stuck += any(len(circle - dropped) < needed for circle in others)
        cut += not connected(circles, conspirators | dropped)
    assert max(opened, cut, stuck) / trials <= 2**-4
    assert stuck > 0  # and with fewer neighbours it would not hold
    assert enough.neighbours < n - 2


def test_it_grows_like_the_logarithm_and_with_the_demands():
    few, many = (enough_neighbours(n, 0.05, 0.1) for n in (1000, 100_000))
    assert few.neighbours < many.neighbours < 2 * few.neighbours
    assert enough_neighbours(1000, 0.2, 0.1).neighbours > few.neighbours
    assert 0.5 < few.threshold < 1


def test_a_demand_that_nobody_can_meet_is_refused():
    with pytest.raises(ValueError, match="not even all 9 others are enough"):
        enough_neighbours(10, 0.3, 0.3)
    with pytest.raises(ValueError, match="clients is 3"):
        enough_neighbours(3, 0, 0)
