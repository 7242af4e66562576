"""The published page in a real Chromium: quiet console, no network, nothing wider than the window, dark and light.

Reference: the browser itself, with every request it makes recorded. Skipped only where there is no Chromium.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield opened
        opened.close()


def _open(browser: Browser, report: Path, width: int, **options) -> tuple[Page, list[str], list[str]]:
    page = browser.new_page(viewport={"width": width, "height": 900}, **options)
    console: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: console.append(message.text))
    page.on("pageerror", lambda error: console.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((report / "reports/index.html").as_uri(), wait_until="load")
    return page, console, requests


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_is_quiet_offline_and_fits_the_window(browser: Browser, report: Path, width: int) -> None:
    page, console, requests = _open(browser, report, width)
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    assert console == []
    assert [url for url in requests if not url.startswith("data:")] == [(report / "reports/index.html").as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.body.scrollWidth") <= width
    assert page.locator("figure svg[role=img]").count() >= 16
    page.close()


def test_every_figure_and_scrolling_table_has_a_name_for_screen_readers(browser: Browser, report: Path) -> None:
    page, _, _ = _open(browser, report, 1280)
    names = page.eval_on_selector_all("figure svg", "all => all.map(one => one.getAttribute('aria-label'))")
    assert all(len(name) > 20 for name in names)
    regions = page.eval_on_selector_all(
        ".scroll", "all => all.map(one => [one.getAttribute('aria-label'), one.tabIndex])"
    )
    assert regions
    assert all(name and index == 0 for name, index in regions)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(browser: Browser, report: Path, scheme: str) -> None:
    page, _, _ = _open(browser, report, 1280, color_scheme=scheme)
    pairs = page.evaluate(
        """() => ['body', '.caption', 'figcaption', 'a[href^="tables/"]', 'td', '.verdict', '.facts dt'].map(name => {
            const one = document.querySelector(name);
            return [name, getComputedStyle(one).color, getComputedStyle(document.body).backgroundColor];
        })"""
    )
    for name, ink, paper in pairs:
        assert _contrast(ink, paper) >= 4.5, (name, ink, paper)
    card = page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert _contrast("rgb(31, 36, 48)", card) >= 4.5
    page.close()


def _contrast(first: str, second: str) -> float:
    """Contrast ratio of two css colours (WCAG 2.2, 1.4.3)."""
    lights = sorted(_luminance(colour) for colour in (first, second))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
