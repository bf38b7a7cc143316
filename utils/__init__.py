"""Shared helpers of the course: everything that more than one lesson needs.

Importing this package downloads nothing and prints nothing. It makes three choices,
all before Flower, transformers or torchvision are first imported:

- Flower and Ray report no usage (set ``FLWR_TELEMETRY_ENABLED=1`` to send Flower's reports);
- transformers and datasets stay off the network (set ``HF_HUB_OFFLINE=0`` to allow it);
- torchvision works beside a torch build that lacks its compiled operators.
"""

import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns about it

from utils import torchvision_operators

torchvision_operators.declare_if_missing()
