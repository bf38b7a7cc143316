"""JupyterLab as ``make lab`` starts it, on a copy of the course, in a real browser."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = "utils", "Part01/L1", "Part01/L2"
BROWSERS = "chromium", "chromium-browser", "google-chrome", "chrome"
HARMLESS = (  # what the browser says on its console, and means nothing here
    r"favicon",
    r"WebGL|GPU",
    r"Canceled future for \w+_request",  # what was under way when the kernel was restarted
)


def browser_path() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextlib.contextmanager
def running_lab(folder: Path) -> Iterator[str]:
    """The address of the home page; ``folder`` becomes a copy of a part of the course."""
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for part in COPIED:
        shutil.copytree(ROOT / part, folder / part, ignore=ignore)
    if (ROOT / "data").exists():  # what was downloaded or built before
        (folder / "data").symlink_to(ROOT / "data")
    command = [sys.executable, "-m", "utils.home", "--no-browser", "--allow-root", "--port=0"]
    with (folder / "log").open("w+") as log:
        options = ["--LabApp.expose_app_in_browser=True"]
        # Ray, in other tests, puts folders of theirs there, with modules named as the lesson's
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        lab = subprocess.Popen([*command, *options], cwd=folder, stdout=log, stderr=log, env=env)
        try:
            yield _address(lab, folder / "log")
        finally:
            lab.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                lab.wait(20)
            lab.kill()


def _address(lab: subprocess.Popen, log: Path) -> str:
    for _ in range(600):
        text = log.read_text()
        if found := re.search(r"http://(?:localhost|127\.0\.0\.1)\S+token=\w+", text):
            return found[0]
        if lab.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()}")


class Lab:
    """What a learner does in JupyterLab."""

    def __init__(self, page):
        self.page, self.said = page, []
        page.set_default_timeout(120_000)  # other tests may use all cores
        page.on("console", lambda m: m.type == "error" and self.said.append(m.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))

    def errors(self) -> list[str]:
        return [text for text in self.said if not any(re.search(h, text) for h in HARMLESS)]

    def bring_up(self, notebook: str) -> None:
        """Click on a notebook's tab: a click elsewhere may bring another one to the front later."""
        self.page.locator(".lm-TabBar-tabLabel", has_text=notebook).click()
        label = "window.jupyterapp.shell.currentWidget?.title.label"
        self.until(lambda: self.page.evaluate(label) == notebook, f"{notebook} in front")

    def menu(self, name: str, entry: str) -> None:
        self.page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{name}$")).click()
        self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}")).first.click()

    def sources(self) -> list[str]:
        return [cell["source"] for cell in self._cells()]

    def said_by(self, part: str) -> str:
        """What the first cell with this in its code has printed or shown."""
        cell = next(c for c in self._cells() if c["type"] == "code" and part in c["source"])
        return cell["said"]

    def counts(self) -> list[int | None]:
        return [cell["count"] for cell in self._cells() if cell["type"] == "code"]

    def _cells(self) -> list[dict]:
        return self.page.evaluate(
            """() => {
              const cells = window.jupyterapp.shell.currentWidget.content.model.cells;
              return Array.from({length: cells.length}, (_, i) => cells.get(i).toJSON()).map(
                c => ({type: c.cell_type, count: c.execution_count,
                  source: [].concat(c.source).join(''),
                  said: (c.outputs || []).map(o => [].concat(o.text || o.traceback ||
                    Object.values(o.data || {})).join('')).join('\\n')}));
            }"""
        )

    def cell(self, part: str):
        """The cell with this in its code, scrolled to: JupyterLab draws only what is in sight."""
        number = next(i for i, source in enumerate(self.sources()) if part in source)
        self.page.evaluate(
            """async i => {
              const notebook = window.jupyterapp.shell.currentWidget.content;
              notebook.activeCellIndex = i;
              await notebook.scrollToItem(i);
            }""",
            number,
        )
        return self.page.locator(".jp-Notebook:visible .jp-Cell.jp-mod-active")

    def type_into(self, cell, code: str | None) -> None:
        """Replace a cell's code, if any is given, and run the cell; it stays the active one."""
        cell.locator(".cm-content").click()
        if code is not None:
            self.page.keyboard.press("Control+A")
            self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Control+Enter")

    def until(self, holds, what: str, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise AssertionError(f"after {seconds} s, not yet: {what}")
            time.sleep(0.2)

    def idle(self) -> bool:
        kernel = "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel"
        return self.page.evaluate(f"{kernel}?.status === 'idle'")
