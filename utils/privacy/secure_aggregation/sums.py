"""What the server does with what clients send: no messages here, only the sum."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from flwr.app import ConfigRecord

from utils.federation import RoundFailedError
from utils.privacy.secure_aggregation import keys
from utils.privacy.secure_aggregation.messages import (
    KEYS,
    MASKED,
    SHARES,
    UNMASK,
    by_node,
    packed,
    said_by_node,
)
from utils.privacy.secure_aggregation.neighbours import ring
from utils.privacy.secure_aggregation.terms import Terms


class TooFewClientsError(RoundFailedError):
    """So many dropped out that the sum cannot be opened; single updates stay hidden."""


class SecureRound:
    """One secure sum, as the server sees it.

    Attributes:
        asked: the clients that the strategy chose.
        circles: by client, who holds shares of its secrets; those that gave keys.
        sealed: by client, the shares that it has sealed, by holder; those that gave them.
        masked: those that gave a masked update.

    Args:
        terms: of the sum.
        asked: node ids.
        number: of the round, for messages.
        name_of: what a client is called, by node id.
    """

    def __init__(
        self,
        terms: Terms,
        asked: list[int],
        number: int,
        name_of: Callable[[int], int] = lambda node: node,
    ) -> None:
        if not terms.min_clients <= len(asked) <= terms.max_clients:
            raise TooFewClientsError(
                f"round {number}: the strategy asks {len(asked)} clients; the terms allow sums of "
                f"{terms.min_clients} to {terms.max_clients} (min_clients, max_clients)"
            )
        self.terms, self.asked, self.number, self.name_of = terms, asked, number, name_of
        self.planned = terms.holders(len(asked))
        self.needed = terms.needed(self.planned)
        self.public: dict[int, list[bytes]] = {}
        self.circles: dict[int, list[int]] = {}
        self.sealed: dict[int, dict[int, bytes]] = {}
        self.masked: list[int] = []
        self._total: np.ndarray | None = None

    def for_keys(self, node: int) -> dict:
        """Stage 1: the terms, and how many are asked."""
        return {"terms": repr(self.terms), "clients": len(self.asked)}

    def accept_keys(self, said: Mapping[int, ConfigRecord]) -> None:
        """Draw the circles among those that gave keys.

        Raises:
            TooFewClientsError: here and in the next stages, below the threshold.
        """
        self.public = {node: list(record["public-keys"]) for node, record in said.items()}
        self.circles = ring(list(self.public), self.terms.neighbours)
        self._check(KEYS, self.asked, self.public)
        for node in self.public:
            self._check_circle(KEYS, node, self.public)

    def for_shares(self, node: int) -> dict:
        """Stage 2: the public keys of the client's circle."""
        halves = [{other: self.public[other][i] for other in self.circles[node]} for i in (0, 1)]
        return said_by_node("mask-keys", halves[0]) | said_by_node("channel-keys", halves[1])

    def accept_shares(self, said: Mapping[int, ConfigRecord]) -> None:
        """Keep what each has sealed for its circle; nobody but the holders can open it."""
        self.sealed = {}
        for node, record in said.items():
            sealed = by_node(record, "sealed")
            if sealed.keys() == set(self.circles[node]) - {node}:  # else as if it were gone
                self.sealed[node] = sealed
        for node in self.sealed:
            self._check_circle(SHARES, node, self.sealed)
        self._check(SHARES, self.public, self.sealed)

    def for_masking(self, node: int) -> dict:
        """Stage 3: what the client's circle has sealed for it."""
        circle = [other for other in self.circles[node] if other in self.sealed and other != node]
        return said_by_node("sealed", {other: self.sealed[other][node] for other in circle})

    def accept_masked(self, words: Mapping[int, np.ndarray]) -> None:
        """Add the masked updates up, modulo 2^bits."""
        self.masked = list(words)
        self._check(MASKED, self.sealed, words)
        for node in self.sealed:
            self._check_circle(MASKED, node, words)
        self._total = sum(words.values())  # unsigned integers: modulo by themselves

    def for_unmasking(self, node: int) -> dict:
        """Stage 4: who of the client's circle gave an update, and who gave shares but none."""
        circle = [other for other in self.circles[node] if other in self.sealed]
        stayed = [other for other in circle if other in self.masked]
        return {
            "stayed": packed(stayed),
            "dropped": packed(other for other in circle if other not in stayed),
        }

    def open(self, said: Mapping[int, ConfigRecord]) -> np.ndarray:
        """The sum of what the clients encoded, modulo 2^bits, without any mask.

        Raises:
            TooFewClientsError: if a secret that must be opened has too few shares.
            RuntimeError: if shares give a secret that does not fit its public key.
        """
        shares: dict[str, dict[int, list[bytes]]] = {"own-mask": {}, "pairs": {}}
        for record in said.values():
            for kind, found in shares.items():
                for owner, share in by_node(record, kind).items():
                    found.setdefault(owner, []).append(share)
        for node in self.sealed:
            self._check_circle(UNMASK, node, said)
        size, bits, total = len(self._total), self.terms.bits, self._total
        for node in self.masked:
            secret = keys.combine(shares["own-mask"][node][: self.needed])
            total = total - keys.mask(keys.own_mask_seed(secret), size, bits)
        for node in self.sealed.keys() - set(self.masked):
            secret = keys.combine(shares["pairs"][node][: self.needed])
            if keys.public_key(secret) != self.public[node][0]:
                raise RuntimeError(
                    f"round {self.number}: the shares of client {self.name_of(node)}'s secret do "
                    "not give its key; a client sent false ones, and the sum stays closed"
                )
            left = [other for other in self.circles[node] if other in self.masked]
            public = {other: self.public[other][0] for other in left}
            # what it would have added with them is what they lack
            total = total + keys.pairwise_mask(node, secret, public, size, bits)
        return total

    def _check(self, stage: str, before: Iterable[int], left: Mapping[int, object]) -> None:
        """Enough for a sum at all."""
        least = self.terms.min_clients if self.terms.neighbours else self.needed
        if len(left) < least:
            raise self._too_few(stage, "the clients", set(before), left, len(self.asked), least)

    def _check_circle(self, stage: str, node: int, left: Mapping[int, object]) -> None:
        """Enough holders of a client's secrets."""
        circle = set(self.circles[node])
        if len(circle & set(left)) < self.needed:
            whose = f"the holders of client {self.name_of(node)}'s secrets"
            if len(circle) == len(self.circles):
                whose = "the clients"
            raise self._too_few(stage, whose, circle, left, self.planned, self.needed)

    def _too_few(
        self, stage: str, whose: str, among: set, left: Mapping, of: int, needed: int
    ) -> TooFewClientsError:
        gone = sorted(self.name_of(node) for node in among if node not in left)
        names = ", ".join(map(str, gone))
        return TooFewClientsError(
            f"Round {self.number}: of {whose}, {len(among & set(left))} of {of} are left after "
            f"'{stage}', and the threshold is {needed}. Gone: client{'s' * (len(gone) != 1)} "
            f"{names}. The sum stays closed, and no update was seen; ask more clients, or lower "
            "the terms' threshold"
        )
