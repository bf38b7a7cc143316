"""The strong reference, sealed until an entry beats the sensible one.

The seal is a curtain, not a lock: who wants to spoil the task for themselves can.
"""

import base64
import zlib
from pathlib import Path

from utils.capstone.rooms import Entry


def seal(source: str) -> str:
    """The source, so that nobody reads it by accident."""
    packed = base64.b85encode(zlib.compress(source.encode(), 9)).decode()
    return "\n".join(packed[i : i + 96] for i in range(0, len(packed), 96)) + "\n"


def unseal(path: Path) -> Entry:
    """A sealed entry, to be run.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        packed = "".join(path.read_text(encoding="utf-8").split())
        return Entry(path.stem, zlib.decompress(base64.b85decode(packed)).decode())
    except (OSError, ValueError, zlib.error) as error:
        raise ValueError(f"{path} is no sealed entry: {error}") from error
