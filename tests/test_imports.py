"""Imports point one way: what is below knows nothing of what is above it."""

import ast
from pathlib import Path

import utils

UTILS = Path(utils.__file__).parent
BASE = {
    "arguments",
    "caching",
    "hardware",
    "hints",
    "logbook",
    "memory",
    "packaged",
    "progress",
    "randomness",
    "torchvision_operators",
}
LAYERS = [
    BASE | {"__init__"},  # these may import one another
    {"data"},
    {"learning", "llm"},
    {"federation"},
    {"compression", "deployment", "privacy"},
    {"attacks"},
    {"plots"},
    {"capstone"},
    {"lesson", "questions"},
    {"contents"},
    {"readme", "home", "classroom"},
    {"course"},
]
BRIDGES = {"llm/federated.py": {"federation", "privacy"}}  # the language model in a federation


def imports_of(source: str, module: str) -> set[str]:
    """The parts of ``utils`` that a module imports, wherever in the file it does."""
    here = ["utils", *module.split("/")[:-1]]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) + 1 - node.level] if node.level else []
            origin = ".".join([*start, *([node.module] if node.module else [])])
            found |= {f"{origin}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("utils.")}


def wrong_imports(source: str, module: str) -> set[str]:
    """Those of ``imports_of`` that point sideways or up."""
    own = module.split("/")[0].removesuffix(".py")
    below = LAYERS[: LAYERS.index(next(layer for layer in LAYERS if own in layer))]
    allowed = {own}.union(BASE, *below)
    return imports_of(source, module) - allowed - BRIDGES.get(module, set())


def test_every_module_imports_only_what_lies_below_it():
    wrong = {
        module: found
        for module in (path.relative_to(UTILS).as_posix() for path in UTILS.rglob("*.py"))
        if (found := wrong_imports((UTILS / module).read_text(), module))
    }
    assert not wrong


UP = [
    ("data/digits.py", "from utils.learning import train"),
    ("learning/training.py", "def f():\n    import utils.llm.model as m"),
    ("federation/updates.py", "if TYPE_CHECKING:\n    from utils import compression"),
    ("compression/arrays.py", "from utils.privacy.mechanism import clip"),
    ("privacy/ledger.py", "from ..attacks import audit"),
    ("llm/training.py", "from utils.federation import simulate"),
    ("caching.py", "from utils.data import tensors"),
    ("caching.py", "from . import data"),
    ("plots.py", "import utils.lesson"),
    ("__init__.py", "from utils import data"),
]


def test_an_import_that_points_sideways_or_up_is_found():
    for module, source in UP:
        assert wrong_imports(source, module), (module, source)


DOWN = [
    ("llm/federated.py", "from utils.federation import simulate\nimport utils.privacy"),
    ("attacks/audit.py", "from utils.attacks.members import x\nfrom . import canaries"),
    ("learning/training.py", "import torch\nfrom utils.data.tensors import as_tensors"),
    ("lesson.py", "from utils.plots import use_course_style\nfrom utils import randomness"),
    ("caching.py", "from utils.arguments import number"),
    ("__init__.py", "from utils import torchvision_operators"),
]


def test_an_import_that_points_down_is_fine():
    for module, source in DOWN:
        assert not wrong_imports(source, module), (module, source)
