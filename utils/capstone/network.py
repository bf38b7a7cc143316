"""The network between an entry's server and the clinics, played by the scorer.

It counts what travels, plays the clinic that crashes and the one that lies, and holds every
reply to the rules.
"""

import hashlib
import json
import math
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict

from utils.capstone.case import Case, Clinic
from utils.capstone.contract import ROUNDS, Settings
from utils.capstone.frames import Frame, packed, unpacked
from utils.capstone.gate import PatientLedger, guarded, shares
from utils.capstone.rooms import Done, Entry, EntryError, RefusedError, Rooms
from utils.compression import Cast, Uniform, decode_array, encode_array
from utils.federation import InvalidUpdateError, serialized_bytes
from utils.federation.records import as_record

BOOST = -10.0  # times its honest change: what the lying clinic sends
METRICS = ("num-examples", "loss", "accuracy")  # that a reply may bring, a number each
_DEADLINE = 120  # seconds of a call
_CLEANING = 20


class Patient(NamedTuple):
    """One patient, as the entry sees it: the records that share a key, and whose they are."""

    records: list[dict]
    owners: list[int]


class Exchange(NamedTuple):
    """What a server sent to a clinic in a round, whole and its arrays, and what came back."""

    head: dict
    content: bytes
    sent: dict[str, np.ndarray]
    returned: dict[str, np.ndarray]


class Network:
    """Answers the server's messages; see ``Rooms.serve``.

    Args:
        rooms: in which clients run.
        entry: whose.
        settings: that it asked for.
        case: who is behind the clinics.
        secret: from which node ids, crashes, noise and clients' random numbers are drawn. Who knew
            it could take the noise off again, so no entry can find it out.
        delta: of the promise.
        seconds: of the processor that the entry may take before it is stopped.
        cleans: whether the entry has a ``clean`` or a ``patient_key``.
        empty: seconds that a call takes in which nothing is done; they are not counted.
    """

    def __init__(
        self,
        rooms: Rooms,
        entry: Entry,
        settings: Settings,
        case: Case,
        *,
        secret: bytes,
        delta: float,
        seconds: float,
        cleans: bool,
        empty: float = 0.0,
    ) -> None:
        self.rooms, self.entry, self.settings, self.case = rooms, entry, settings, case
        self._secret, self.most_seconds = secret, seconds
        self._lock, self._releases = threading.Lock(), Counter()
        self.ledger = PatientLedger(delta, settings.epsilon)
        self.cleans, self.empty, self.rounds = cleans, empty, 0
        self._seconds: list[float] = []  # lists: several threads add to them
        self._bytes: list[int] = []
        self.notes: list[str] = []
        self.exchanges: dict[int, dict[int, Exchange]] = {}  # by round and clinic
        self.run_config = {
            "public": json.dumps(case.public),
            "labels": json.dumps(case.labels),
        }
        draw = random.Random(self.drawn("nodes"))
        nodes = draw.sample(range(2**20, 2**30), len(case.clinics))
        self.clinic_of = dict(zip(nodes, range(len(nodes)), strict=True))
        self.nodes = draw.sample(nodes, len(nodes))
        self.kept: dict[tuple, bytes] = {}  # clients' states
        self.patients = self._cleaned()

    @property
    def seconds(self) -> float:
        """Of the processor, that clients have taken."""
        return sum(self._seconds)

    @property
    def bytes(self) -> int:
        """That travelled, both ways."""
        return sum(self._bytes)

    def drawn(self, *what: object) -> int:
        """A number for a purpose, the same for the same secret; 63 bits."""
        digest = hashlib.blake2s(repr(what).encode(), key=self._secret, digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1

    def __call__(self, messages: list[tuple[dict, bytes]]) -> list[Frame]:
        """The clinics' replies, in the order of the messages.

        Raises:
            RefusedError: if the entry breaks a rule.
            EntryError: if it goes on for too long.
        """
        if any(head["type"].split(".")[0] == "train" for head, _ in messages):
            self.rounds += 1
        if self.rounds > ROUNDS:
            raise EntryError(f"it goes on for more than {ROUNDS} rounds")
        with ThreadPoolExecutor(self.rooms.count) as pool:
            replies = list(pool.map(lambda message: self._reply(*message), messages))
        if self.seconds > self.most_seconds:
            raise EntryError(f"it took {self.seconds:.0f} seconds of the processor, and goes on")
        return replies

    def _reply(self, head: dict, data: bytes) -> Frame:
        if head["node"] not in self.clinic_of:
            raise EntryError(
                "the server wrote to a node that there is not; ask grid.get_node_ids()"
            )
        number = self.clinic_of[head["node"]]
        clinic, kind = self.case.clinics[number], head["type"].split(".")[0]
        content = self._over_the_line(unpacked(data), self.settings.bits_down, number)
        if clinic.role == "crashes" and self.drawn("crash", self.rounds, kind) % 2:
            return Frame(b"F", b"the clinic's process crashed")
        try:
            if self.settings.private:
                reply = self._guarded(head, kind, number, content)
            else:
                reply = self._open(head, number, content)
            self._check(reply, kind, clinic)
        except (EntryError, InvalidUpdateError) as error:
            self.notes.append(f"round {self.rounds}, a clinic failed to {kind}: {error}")
            return Frame(b"F", b"the clinic failed")  # what it says may hold what it knows
        received, sent, returned = packed(content), _arrays(content), _arrays(reply)
        if clinic.role == "lies" and returned:
            reply[next(iter(reply.array_records))] = as_record(_lie(sent, returned))
        reply = self._over_the_line(reply, self.settings.bits_up, number)
        if kind == "train" and clinic.role in ("honest", "careless"):
            exchange = Exchange(head, received, sent, _arrays(reply))
            self.exchanges.setdefault(self.rounds, {})[number] = exchange
        return Frame(b"C", packed(reply))

    def _over_the_line(self, content: RecordDict, bits: int, clinic: int) -> RecordDict:
        """The content as it arrives; its bytes are counted."""
        codec = {32: None, 16: Cast("bfloat16")}.get(bits) or (Uniform(bits) if bits < 16 else None)
        if codec is not None:
            with self._lock:  # codecs draw from NumPy's one global generator
                np.random.seed(self.drawn("codec", self.rounds, clinic, bits) % 2**32)
                for key, record in content.array_records.items():
                    written = {n: encode_array(a.numpy(), codec) for n, a in record.items()}
                    content[key] = ArrayRecord(written)
        self._bytes.append(serialized_bytes(content))
        if codec is not None:
            for key, record in content.array_records.items():
                content[key] = as_record({n: decode_array(a) for n, a in record.items()})
        return content

    def _call(self, head: dict, number: int, content: bytes, records: list[dict], who: str) -> Done:
        """One call of the ClientApp."""
        config = {
            "partition-id": number,
            "registered": len(self.case.clinics[number].records),
            "records": json.dumps(records),
        }
        job = head | {
            "content": content,
            "state": self.kept.get((number, who), b""),
            "seed": self.drawn("client", self.rounds, number, who),
            "node_config": config,
        }
        return self.rooms.do("client", self.entry, _DEADLINE, run_config=self.run_config, **job)

    def _trained(
        self, head: dict, number: int, content: bytes, records: list[dict], who: str
    ) -> RecordDict:
        """The content of the ClientApp's reply; what it took is counted, and its state kept."""
        done = self._call(head, number, content, records, who)
        self._seconds.append(max(0.0, done.seconds - self.empty))
        self.kept[number, who] = done.state
        return unpacked(done.data)

    def _open(self, head: dict, number: int, content: RecordDict) -> RecordDict:
        """What the ClientApp makes of all the clinic's records."""
        records = [patient.records[0] for patient in self.patients[number]]
        return self._trained(head, number, packed(content), records, "")

    def _guarded(self, head: dict, kind: str, number: int, content: RecordDict) -> RecordDict:
        """What the gate lets out."""
        if kind != "train":
            raise RefusedError(
                f"it asks clinics to {kind}, and answers to that are not guarded; the gate lets "
                "out replies to 'train' only"
            )
        clinic, patients = self.case.clinics[number], self.patients[number]
        noise, received = self.settings.noise_of(self.rounds), _arrays(content)
        try:
            self.ledger.spend(shares([one.owners for one in patients]), noise)
        except ValueError as error:
            raise RefusedError(f"in round {self.rounds} {error}") from None
        trained, data = [], packed(content)
        for who, patient in enumerate(patients):
            try:
                reply = self._trained(head, number, data, patient.records, str(who))
                self._check(reply, kind, clinic)
                trained.append(_like(received, _arrays(reply)))
            except (EntryError, InvalidUpdateError) as error:
                self.notes.append(f"round {self.rounds}, a patient is left out: {error}")
        with self._lock:
            self._releases[number] += 1  # no two have the same noise, whatever the server asks
            rng = np.random.default_rng(self.drawn("noise", number, self._releases[number]))
        settings = (self.settings.max_norm, noise, len(clinic.records), rng)
        arrays = as_record(guarded(received, trained, *settings))
        metrics = MetricRecord({"num-examples": len(clinic.records)})
        return RecordDict({"arrays": arrays, "metrics": metrics})

    def _check(self, reply: RecordDict, kind: str, clinic: Clinic) -> None:
        """A reply brings arrays, and a few numbers.

        Raises:
            RefusedError: for what may carry data.
            InvalidUpdateError: for arrays that are not finite, or missing.
        """
        if reply.config_records or len(reply.array_records) > 1 or len(reply.metric_records) > 1:
            raise RefusedError(
                "a reply brings more than one record of arrays and one of metrics: words and "
                "bytes can carry patients' data"
            )
        for record in reply.metric_records.values():
            for name, value in record.items():
                number = isinstance(value, int | float) and math.isfinite(value)
                known = name in METRICS and number
                if name == "num-examples" and number:
                    known = value == int(value) and 0 < value <= len(clinic.records)
                if not known:
                    raise RefusedError(
                        f"its reply's metric '{name}' can carry patients' data; allowed are "
                        f"{', '.join(METRICS)}, a plain number each, and of examples no more than "
                        "the clinic has"
                    )
        arrays = _arrays(reply)
        if kind == "train" and not arrays:
            raise InvalidUpdateError("the ClientApp's reply has no arrays")
        if any(not np.isfinite(values).all() for values in arrays.values()):
            raise InvalidUpdateError("the ClientApp's reply holds NaN or infinity")

    def _cleaned(self) -> list[list[Patient]]:
        """Each clinic's records after the entry's own cleaning, by patient as it tells them."""
        if not self.cleans:
            return [
                [Patient([r], [p]) for r, p in zip(c.records, c.patients, strict=True)]
                for c in self.case.clinics
            ]
        jobs = [
            (number, record, owner)
            for number, clinic in enumerate(self.case.clinics)
            for record, owner in zip(clinic.records, clinic.patients, strict=True)
        ]
        with ThreadPoolExecutor(self.rooms.count) as pool:
            cleaned = list(pool.map(lambda job: self.cleaned(job[1]), jobs))
        found: list[dict[str, Patient]] = [{} for _ in self.case.clinics]
        for (number, _, owner), (record, key) in zip(jobs, cleaned, strict=True):
            if record is not None:
                key = f"own key {len(found[number])}" if key is None else f"key {key}"
                patient = found[number].setdefault(key, Patient([], []))
                patient.records.append(record)
                patient.owners.append(owner)
        return [list(patients.values()) for patients in found]

    def cleaned(self, record: dict) -> list:
        """One record, in a process that has seen no other: as the entry leaves it (or None), and
        the key of its patient (or None)."""
        try:
            done = self.rooms.do(
                "clean", self.entry, _CLEANING, record=record, run_config=self.run_config
            )
        except EntryError as error:
            raise EntryError(f"its clean or patient_key failed: {error}") from None
        self._seconds.append(max(0.0, done.seconds - self.empty))
        return json.loads(done.data)

    def probe(self, exchange: Exchange, number: int, record: dict) -> dict[str, np.ndarray]:
        """What the ClientApp makes of one record alone: the curious server has the code, too."""
        done = self._call(exchange.head, number, exchange.content, [record], "probe")
        return _arrays(unpacked(done.data))


def _arrays(content: RecordDict) -> dict[str, np.ndarray]:
    """The arrays of a message's first record; there may be none."""
    record = next(iter(content.array_records.values()), {})
    return {name: np.asarray(array.numpy()) for name, array in record.items()}


def _like(received: dict, trained: dict) -> dict:
    """The arrays, if they have the names and shapes of those received.

    Raises:
        InvalidUpdateError: if not.
    """
    shape = lambda some, name: some[name].shape if name in some else None  # noqa: E731
    names = received.keys() | trained.keys()
    wrong = [name for name in names if shape(received, name) != shape(trained, name)]
    if wrong or not received:
        raise InvalidUpdateError(
            f"the gate compares the arrays returned with those sent, and {sorted(wrong)[:3]} "
            "are not alike in both"
        )
    return trained


def _lie(sent: dict, returned: dict) -> dict:
    """The honest change, ten times as large, the other way."""
    lies = {}
    for name, values in returned.items():
        before = sent.get(name)
        base = before if before is not None and before.shape == values.shape else 0.0
        if np.issubdtype(values.dtype, np.floating):
            lies[name] = (base + BOOST * (values - base)).astype(values.dtype)
        else:
            lies[name] = values
    return lies
