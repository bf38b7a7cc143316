"""Files that are made once and kept, under ``data/`` in the repository; and those that are not."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

CACHE_DIR = Path(__file__).parents[1] / "data"
Value = TypeVar("Value")


def cached(name: str, build: Callable[[Path], None], load: Callable[[Path], Value]) -> Value:
    """Load a folder of files from the cache; build it if it is absent or damaged.

    It is built under a temporary name and renamed when complete, so an interrupted build is
    never taken for a finished one; what a killed build left is removed before the next one.
    Several processes may ask at once: one builds, all load.

    Args:
        name: of the folder in ``CACHE_DIR``; put a version into it, and raise that whenever
            ``build`` changes.
        build: writes the files into a new, empty folder.
        load: reads them; whatever it raises counts as damage, and leads to one new build.
            Not so ImportError and MemoryError, which say nothing about the files: they are
            passed on, and the folder is kept.

    Raises:
        ValueError: if the name is no plain name, or one of the others no function.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"name is {name!r}; it must be the name of a folder, without a path")
    if not callable(build) or not callable(load):
        raise ValueError(f"build and load must be functions; they are {build!r} and {load!r}")
    folder = CACHE_DIR / name
    CACHE_DIR.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE_DIR / f"{name}.lock"):
        if folder.exists():
            try:
                return load(folder)
            except (ImportError, MemoryError):
                raise
            except Exception as error:  # a damaged file fails in many ways
                logging.getLogger(__name__).warning(
                    "%s is damaged (%s: %s); building it again", folder, type(error).__name__, error
                )
                shutil.rmtree(folder)
        unfinished = CACHE_DIR / f".unfinished-{name}"  # nobody else's: the lock is held
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir()
        try:
            build(unfinished)
            os.replace(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return load(folder)


def temporary_folder() -> Path:
    """A new folder for what this process alone needs, and removes.

    Those that killed processes left behind are removed first.
    """
    for folder in Path(tempfile.gettempdir()).glob("federation-*-*"):
        owner = folder.name.split("-")[1]
        if owner.isdigit() and not is_alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"federation-{os.getpid()}-"))


def is_alive(process: int) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
