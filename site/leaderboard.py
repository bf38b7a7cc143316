"""The leaderboard: a page from the capstone's result files, those of pull requests among them."""

import io
from pathlib import Path

import matplotlib.pyplot as plt

from utils.capstone import report
from utils.plots import use_course_style

_OPENING = """# Leaderboard

Entries of the [capstone](/Part02/capstone/capstone.ipynb), the most useful within all budgets
first. Each was scored by its own author on five cases, with `make capstone ENTRY=… SEEDS=5`;
the result files lie in `Part02/capstone/results`. To join, add yours by pull request: who
merges it scores the file again.
"""
_COLUMNS = {  # of the scorer's table, and how they are told here
    "entry": "entry",
    "verdict": "budgets",
    "utility": "utility",
    "from–to": "lowest–highest",
    "clinical": "clinical",
    "lay": "lay",
    "rare": "rare",
    "MB": "MB",
    "ε": "ε",
    "minutes": "minutes",
    "server": "AUC, by the server",
    "copied": "bits of copied records",
}


def leaderboard(folder: Path) -> tuple[str, bytes]:
    """The page in Markdown, and its figure as PNG.

    Args:
        folder: with the result files.

    Raises:
        ValueError: naming a file that is no result.
    """
    results = report.read_results([folder])
    use_course_style()
    figure, file = report.figure(results), io.BytesIO()
    figure.savefig(file, format="png")
    plt.close(figure)
    shown = report.table(results)
    shown = shown[[name for name in _COLUMNS if name in shown]].rename(columns=_COLUMNS)
    rows = [[_cell(value) for value in row] for row in shown.itertuples(index=False)]
    told = "\n".join(
        f"- **{one['entry']}**: SHA-256 `{one['sha256'][:16]}…`, cases "
        f"{', '.join(str(score.seed) for score in one['scores'])}; Python "
        f"{one['versions']['python']}, torch {one['versions']['torch']}, flwr "
        f"{one['versions']['flwr']}; {one['made']['date']}, {one['made']['machine']}"
        for one in results
    )
    lines = [_row(list(shown.columns)), _row(["---"] * len(shown.columns)), *map(_row, rows)]
    alt = (
        "Each entry's mean share of right answers against what leaks: how well the server tells "
        "members from strangers, and the exposure of copied records. The table has the numbers."
    )
    figure_text = f"![{alt}](/leaderboard.png)"
    made = "## How each was made\n\n" + told
    return "\n\n".join([_OPENING, "\n".join(lines), figure_text, made]) + "\n", file.getvalue()


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value).replace("|", "&#124;")
    return "–" if value != value else "∞" if value == float("inf") else f"{value:.2f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
