"""The Dockerfile and the devcontainer: their syntax, and that they do what the README does.

No image is built here: that takes a Docker daemon.
"""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTRUCTIONS = {"FROM", "RUN", "USER", "WORKDIR", "COPY", "EXPOSE", "CMD", "ENV"}
OF_A_DEVCONTAINER = {  # those of containers.dev's reference that we use
    "name",
    "image",
    "hostRequirements",
    "postCreateCommand",
    "forwardPorts",
    "customizations",
}
DEVCONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())


def steps(dockerfile: Path) -> list[tuple[str, str]]:
    """Instruction and argument, comments gone and continued lines joined."""
    lines = [x for x in dockerfile.read_text().splitlines() if not x.lstrip().startswith("#")]
    text = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line.strip()]


DOCKERFILE = steps(ROOT / "Dockerfile")


def dry(*arguments: str) -> str:
    """What make would run."""
    command = ["make", "--dry-run", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("path", ["Dockerfile", "Part02/L5/Dockerfile"])
def test_a_dockerfile_has_known_instructions_and_copies_what_is_there(path):
    found = steps(ROOT / path)
    assert found[0][0] == "FROM"
    assert {instruction for instruction, _ in found} <= INSTRUCTIONS
    for instruction, argument in found:
        if instruction == "COPY":
            *sources, target = [x for x in shlex.split(argument) if not x.startswith("--")]
            assert target
            assert all((ROOT / source).exists() for source in sources)
        if instruction == "RUN":
            syntax = subprocess.run(["bash", "-n", "-c", argument], capture_output=True, text=True)
            assert syntax.returncode == 0, syntax.stderr
        if instruction == "CMD":
            assert all(isinstance(word, str) for word in json.loads(argument))


def test_the_set_up_of_both_is_make_setup_which_does_what_the_readme_says():
    assert ("RUN", "make setup") in DOCKERFILE
    assert DEVCONTAINER["postCreateCommand"] == "make setup"
    installs = dry("setup", "BIN=x")
    told = re.findall(r"^pip install (.+)$", README, re.MULTILINE)
    assert len(told) == 2
    for arguments in told:
        assert re.search(rf"pip install [^&]*{re.escape(arguments)}", installs), arguments


def test_what_the_set_up_needs_is_copied_before_it():
    names = [instruction for instruction, _ in DOCKERFILE]
    before = [argument for _, argument in DOCKERFILE[: DOCKERFILE.index(("RUN", "make setup"))]]
    assert any("Makefile requirements.txt" in argument for argument in before)
    assert any("--no-install-recommends make" in argument for argument in before)
    assert names.count("USER") == 1, "and it does not run as root"


def test_the_container_opens_the_home_page_to_who_comes_from_outside():
    (command,) = (json.loads(argument) for name, argument in DOCKERFILE if name == "CMD")
    runs = dry(*command[1:])
    assert runs.strip().endswith("-m utils.home --ip=0.0.0.0 --port=8888 --no-browser")
    assert ("EXPOSE", "8888") in DOCKERFILE


def test_both_have_a_python_that_the_course_takes():
    for image in (DOCKERFILE[0][1], DEVCONTAINER["image"]):
        major, minor = re.fullmatch(r"python:(\d+)\.(\d+)-\w+", image).groups()
        assert (3, 11) <= (int(major), int(minor)) <= (3, 13)


def test_the_devcontainer_uses_words_that_exist_and_the_courses_environment():
    assert set(DEVCONTAINER) <= OF_A_DEVCONTAINER
    editor = DEVCONTAINER["customizations"]["vscode"]
    assert editor["settings"]["python.defaultInterpreterPath"].endswith("/.venv/bin/python")


def test_what_a_machine_has_made_is_not_copied_into_an_image():
    kept_out = set((ROOT / ".dockerignore").read_text().split())
    made = {x.strip("/") for x in (ROOT / ".gitignore").read_text().split() if "*" not in x}
    assert {name for name in made if name not in ("__pycache__", ".ipynb_checkpoints")} <= kept_out
