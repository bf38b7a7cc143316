"""Who shares masks with whom: everybody, or (SecAgg+) a few neighbours on a random ring."""

import math
import secrets
from collections.abc import Sequence
from typing import NamedTuple

import scipy

from utils.arguments import MANY, number, whole_number


def ring(nodes: Sequence[int], neighbours: int | None) -> dict[int, list[int]]:
    """Each node's circle: itself and its neighbours, in ascending order.

    In a random order around a ring, a node's neighbours are the ``neighbours`` / 2 on either
    side of it (a Harary graph; Bell et al. 2020, Alg. 3). The order comes from the operating
    system: nobody can arrange whose neighbour they become.
    """
    order = list(nodes)
    if neighbours is None or neighbours >= len(order) - 1:
        return {node: sorted(order) for node in order}
    secrets.SystemRandom().shuffle(order)
    reach = neighbours // 2
    return {
        node: sorted(order[(place + step) % len(order)] for step in range(-reach, reach + 1))
        for place, node in enumerate(order)
    }


class Enough(NamedTuple):
    """Neighbours a client, and the smallest threshold (a share of the holders) that is safe."""

    neighbours: int
    threshold: float


def enough_neighbours(
    clients: int,
    conspiring: float,
    dropping: float,
    *,
    security: int = 40,
    correctness: int = 30,
) -> Enough:
    """The fewest neighbours with which SecAgg+ is safe, against a server that keeps to the
    protocol and conspires with some clients (Bell et al. 2020, ePrint 2020/704, Section 3).

    Three things may go wrong, each by bad luck in the order around the ring: a client's holders
    hold enough conspirators to open its secrets; the honest clients that stay fall into groups,
    whose sums the server would learn apart; too few holders stay to open what must be opened.

    Args:
        clients: n.
        conspiring: share of the clients that work with the server, at least 0.
        dropping: share that may drop out.
        security: the first two have a chance of at most 2^-security.
        correctness: the third of at most 2^-correctness.

    Raises:
        ValueError: for values out of range, or if not even all others are enough.
    """
    n = whole_number("clients", clients, 4, MANY)
    security = whole_number("security", security, 1, 1000)
    correctness = whole_number("correctness", correctness, 1, 1000)
    number("conspiring", conspiring, least=0, below=1)
    number("dropping", dropping, least=0, below=1)
    bad, gone = math.floor(conspiring * n), math.ceil(dropping * n)
    for k in range(2, n - 1, 2):
        # of k others: as many conspirators, or as many that are gone
        reach = n * ((bad + gone) / n) ** (k / 2)  # k/2 in a row cut the ring
        if reach > 2.0**-security:
            continue
        for t in range(k // 2 + 2, k + 2):  # more than half of the k + 1 holders
            open_ = n * scipy.stats.hypergeom.sf(t - 1, n - 1, bad, k) if bad else 0.0
            stuck = n * scipy.stats.hypergeom.cdf(t - 1, n - 1, n - 1 - gone, k)
            if open_ <= 2.0**-security and stuck <= 2.0**-correctness:
                return Enough(k, (t - 1) / (k + 1))
    raise ValueError(
        f"not even all {n - 1} others are enough for {conspiring:.0%} conspiring and "
        f"{dropping:.0%} dropping out with these chances; leave neighbours out (everybody), or "
        "allow fewer of either"
    )
