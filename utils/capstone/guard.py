"""What an entry may not do: it ends the process that tries, and says why.

Python tells an audit hook of what is about to happen (PEP 578); a hook cannot be taken off
again. It is a fence against carelessness and plain cheating, not a wall against malice: who
runs strangers' entries runs the scorer in a container without a network.
"""

import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

_CODE = (".py", ".pyc", ".so", ".pyd", ".dylib")  # what imports read
_FORBIDDEN = {  # the beginning of an event's name, and what it is
    "socket.": "opened a socket",
    "subprocess.": "started a process",
    "os.system": "started a process",
    "os.exec": "started a process",
    "os.posix_spawn": "started a process",
    "os.spawn": "started a process",
    "os.fork": "started a process",
    "os.kill": "sent a signal",
    "signal.pthread_kill": "sent a signal",
    "os.remove": "changed files",
    "os.rename": "changed files",
    "os.mkdir": "changed files",
    "os.rmdir": "changed files",
    "os.link": "changed files",
    "os.symlink": "changed files",
    "os.truncate": "changed files",
    "os.chmod": "changed files",
    "os.chown": "changed files",
    "shutil.": "changed files",
    "tempfile.": "changed files",
    "mmap.": "mapped memory",
    "ctypes.dlopen": "left Python (ctypes)",
    "ctypes.dlsym": "left Python (ctypes)",
    "ctypes.call_function": "left Python (ctypes)",
    "ctypes.cdata": "left Python (ctypes)",
    "ctypes.string_at": "left Python (ctypes)",
    "gc.get_": "searched the process's memory",
    "resource.": "changed its limits",
    "urllib.": "opened a connection",
    "sqlite3.": "opened a file",
    "sys.addaudithook": "meddled with the guard",
    "sys.setprofile": "meddled with the guard",
    "sys.settrace": "meddled with the guard",
}


def watch(entry: str, model: str, refuse: Callable[[str], NoReturn]) -> None:
    """From now on, what is forbidden is refused, for as long as this process lives.

    Args:
        entry: the file name under which the entry's code runs, to name the line.
        model: the language model's folder, which may be read.
        refuse: called with the reason; it must end the process.
    """
    own = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places = tuple(str(Path(place).resolve()) + os.sep for place in own)
    places += (str(Path(__file__).resolve().parents[1]) + os.sep,)  # the course's own code
    model = str(Path(model).resolve()) + os.sep
    # kept here, where an entry that rewrites this module does not reach them
    forbidden, code_files, writes = tuple(_FORBIDDEN.items()), _CODE, _writes
    real, frame_of, text_of = os.path.realpath, sys._getframe, os.fsdecode

    def line() -> str:
        frame = frame_of(2)
        while frame is not None:
            if frame.f_code.co_filename == entry:
                return f" in line {frame.f_lineno} ({frame.f_code.co_name})"
            frame = frame.f_back
        return ""

    def hook(event: str, arguments: tuple) -> None:
        if event in ("open", "os.listdir", "os.scandir"):
            path = arguments[0]
            if isinstance(path, int):
                return  # of what is open already
            name = real(text_of(path)) if path is not None else ""
            reading = event != "open" or not writes(arguments)
            code = event != "open" or name.endswith(code_files)
            if reading and code and (name + os.sep).startswith(places):
                return
            if reading and (name + os.sep).startswith(model):
                return
            refuse(f"it opened the file or folder {text_of(path) if path else '.'}{line()}")
        for beginning, what in forbidden:
            if event.startswith(beginning):
                refuse(f"it {what}{line()}")

    sys.addaudithook(hook)


def _writes(arguments: tuple) -> bool:
    """Whether a file is opened to be written: by its mode, or by its flags."""
    _, mode, flags = arguments
    if isinstance(mode, str) and any(letter in mode for letter in "wax+"):
        return True
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
