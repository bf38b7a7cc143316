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


def launch_links(repository: str, branch: str, notebook: Path) -> dict[str, str]:
    """Links that open a notebook on somebody else's machine, by that service's name.

    Args:
        repository: its address, as from ``repository_of``; "" gives no links.
        branch: the branch that the links open.
        notebook: its path in the repository.

    Returns:
        Binder for any public repository; Colab for those on GitHub, which is all it reads.
    """
    if not repository:
        return {}
    path, host = quote(notebook.as_posix()), urlsplit(repository).hostname
    name = urlsplit(repository).path.strip("/")
    source = f"gh/{name}" if host == "github.com" else f"git/{quote(repository, safe='')}"
    binder = f"https://mybinder.org/v2/{source}/{quote(branch, safe='')}?labpath={path}"
    links = {"Binder": binder}
    if host == "github.com":
        colab = "https://colab.research.google.com/github"
        links = {"Colab": f"{colab}/{name}/blob/{quote(branch)}/{path}"} | links
    return links


def how_to_run(lesson: str, notebook: Path, minutes: str, links: dict[str, str]) -> str:
    """The box under a lesson's title, in Markdown.

    Args:
        lesson: its folder, ``"Part01/L2"``.
        notebook: its path.
        minutes: as the lesson says them, ``"¾"``.
        links: from ``launch_links``.
    """
    elsewhere = " or ".join(f"[{name}]({url})" for name, url in links.items())
    if elsewhere:
        elsewhere = (
            f"Without installing anything: {elsewhere}. On Colab, first run the steps in "
            "[what runs where](/start.md#What-runs-where)."
        )
    else:
        elsewhere = (
            "(Links to Colab and Binder appear here when the repository's address is set, "
            "as `repository` under `[tool.site]` in `pyproject.toml`.)"
        )
    return (
        ":::{admonition} Run this lesson\n:class: run\n\n`make lab` opens JupyterLab, where you "
        f"run `{notebook.as_posix()}` cell by cell; it computes for about {minutes} min on two CPU "
        f"cores. `make lesson LESSON={lesson}` runs all notebooks of the lesson at once. "
        f"([Set-up](/start.md).)\n\n{elsewhere}\n:::"
    )
