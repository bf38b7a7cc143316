"""Shared helpers of the course: everything that more than one lesson needs.

Importing this package downloads nothing and prints nothing. It makes four choices,
all before Flower, transformers or torchvision are first imported:

- Flower and Ray report no usage (set ``FLWR_TELEMETRY_ENABLED=1`` to send Flower's reports);
- transformers and datasets stay off the network (set ``HF_HUB_OFFLINE=0`` to allow it);
- torchvision works beside a torch build that lacks its compiled operators;
- memory that was freed stays at hand, where the C library can do that (``utils.memory``).

With an old Python, or one without the course's packages (another kernel than that of ``.venv``),
it raises ImportError, with the way out.
"""

import os
import sys

_KERNEL = "In JupyterLab choose the kernel of .venv; 'make lab' installs it, and opens the course"
if sys.version_info < (3, 11):  # noqa: UP036 (a notebook may be opened with any)
    raise ImportError(
        f"this course needs Python 3.11 or newer, and this is Python {sys.version.split()[0]} "
        f"({sys.executable}). {_KERNEL}"
    )

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns about it

try:
    from utils import memory, torchvision_operators
except ModuleNotFoundError as error:
    raise ImportError(
        f"the package {error.name} is not installed for this Python ({sys.executable}). {_KERNEL}"
    ) from None

torchvision_operators.declare_if_missing()
memory.keep_freed()
