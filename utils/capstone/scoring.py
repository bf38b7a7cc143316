"""Score an entry: train it on a case that it has not seen, and judge what comes of it."""

import contextlib
import datetime
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import flwr
import torch

from utils.arguments import seed_number
from utils.capstone.case import Case, make_case
from utils.capstone.contract import Settings
from utils.capstone.frames import unpacked
from utils.capstone.judging import judge
from utils.capstone.network import Network
from utils.capstone.rooms import Entry, EntryError, RefusedError, Rooms

DELTA = 1e-4  # of ε: fewer than one in ten times the case's nine hundred patients
BUDGETS = {"MB": 12.0, "ε": 8.0, "minutes": 6.0}
REFERENCE = 4.0  # seconds that a reference job counts for: about what it takes on a core of 2023
MOST_BYTES = 100_000  # of an entry's file
_STOP = 5  # times the budget of minutes, at which an entry is stopped


@dataclass
class Score:
    """One entry on one seed. ``refused``: the reason, if it was; then all else is empty."""

    seed: int
    exams: dict[str, float] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    leaks: dict[str, float] = field(default_factory=dict)
    rounds: int = 0
    refused: str = ""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def utility(self) -> float:
        """Mean share right, over the exams."""
        return sum(self.exams.values()) / len(self.exams) if self.exams else 0.0

    @property
    def broken(self) -> dict[str, float]:
        """The budgets that were broken, and what was spent."""
        return {n: self.spent[n] for n, most in BUDGETS.items() if self.spent.get(n, 0) > most}


def read_entry(path: str | Path) -> Entry:
    """An entry's file.

    Raises:
        EntryError: if it cannot be read, or is too long.
    """
    path = Path(path)
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EntryError(f"the entry {path} cannot be read: {error}") from None
    if len(source.encode()) > MOST_BYTES:
        raise EntryError(
            f"{path} has {len(source.encode()):,} bytes; an entry may have {MOST_BYTES:,}: what it "
            "knows, it learns"
        )
    return Entry(path.stem, source)


def score(
    entry: Entry,
    seed: int,
    rooms: Rooms,
    say: Callable[[str], None] = lambda text: None,
    deal: Callable[[int], Case] = make_case,
    unit: float | None = None,
    secret: bytes | None = None,
) -> Score:
    """Train and judge an entry on the case of one seed.

    An entry that is refused, or fails, gets a score that says why.

    Args:
        entry: from ``read_entry``.
        seed: of the case.
        rooms: in which it runs.
        say: told how it goes on.
        deal: makes the case from the seed.
        unit: seconds of the processor that the reference job takes; by default it is run before
            and after the training, since a machine is not equally fast all the time.
        secret: of the faults and the noise; by default one that nobody can repeat. (With it, the
            noise could be taken off again.)

    Raises:
        ValueError: if the seed is none.
    """
    found, started = Score(seed_number(seed)), time.monotonic()
    try:
        _run(entry, found, rooms, say, deal(found.seed), unit, secret or os.urandom(16))
    except RefusedError as error:
        found.refused = f"refused: {error}"
    except EntryError as error:
        found.refused = f"failed: {error}"
    if found.refused:
        found.exams, found.spent, found.leaks = {}, {}, {}
    found.seconds = time.monotonic() - started
    return found


def _run(
    entry: Entry,
    found: Score,
    rooms: Rooms,
    say: Callable[[str], None],
    case: Case,
    unit: float | None,
    secret: bytes,
) -> None:
    asked = json.loads(rooms.do("describe", entry, 60, run_config={}).data)
    told = next(
        (text for text in _words(case) if len(text) > 12 and text in entry.source.lower()), None
    )
    if told:
        raise RefusedError(f"its file holds words of the exam: '{told}'")
    settings = Settings(**asked["settings"])
    before = unit or _reference(rooms)
    empty = statistics.median(rooms.do("nothing", None, 60).seconds for _ in range(9))
    say("training")
    most = _STOP * BUDGETS["minutes"] * 60 / REFERENCE * before
    network = Network(
        rooms,
        entry,
        settings,
        case,
        secret=secret,
        delta=DELTA,
        seconds=most,
        cleans=asked["cleans"],
        empty=empty,
    )
    job = {"nodes": network.nodes, "run_config": network.run_config}
    done = rooms.serve(entry, 600, network, seed=network.drawn("server"), **job)
    if not network.exchanges:
        raise EntryError("no clinic's reply ever reached its server")
    jobs = (network.seconds + done.seconds) / ((before + (unit or _reference(rooms))) / 2)
    epsilon = network.ledger.epsilon if settings.private else float("inf")
    say("judging")
    result = judge(network, unpacked(done.data))
    found.exams, found.rounds, found.notes = result.exams, network.rounds, network.notes
    found.spent = {"MB": network.bytes / 1e6, "ε": epsilon, "minutes": jobs * REFERENCE / 60}
    found.leaks = {
        "copied": result.copied,
        "never": result.never,
        "outsider": result.outsider,
        "server": result.server,
    }


def _reference(rooms: Rooms) -> float:
    return rooms.do("reference", None, 600).seconds


def _words(case: Case) -> set[str]:
    """Complaints of the exams, in small letters."""
    questions = [q.question for name in ("clinical", "lay") for q in case.exams[name]]
    told = [q.removeprefix("A patient has ").partition(". Which")[0] for q in questions]
    return {part.lower() for text in told for part in text.split(" and ")}


def _machine() -> str:
    """The processor, as far as the system says it, and how many of its cores."""
    told = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        told = next((x.partition(": ")[2] for x in lines if x.startswith("model name")), told)
    return f"{told}, {os.cpu_count()} cores"


def result_of(entry: Entry, scores: list[Score]) -> dict:
    """What a result file holds: the entry's hash, its scores, and what made them."""
    return {
        "entry": entry.name,
        "sha256": hashlib.sha256(entry.source.encode()).hexdigest(),
        "scores": [asdict(one) for one in scores],
        "budgets": BUDGETS,
        "delta": DELTA,
        "made": {"date": f"{datetime.date.today()}", "machine": _machine()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "flwr": flwr.__version__,
        },
    }
