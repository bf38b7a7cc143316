"""Deal an app's data out: ``python Part02/L5/deal_out.py digits FOLDER 3``.

Each clinic gets a folder of its own, ``FOLDER/clinic-1`` and so on; on real machines this is
what lies there already, and nobody deals it out.
"""

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def task_of(app: str):
    """An app's module ``task``: how its data is dealt out, saved and loaded."""
    for folder in (HERE.parents[1], HERE / "app" / app):  # the course's utils; the app
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    return importlib.import_module(f"{app}_app.task")


def deal_out(app: str, folders: list[Path]) -> None:
    """Write each clinic's share into its folder."""
    task = task_of(app)
    for own, folder in zip(task.deal_out(len(folders)), folders, strict=True):
        task.save(own, folder)


if __name__ == "__main__":
    name, root, count = sys.argv[1:]
    deal_out(name, [Path(root) / f"clinic-{number + 1}" for number in range(int(count))])
