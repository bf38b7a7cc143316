"""Files that are made once and kept, under ``data/`` in the repository; and those that are not."""

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from utils.arguments import folder_name

CACHE_DIR = Path(__file__).resolve().parents[1] / "data"
Value = TypeVar("Value")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


class CacheError(OSError):
    """The cache cannot be written: its folder is read-only, or the disk full."""


def cached(name: str, build: Callable[[Path], None], load: Callable[[Path], Value]) -> Value:
    """Load a folder of files from the cache; build it if it is absent or damaged.

    It is built under a temporary name and renamed when complete, so an interrupted build is
    never taken for a finished one; what a killed build left is removed before the next one.
    Several processes may ask at once: one builds, all load. From a folder that cannot be written
    to, what is there is loaded.

    Args:
        name: of the folder in ``CACHE_DIR``; put a version into it, and raise that whenever
            ``build`` changes.
        build: writes the files into a new, empty folder.
        load: reads them; whatever it raises counts as damage, and leads to one new build.
            Not so ImportError and MemoryError, which say nothing about the files: they are
            passed on, and the folder is kept.

    Raises:
        ValueError: if the name is no plain name, or one of the others no function.
        CacheError: if the folder is absent, and cannot be written.
    """
    folder_name("name", name)
    if not callable(build) or not callable(load):
        raise ValueError(f"build and load must be functions; they are {build!r} and {load!r}")
    folder = CACHE_DIR / name
    with _said_plainly():
        try:
            CACHE_DIR.mkdir(exist_ok=True)
            lock = FileLock(CACHE_DIR / f"{name}.lock")
            lock.acquire()
        except OSError as error:
            if error.errno in _CLOSED and folder.exists():
                return load(folder)  # nobody can change it
            raise
        try:
            return _loaded_or_built(name, folder, build, load)
        finally:
            lock.release()


def _loaded_or_built(
    name: str, folder: Path, build: Callable[[Path], None], load: Callable[[Path], Value]
) -> Value:
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


@contextmanager
def _said_plainly() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, CacheError) or error.errno not in _FULL | _CLOSED:
            raise
        way = "make room on that disk" if error.errno in _FULL else "make it writable"
        raise CacheError(
            error.errno,
            f"the cache {CACHE_DIR} cannot be used ({error.strerror}); {way}, or copy the course "
            "to a folder that is yours, and run again: what was half built is removed",
        ) from error


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
