"""What a learner has done, kept in one small file on this machine.

``make lab`` names the file in the variable COURSE_PROGRESS; the course's home page reads it.
Without that variable, as in tests, in ``make course`` and in other editors, nothing is kept. A
file that is damaged or cannot be written never stops a lesson: what cannot be noted is not.
"""

import contextlib
import json
import os
from pathlib import Path

from filelock import FileLock

VARIABLE = "COURSE_PROGRESS"
RIGHT = "Right"
Entry = dict[str, dict[str, str]]
_lesson: list[str] = []  # the title of the one that this kernel runs


def begin(title: str) -> None:
    """From now on, what is noted belongs to this lesson."""
    _lesson[:] = [title]
    note("begun", "start_lesson", "yes")


def note(kind: str, name: str, what: str) -> None:
    """Keep one thing of the lesson that runs; without a lesson or a file, do nothing.

    Args:
        kind: ``"begun"``, ``"checkpoints"``, ``"exercises"`` or ``"self-test"``.
        name: the claim, the check or the question.
        what: the verdict, or the answer. An exercise that was right once stays right.
    """
    path = os.environ.get(VARIABLE)
    if not path or not _lesson:
        return
    with contextlib.suppress(OSError):  # a full disk, a folder that is gone, a lock that is held
        file = Path(path)
        with FileLock(f"{file}.lock", timeout=1):  # two notebooks may run at once
            lessons = read(file)
            kept = lessons.setdefault(_lesson[0], {}).setdefault(kind, {})
            if kept.get(name) == what or (kind == "exercises" and kept.get(name) == RIGHT):
                return
            kept[name] = what
            unfinished = file.with_name(f".unfinished-{file.name}")
            unfinished.write_text(json.dumps(lessons, indent=1), encoding="utf-8")
            unfinished.replace(file)


def noted(kind: str) -> dict[str, str]:
    """What is kept of the lesson that runs, by name; empty without one."""
    path = os.environ.get(VARIABLE)
    return read(Path(path)).get(_lesson[0], {}).get(kind, {}) if path and _lesson else {}


def read(file: Path) -> dict[str, Entry]:
    """What is kept, by the lessons' titles; of a damaged file, what is sound.

    Args:
        file: need not exist.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {
        title: {kind: names for kind, names in entry.items() if _sound(names)}
        for title, entry in (found.items() if isinstance(found, dict) else ())
        if isinstance(entry, dict)
    }


def _sound(names: object) -> bool:
    return isinstance(names, dict) and all(isinstance(what, str) for what in names.values())
