"""The page in a real Chromium, with all that it says to the console and asks of the network written down."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
SCRIPTS = Path(__file__).parents[2] / "pipeline/reporting/page"

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"
)


@dataclass(frozen=True)
class Opened:
    """A page, its file, what it wrote to the console, errors included, and the addresses that it asked for."""

    page: Page
    file: Path
    console: list[str]
    requests: list[str]

    def is_quiet(self) -> bool:
        """Whether it was silent and asked for nothing but itself and what it holds."""
        asked = [url for url in self.requests if not url.startswith("data:")]
        return self.console == [] and asked == [self.file.as_uri()]


def opened(browser: Browser, report: Path, width: int = 1280, **options) -> Opened:
    """The page of the study in `report`, loaded in a window so wide; `options` are those of a new page."""
    page = browser.new_page(viewport={"width": width, "height": 900}, **options)
    found = Opened(page, report / "reports/index.html", [], [])
    page.on("console", lambda message: found.console.append(message.text))
    page.on("pageerror", lambda error: found.console.append(str(error)))
    page.on("request", lambda request: found.requests.append(request.url))
    page.goto(found.file.as_uri(), wait_until="load")
    return found
