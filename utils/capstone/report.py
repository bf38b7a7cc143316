"""Result files, the table and the figure of all entries so far."""

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from utils.capstone.case import CARELESS, CLINICS, COPIED, STRANGERS
from utils.capstone.judging import MEMBERS
from utils.capstone.scoring import BUDGETS, Score
from utils.plots import COLORS

_SCORES = set(Score.__dataclass_fields__)


class ResultError(ValueError):
    """A file that is no result of an entry."""


def write_result(result: dict, folder: Path) -> Path:
    """Keep an entry's result, under its name and the beginning of its hash.

    It is written under a temporary name and renamed, so no file is ever half written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['entry']}-{result['sha256'][:8]}.json"
    new = path.with_suffix(f".{os.getpid()}.new")
    plain = json.loads(json.dumps(result), parse_constant=str)  # infinity is no JSON
    new.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(path)
    return path


def read_result(path: Path) -> dict:
    """A result file; its ``scores`` are ``Score`` again.

    Raises:
        ResultError: naming the file, if it is none.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        scores = [Score(**{n: one[n] for n in _SCORES & one.keys()}) for one in result["scores"]]
        for one in scores:
            one.spent = {name: float(spent) for name, spent in one.spent.items()}
        if not scores or not {"entry", "sha256", "versions"} <= result.keys():
            raise KeyError("scores")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(
            f"{path} is no result of an entry ({error}); remove it, or score anew"
        ) from error
    return result | {"scores": scores}


def read_results(folders: Iterable[Path]) -> list[dict]:
    """All result files of some folders, the most useful entry within its budgets first.

    Raises:
        ResultError: if one of the files is none.
    """
    found = [read_result(path) for folder in folders for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda one: (_verdict(one["scores"]) != "within", -utility(one)))


def utility(result: dict) -> float:
    """Mean share right of an entry, over its exams and seeds."""
    return float(np.mean([one.utility for one in result["scores"]]))


def _verdict(scores: Sequence[Score]) -> str:
    if any(one.refused for one in scores):
        return "refused" if any("refused" in one.refused for one in scores) else "failed"
    broken = sorted({name for one in scores for name in one.broken}, key=list(BUDGETS).index)
    return f"breaks {', '.join(broken)}" if broken else "within"


def within(result: dict) -> bool:
    """Whether an entry kept all its budgets, on all its seeds."""
    return _verdict(result["scores"]) == "within"


def table(results: Sequence[dict]) -> pd.DataFrame:
    """One row an entry: means over its seeds, and the lowest and highest of its utility."""
    rows = []
    for result in results:
        scores: list[Score] = result["scores"]
        row = {"entry": result["entry"], "verdict": _verdict(scores), "seeds": len(scores)}
        good = [one for one in scores if not one.refused]
        if good:
            low, high = (pick(one.utility for one in good) for pick in (min, max))
            row |= {"utility": utility(result), "from–to": f"{low:.0%}–{high:.0%}"}
            for part in ("exams", "leaks", "spent"):
                for name in getattr(good[0], part):
                    row[name] = float(np.mean([getattr(one, part)[name] for one in good]))
        rows.append(row)
    return pd.DataFrame(rows)


def in_words(score: Score) -> str:
    """One seed's outcome on a line or two: what it is worth, and which budget it broke."""
    if score.refused:
        return score.refused
    parts = [f"{name} {share:.0%}" for name, share in score.exams.items()]
    said = f"utility {score.utility:.1%} ({', '.join(parts)})"
    for name, most in BUDGETS.items():
        spent = score.spent[name]
        over = f", {_times(spent / most)} the budget" if name in score.broken else ""
        said += f"; {name} {_number(spent)} of {most:g}{over}"
    leaks = score.leaks
    said += (
        f"; exposure of copied records {leaks['copied']:.1f} bits (never seen: "
        f"{leaks['never']:.1f}); members told with AUC {leaks['outsider']:.2f} by an outsider, "
        f"{leaks['server']:.2f} by the server"
    )
    return said


def _number(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _times(value: float) -> str:
    return "beyond" if math.isinf(value) else f"{value:.1f} times"


def luck() -> tuple[float, float]:
    """How far chance alone takes one case, nineteen times in twenty: an AUC from one half, and
    the exposure of copied records from that of records never seen (bits).

    The first by the Mann-Whitney test's variance; the second since exposure of a number never
    seen is about exponential, with a standard deviation of 1 / ln 2 bits.
    """
    people = (CLINICS - 2) * MEMBERS  # and as many strangers
    auc = math.sqrt((2 * people + 1) / (12 * people**2))
    copied, never = CARELESS * COPIED, CARELESS * STRANGERS
    return 1.96 * auc, 1.96 / math.log(2) * math.sqrt(1 / copied + 1 / never)


def figure(results: Sequence[dict]) -> Figure:
    """Utility across, leakage up: to the server that reads replies, and to who has the model.

    Each beside its control: guessing, and the same model's exposure of numbers never seen. Grey:
    what luck does to one case. Filled: within all budgets. One mark an entry, the mean of its
    seeds.
    """
    shown = [one for one in results if not any(score.refused for score in one["scores"])]
    fig, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharex=True)
    for number, result in enumerate(shown, start=1):
        scores, kept = result["scores"], within(result)
        color = COLORS["federated + DP" if math.isfinite(scores[0].spent["ε"]) else "federated"]
        place = 100 * utility(result)
        auc = float(np.mean([one.leaks["server"] for one in scores]))
        bits = float(np.mean([one.leaks["copied"] - one.leaks["never"] for one in scores]))
        for ax, height in zip(axes, (auc, bits), strict=True):
            label = f"{number} {result['entry']}"
            look = {"ms": 9, "color": color, "mfc": color if kept else "white", "label": label}
            ax.plot(place, height, "o", **look)
            ax.annotate(str(number), (place, height), (6, 5), textcoords="offset points")
    for ax, middle, off in zip(axes, (0.5, 0.0), luck(), strict=True):
        ax.axhline(middle, color="black", ls=":")
        ax.axhspan(middle - off, middle + off, color=COLORS["ensemble"], alpha=0.15, lw=0)
        ax.set_xlabel("right answers, mean of three exams (%)")
        ax.margins(x=0.15)
    axes[0].set(ylabel="AUC of members, by the server", ylim=(0.35, 1.0))
    axes[1].set(
        ylabel="exposure of copied records\nabove records never seen (bits)", ylim=(-3, 7.2)
    )
    if shown:
        axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    fig.suptitle("Utility against leakage: the best corner is lower right", x=0.01, ha="left")
    return fig
