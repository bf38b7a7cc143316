"""Data that ships in installed packages, found without importing them."""

import importlib.util
from pathlib import Path

from utils.arguments import text


def packaged(package: str, name: str, install: str) -> Path:
    """The path of a file or folder in an installed package.

    Args:
        package: as it is imported.
        name: the path in the package; ``"."`` is the package's own folder.
        install: what pip is told to install it, for the message.

    Raises:
        ModuleNotFoundError: if the package is not installed: how to install it.
        FileNotFoundError: if the package, perhaps in another version, lacks the file.
    """
    found = importlib.util.find_spec(text("package", package))
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the package {package} is missing; install it with: pip install {install}"
        )
    path = Path(next(iter(found.submodule_search_locations))) / text("name", name)
    if not path.exists():
        raise FileNotFoundError(
            f"the package {package}, as it is installed here, has no '{name}'; install the version "
            f"that this course was tested with: pip install {install}"
        )
    return path
