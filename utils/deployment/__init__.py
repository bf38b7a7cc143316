"""From a notebook to real machines: Flower's own runtimes, with TLS and keys, on this machine."""

from utils.deployment.certificates import Authority, make_key
from utils.deployment.network import Deployment, free_port
from utils.deployment.processes import Process, wait_until

__all__ = ["Authority", "Deployment", "Process", "free_port", "make_key", "wait_until"]
