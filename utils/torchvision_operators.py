"""Let torchvision import where its compiled operators do not match the installed torch.

``pip install torch torchvision`` can pair a CPU-only torch with a torchvision whose
compiled operators were built for CUDA. These then do not load, and importing torchvision
ends in ``RuntimeError: operator torchvision::nms does not exist``, although its data
sets, transforms, utilities and models need none of them. Declaring the names of the two
operators that the import looks for is enough. Where they exist, nothing is touched.
"""

import sys

import torch

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def declare_if_missing() -> bool:
    """Import torchvision, declaring its missing operators first if that is what it takes.

    Returns:
        True if the operators had to be declared, False if torchvision was fine.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    else:
        return False
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # the half-imported package
    for name, schema in _SCHEMAS.items():
        torch.library.define(f"torchvision::{name}", schema)
    import torchvision  # noqa: F401

    return True
