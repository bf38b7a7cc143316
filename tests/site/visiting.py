"""A reader with a real browser: what a page shows, asks for, and complains about."""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = {"width": 1300, "height": 900}, {"width": 390, "height": 844}
NO_CHROMIUM = (
    "no Chromium: install it (on Debian or Ubuntu: apt-get install chromium), or name one that you "
    "have, as in CHROMIUM=/path/to/chromium make test-fast"
)
PICTURES = """() => [...document.images].map(image => ({
    source: image.getAttribute("src"), words: image.alt.trim(), width: image.naturalWidth}))"""
LINKS = "() => [...document.links].map(link => link.getAttribute('href'))"
WIDTH = "() => document.scrollingElement.scrollWidth"


def chromium() -> str | None:
    """The browser: the one that the variable names, else the first on the PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder's address on this machine, on a free port."""
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses to start as root, which is who a container is.
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        browser.close()


@dataclass
class Visit:
    """What came of opening one page."""

    complaints: list[str] = field(default_factory=list)  # errors and failed requests
    elsewhere: list[str] = field(default_factory=list)  # requests to other hosts
    pictures: list[dict] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    phone_width: int = 0  # of the page's content, in a window as wide as a phone


def visit(page: Page, base: str, name: str) -> Visit:
    """Open a page, and note what happens, in a window as wide as a desktop's and as a phone's."""
    seen = Visit()

    def asked(request):
        if not request.url.startswith((base, "data:", "blob:")):
            seen.elsewhere.append(request.url)

    def said(message):
        if message.type in ("error", "warning"):
            seen.complaints.append(message.text)

    def answered(response):
        if response.status >= 400:
            seen.complaints.append(f"{response.status} {response.url}")

    listeners = {
        "request": asked,
        "console": said,
        "response": answered,
        "pageerror": lambda error: seen.complaints.append(str(error)),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    page.set_viewport_size(DESKTOP)
    page.goto(base + name, wait_until="load")
    seen.pictures, seen.links = page.evaluate(PICTURES), page.evaluate(LINKS)
    page.set_viewport_size(PHONE)
    seen.phone_width = page.evaluate(WIDTH)
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    return seen
