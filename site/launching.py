"""Where a lesson can be run without installing it, given where the repository is hosted."""

import tomllib
from pathlib import Path
from urllib.parse import quote, urlsplit


def repository_of(pyproject: Path) -> tuple[str, str]:
    """The repository's public address and branch, from ``[tool.site]``; "" where none is set.

    Raises:
        ValueError: if the address is not one of a repository on the web.
    """
    settings = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("tool", {}).get("site", {})
    address = settings.get("repository", "").removesuffix("/").removesuffix(".git")
    parts = urlsplit(address)
    if address and (parts.scheme != "https" or parts.path.count("/") < 2):
        raise ValueError(
            f"{pyproject.name}: [tool.site] repository is {address!r}; it must look like "
            "'https://github.com/owner/name', or be left empty"
        )
    return address, settings.get("branch", "main")


def launch_links(repository: str, branch: str, notebook: Path) -> dict[str, str] | None:
    """Links that open a notebook on somebody else's machine, by that service's name.

    Args:
        repository: its address, as from ``repository_of``; "" gives None.
        branch: the branch that the links open.
        notebook: its path in the repository.

    Returns:
        Binder for any public repository, but only for Part 1, as the 2 GB of memory that it lends
        are too few for the language model; Colab for those on GitHub, which is all it reads.
    """
    if not repository:
        return None
    path, host = quote(notebook.as_posix()), urlsplit(repository).hostname
    name, links = urlsplit(repository).path.strip("/"), {}
    if host == "github.com":
        colab = "https://colab.research.google.com/github"
        links["Colab"] = f"{colab}/{name}/blob/{quote(branch)}/{path}"
    if notebook.parts[0] == "Part01":
        source = f"gh/{name}" if host == "github.com" else f"git/{quote(repository, safe='')}"
        binder = f"https://mybinder.org/v2/{source}/{quote(branch, safe='')}"
        links["Binder"] = f"{binder}?labpath={path}"
    return links


def how_to_run(lesson: str, notebook: Path, minutes: str, links: dict[str, str] | None) -> str:
    """The box under a lesson's title, in Markdown.

    Args:
        lesson: its folder, ``"Part01/L2"``.
        notebook: its path.
        minutes: as the lesson says them, ``"¾"``.
        links: from ``launch_links``.
    """
    elsewhere = (
        "(Links to Colab and Binder appear here when the repository's address is set, as "
        "`repository` under `[tool.site]` in `pyproject.toml`.)"
    )
    if links is not None:
        names = " or ".join(f"[{name}]({url})" for name, url in links.items())
        elsewhere = f"Without installing anything here: {names}." if links else ""
        if "Colab" in links:
            steps = "[what runs where](/start.md#What-runs-where)"
            elsewhere += f" On Colab, first run the steps in {steps}."
    return (
        ":::{admonition} Run this lesson\n:class: run\n\n`make lab` opens JupyterLab, where you "
        f"run `{notebook.as_posix()}` cell by cell; it computes for about {minutes} min on two CPU "
        f"cores. `make lesson LESSON={lesson}` runs all notebooks of the lesson at once. "
        f"([Set-up](/start.md).)\n\n{elsewhere}\n:::"
    )
