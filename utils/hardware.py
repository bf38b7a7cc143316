"""What this machine computes fast."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def multiplies_bfloat16(device: str = "cpu") -> bool:
    """Whether a device multiplies matrices in bfloat16 faster than in float32.

    GPUs do, and processors with AMX (Intel's since 2023). Those that have only AVX-512's
    instructions for it do not: there a language model was seen to take 1.3 to 1.5 times as long.

    Args:
        device: ``"cpu"`` or ``"cuda"``, with or without a number.

    Raises:
        ValueError: for any other.
    """
    kind = str(device).split(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}; it must be 'cpu' or 'cuda'")
    if kind == "cuda":
        return True
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


@contextmanager
def products_of_bfloat16(wanted: bool) -> Iterator[None]:
    """Within it, the CPU multiplies float32 matrices in its units for bfloat16: the numbers are
    rounded to these, the products summed in float32. With AMX it takes half the time or less.

    Of numbers that are bfloat16's already, the products are exact.

    Args:
        wanted: if not, nothing is changed.
    """
    how = torch.backends.mkldnn.matmul
    before = how.fp32_precision
    if wanted:
        how.fp32_precision = "bf16"
    try:
        yield
    finally:
        how.fp32_precision = before
