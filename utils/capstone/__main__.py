"""``make capstone ENTRY=…``: score an entry, and show it beside all others so far."""

import argparse
import os
import secrets
import sys
from pathlib import Path

from utils.capstone import report
from utils.capstone.rooms import ROOT, EntryError, Rooms
from utils.capstone.scoring import read_entry, result_of, score
from utils.capstone.sealing import unseal

FOLDER = ROOT / "Part02" / "capstone"
MINE = ROOT / "build" / "capstone"


def main(arguments: list[str] | None = None) -> int:
    """Score one entry; 0 if it ran, 1 if it was refused or failed, 2 if it cannot be read."""
    parser = argparse.ArgumentParser(prog="make capstone", description=__doc__)
    parser.add_argument("entry", type=Path, help="a Python file, or a sealed one")
    parser.add_argument("--seeds", type=int, default=1, help="new cases to score it on")
    parser.add_argument("--seed", type=int, nargs="+", help="these cases, to repeat a result")
    parser.add_argument("--to", type=Path, default=MINE, help="folder of the result file")
    asked = parser.parse_args(arguments)
    if asked.seed is None and not 1 <= asked.seeds <= 20:
        parser.error(f"--seeds is {asked.seeds}; it must be from 1 to 20")
    if min(asked.seed or [0]) < 0:
        parser.error("--seed must be whole numbers from 0 on")
    seeds = asked.seed or [secrets.randbelow(10**6) for _ in range(asked.seeds)]
    try:
        entry = unseal(asked.entry) if asked.entry.suffix == ".sealed" else read_entry(asked.entry)
    except (EntryError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Scoring {entry.name} on {len(seeds)} new case{'s' * (len(seeds) > 1)} …", flush=True)
    try:
        opened = Rooms(os.cpu_count() or 1)
    except EntryError as error:
        print(error, file=sys.stderr)
        return 2
    scores = []
    with opened as rooms:
        for seed in seeds:
            scores.append(score(entry, seed, rooms, lambda text: print(f"  {text} …", flush=True)))
            print(f"case {seed}: {report.in_words(scores[-1])}", flush=True)
            for note in scores[-1].notes[:3]:
                print(f"  {note}")
            path = report.write_result(result_of(entry, scores), asked.to)  # so far
    others = report.read_results({(FOLDER / "results").resolve(), asked.to.resolve()})
    shown = report.table(others).drop(columns="never", errors="ignore")
    print("\n" + shown.to_string(index=False, float_format="{:.2f}".format, na_rep="–"))
    MINE.mkdir(parents=True, exist_ok=True)
    report.figure(others).savefig(MINE / "entries.png")
    print(f"\nResult: {_short(path)}; figure: {_short(MINE / 'entries.png')}")
    _unveil(report.read_result(path), others)
    return int(any(one.refused for one in scores))


def _short(path: Path) -> Path:
    return path.resolve().relative_to(ROOT) if path.resolve().is_relative_to(ROOT) else path


def _unveil(result: dict, others: list[dict]) -> None:
    """Who beats the sensible entry, within the budgets, may read the strong one."""
    sensible = next((one for one in others if one["entry"] == "sensible"), None)
    strong = FOLDER / "references" / "strong.sealed"
    if not sensible or not strong.exists() or result["entry"] in ("sensible", "strong"):
        return
    if report.within(result) and report.utility(result) > report.utility(sensible):
        path = MINE / "strong_unsealed.py"
        path.write_text(unseal(strong).source, encoding="utf-8")
        print(f"It beats the sensible entry. How the strong one is written: {_short(path)}")
    else:
        print(
            "The strong entry stays sealed until yours beats the sensible one within the budgets."
        )


if __name__ == "__main__":
    sys.exit(main())
