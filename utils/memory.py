"""Keep freed memory at hand, where the C library lets one ask for it (glibc, so Linux)."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_CHOSEN = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}
_KEPT, _HEAP = 2**30, 2**28  # bytes: what is kept at most, and of what blocks


def keep_freed() -> bool:
    """Let this process keep up to a gigabyte that it freed, for what it allocates next.

    By default glibc gives blocks of more than 32 MB, and what lies free at the end of its heap,
    back to the system at once, and every page that is asked for again costs a fault. Models,
    their replies and their logits are such blocks: kept, replies of 1.7 M weights each are
    written in a third of the time, and a language model's exam takes about a tenth less.

    Returns:
        Whether the C library took the wish: False where it is another one, or where whoever
        started Python chose for themselves (``MALLOC_TRIM_THRESHOLD_``, ``GLIBC_TUNABLES``).
    """
    if sys.platform != "linux" or _CHOSEN & os.environ.keys():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _HEAP) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
