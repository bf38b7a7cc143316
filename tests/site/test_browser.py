"""The built site, read with a real browser: without a network, by everybody, on any screen."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.site.visiting import DESKTOP, NO_CHROMIUM, PHONE, browsing, chromium, served, visit

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "screenshots"
LESSON = "Part01/L2/L2_federated_training.html"
pytestmark = pytest.mark.skipif(chromium() is None, reason=NO_CHROMIUM)

SPOILED = """<!doctype html><html lang="en"><title>Spoiled</title><body>
<h1>Spoiled</h1><img src="missing.png"><img src="http://127.0.0.2:9/far.png" alt="far away">
<img src="_static/favicon.svg" alt="_static/favicon.svg"><img src="_static/favicon.svg" alt="fine">
<p style="width: 500px; color: #bbb; background: #fff">hardly to be read</p>
<a href="nowhere.html">nowhere</a> <a href="index.html#nothing">nothing</a>
<script>console.error("a complaint"); undefinedFunction();</script></body></html>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, ROOT / "site" / "building.py", "--output", folder]  # as make site
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    (folder / "spoiled.html").write_text(SPOILED)
    return folder


@pytest.fixture(scope="module")
def base(site):
    with served(site) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with browsing() as browser:
        yield browser


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport=DESKTOP)
    page.set_default_timeout(20_000)
    yield page
    page.close()


@pytest.fixture(scope="module")
def visits(site, base, browser):
    """What came of opening every page, by its name."""
    page = browser.new_page()
    names = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    found = {name: visit(page, base, name) for name in names if "_static" not in name}
    page.close()
    return found


@pytest.fixture
def good(visits):
    return {name: seen for name, seen in visits.items() if name != "spoiled.html"}


def test_all_lessons_are_there(good):
    notebooks = {p.relative_to(ROOT).with_suffix(".html") for p in ROOT.glob("Part0*/L*/L*.ipynb")}
    assert {path.as_posix() for path in notebooks} <= set(good)
    assert {"index.html", "start.html", "glossary.html", "figures.html"} <= set(good)


def test_no_page_complains_or_asks_another_host_for_anything(good):
    assert not {name: v.complaints for name, v in good.items() if v.complaints}
    assert not {name: v.elsewhere for name, v in good.items() if v.elsewhere}


def faulty_pictures(seen):
    """Those that do not show, or have no words (without any, Sphinx writes the file's name)."""
    no_words = re.compile(r"|\S+\.(png|svg)")
    return [p for p in seen.pictures if no_words.fullmatch(p["words"]) or not p["width"]]


def test_every_picture_shows_and_has_words_for_who_cannot_see_it(good):
    assert not {name: bad for name, v in good.items() if (bad := faulty_pictures(v))}
    assert len(good["Part01/L1/L1_why_federated_learning.html"].pictures) >= 6


def dead_links(site, name, seen):
    """Links within the site that lead to no file, or to no place in it."""
    dead = []
    for link in set(seen.links):
        target = urlsplit(urljoin(f"http://here/{name}", link))
        if target.hostname == "here":
            file = site / unquote(target.path).lstrip("/")
            place = unquote(target.fragment)
            there = file.is_file() and (not place or f'id="{place}"' in ids(file))
            dead += [] if there else [link]
    return dead


def ids(file, known={}):  # noqa: B006 (each file is read once)
    if file not in known:
        known[file] = set(re.findall(r'id="[^"]+"', file.read_text(encoding="utf-8")))
    return known[file]


def test_every_link_within_the_site_leads_to_its_place(site, good):
    assert not {name: dead for name, v in good.items() if (dead := dead_links(site, name, v))}


def test_no_page_scrolls_sideways_on_a_phone(good):
    assert not {n: v.phone_width for n, v in good.items() if v.phone_width > PHONE["width"]}


def test_a_spoiled_page_is_found_out(visits, site):
    seen = visits["spoiled.html"]
    for word in ("a complaint", "undefinedFunction", "404"):
        assert any(word in complaint for complaint in seen.complaints), word
    assert seen.elsewhere == ["http://127.0.0.2:9/far.png"]
    assert [p["words"] for p in faulty_pictures(seen)] == ["", "far away", "_static/favicon.svg"]
    assert set(dead_links(site, "spoiled.html", seen)) == {"nowhere.html", "index.html#nothing"}
    assert seen.phone_width > PHONE["width"]


# For everybody: axe-core's rules ------------------------------------------------------------------

ALL_RULES = {"resultTypes": ["violations"]}
COLORS = {"runOnly": ["color-contrast"], "resultTypes": ["violations"]}
AROUND = ["index", "start", "glossary", "figures", "search", "functions/federation"]
CORES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix()
    for path in ROOT.glob("Part0*/L*/L*.ipynb")
    if not re.search("_more_|_solutions", path.stem)
)


def barriers(page, rules, code=False):
    """What axe-core finds serious or critical, by rule, with the first place.

    All code has the same few colours, in thousands of pieces: one page is enough for them.
    """
    left_out = None if code else {"exclude": [[".highlight pre"]]}
    found = Axe().run(page, context=left_out, options=rules).response["violations"]
    return {v["id"]: v["nodes"][0]["html"] for v in found if v["impact"] in ("serious", "critical")}


@pytest.mark.parametrize("name", [*AROUND, *CORES, "Part01/L3/L3_more_optimizers"])
def test_nothing_bars_readers_in_the_light(page, base, name):
    page.goto(f"{base}{name}.html", wait_until="load")
    assert not barriers(page, ALL_RULES, code=name == CORES[0])


@pytest.mark.parametrize("name", [*AROUND, CORES[0], "Part01/L7/L7_when_clients_fail_or_lie"])
def test_all_can_be_read_in_the_dark(page, base, name):
    page.emulate_media(color_scheme="dark")
    page.goto(f"{base}{name}.html", wait_until="load")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert not barriers(page, COLORS, code=name == CORES[0])


def test_axe_finds_what_bars_readers_of_a_spoiled_page(page, base):
    page.goto(f"{base}spoiled.html")
    assert {"image-alt", "color-contrast"} <= set(barriers(page, ALL_RULES))


def test_figures_stay_on_white_in_the_dark(page, base):
    page.emulate_media(color_scheme="dark")
    page.goto(f"{base}{LESSON}", wait_until="load")
    figure = page.locator(".cell_output img").first
    look = figure.evaluate("i => [getComputedStyle(i).backgroundColor, getComputedStyle(i).filter]")
    assert look == ["rgb(255, 255, 255)", "none"]


# Finding one's way --------------------------------------------------------------------------------


def test_search_finds_the_noise_multiplier_and_its_result_opens(page, base):
    page.goto(f"{base}index.html", wait_until="load")
    page.keyboard.press("Control+k")
    page.keyboard.type("noise multiplier")
    page.keyboard.press("Enter")
    results = page.locator("#search-results li a")
    results.first.wait_for()
    page.locator("#search-results li a", has_text="L4 Data privacy").first.click()
    page.wait_for_url("**/Part01/L4/*.html**")
    assert "noise multiplier" in page.locator("article").inner_text()


def test_by_keyboard_one_skips_to_the_text_and_reaches_the_search(page, base):
    page.goto(f"{base}{LESSON}", wait_until="load")
    focused = "document.activeElement.innerText || document.activeElement.ariaLabel || ''"
    page.keyboard.press("Tab")
    assert page.evaluate(focused).strip() == "Skip to main content"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main-content")
    page.goto(f"{base}{LESSON}", wait_until="load")
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(focused).split("\n")[0])
    assert "Search" in reached, reached
    page.keyboard.press("Control+k")
    assert page.evaluate("document.activeElement.type") == "search"


def test_on_a_phone_the_menu_opens_and_leads_on(page, base):
    page.set_viewport_size(PHONE)
    page.goto(f"{base}index.html", wait_until="load")
    link = page.locator("nav.bd-docs-nav a", has_text="L2 The federated training process").first
    assert not link.is_visible()
    page.locator("button.primary-toggle:visible").first.click()
    link.click()
    page.wait_for_url(f"**/{LESSON}")


def test_a_terms_first_use_leads_to_the_glossary(page, base):
    page.goto(f"{base}Part01/L4/L4_data_privacy.html", wait_until="load")
    page.locator("article a", has_text="clipping norm").first.click()
    page.wait_for_url("**/glossary.html#term-clipping-norm")
    assert page.locator("#term-clipping-norm").is_visible()


def test_a_small_figure_leads_to_the_large_one(page, base):
    page.goto(f"{base}figures.html", wait_until="load")
    page.locator(f'article a[href^="{LESSON}#"]').first.click()
    page.wait_for_url(f"**/{LESSON}#*figure-1")
    assert page.evaluate("document.querySelector(':target').tagName") == "IMG"


def test_pictures_of_the_site_are_kept(page, base):
    """What it looks like, for who looks after it: ``build/screenshots``."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    for name, address in {"landing": "index.html", "lesson": LESSON}.items():
        page.goto(base + address, wait_until="load")
        page.screenshot(path=SHOTS / f"{name}.png")
    page.locator(".cell_output img").first.screenshot(path=SHOTS / "figure.png")
    page.set_viewport_size(PHONE)
    page.screenshot(path=SHOTS / "phone.png")
    page.set_viewport_size(DESKTOP)
    page.emulate_media(color_scheme="dark")
    page.reload(wait_until="load")
    page.screenshot(path=SHOTS / "dark.png")
    assert all(path.stat().st_size > 5_000 for path in SHOTS.glob("*.png"))


def test_the_site_is_small_and_complete(site):
    sizes = {path: path.stat().st_size for path in site.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 40_000_000
    assert not [path for path in sizes if path.suffix == ".html" and sizes[path] > 1_000_000]
