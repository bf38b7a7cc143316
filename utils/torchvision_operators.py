"""Let torchvision import where its compiled operators do not match the installed torch.

``pip install torch torchvision`` can pair a CPU-only torch with a torchvision whose
compiled operators were built for CUDA. These then do not load, and importing torchvision
ends in ``RuntimeError: operator torchvision::nms does not exist``, although its data
sets, transforms, utilities and models need none of them. Declaring the names of the two
operators that the import looks for is enough. Where they exist, nothing is touched.
"""

import contextlib
import importlib.util
import sys
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def declare_if_missing() -> bool:
    """Load torchvision's operators, and declare those that are missing then.

    torchvision itself is left for whoever needs it to import: that takes seconds.

    Returns:
        True if the operators had to be declared, False if there was nothing to do.

    Raises:
        ModuleNotFoundError: if torchvision is not installed.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None:
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")
    with contextlib.suppress(ImportError, OSError):  # what torchvision passes over, too
        torch.ops.load_library(_compiled(Path(found.origin).parent))
    missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    for name in missing:
        torch.library.define(f"torchvision::{name}", _SCHEMAS[name])
    if missing and "torchvision" not in sys.modules:
        for name in [name for name in sys.modules if name.startswith("torchvision.")]:
            del sys.modules[name]  # of an import that failed before
    return bool(missing)


def _compiled(package: Path) -> str:
    """The file of torchvision's operators, found as torchvision finds it."""
    spec = importlib.util.spec_from_file_location(
        "torchvision_paths", package / "_internally_replaced_utils.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module._get_extension_path("_C")
