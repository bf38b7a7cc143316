"""Progress bars that can be turned off for good."""

import os

from tqdm.auto import tqdm

from utils.arguments import flag


def progress_bar(progress: bool = True, **settings: object) -> tqdm:
    """A tqdm bar, gone when it is done; without ``progress``, or with TQDM_DISABLE=1, none.

    tqdm itself does not heed that variable in notebooks.

    Raises:
        ValueError: if ``progress`` is neither True nor False.
    """
    progress = flag("progress", progress)
    off = os.environ.get("TQDM_DISABLE", "") not in ("", "0")
    return tqdm(disable=off or not progress, leave=False, **settings)
