"""The published page in a real Chromium: quiet, offline, narrow and wide, dark and light, printed, without scripts.

Reference: the browser itself with every request recorded, axe-core for accessibility, WCAG's formula for contrast.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from matplotlib.image import imread
from playwright.sync_api import Browser, expect

from pipeline.reporting import figures
from tests.reporting.chromium import needs_chromium, opened

pytestmark = needs_chromium


@pytest.mark.parametrize("width", [1920, 1280, 400])
def test_the_page_is_quiet_offline_and_fits_the_window(browser: Browser, report: Path, width: int) -> None:
    found = opened(browser, report, width)
    page = found.page
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.body.scrollWidth") <= width
    assert page.locator("figure .still svg[role=img]").count() >= 16
    assert page.locator("figure svg.plot").count() == 3
    assert found.is_quiet()
    page.close()


def test_the_page_may_ask_the_network_for_nothing(browser: Browser, report: Path) -> None:
    page = opened(browser, report).page
    assert "refused" == page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'asked', error => 'refused')")
    told = page.evaluate(
        """() => new Promise(resolve => {
            document.addEventListener('securitypolicyviolation', event => resolve(event.effectiveDirective));
            document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:9/picture.png' }));
        })"""
    )
    assert told == "img-src"
    page.close()


def test_every_figure_and_scrolling_table_has_a_name_for_screen_readers(browser: Browser, report: Path) -> None:
    page = opened(browser, report).page
    names = page.eval_on_selector_all("figure svg", "all => all.map(one => one.getAttribute('aria-label'))")
    assert all(len(name) > 20 for name in names)
    regions = page.eval_on_selector_all(
        ".scroll", "all => all.map(one => [one.getAttribute('aria-label'), one.tabIndex])"
    )
    assert regions
    assert all(name and index == 0 for name, index in regions)
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_axe_finds_nothing_serious(browser: Browser, report: Path, width: int, scheme: str) -> None:
    page = opened(browser, report, width, color_scheme=scheme).page
    page.fill("#amount", "1e30")
    page.locator("figure[data-along=C] .plot").press("ArrowRight")
    checked = Axe().run(page).response
    assert len(checked["passes"]) > 20
    assert [(one["id"], one["impact"]) for one in checked["violations"]] == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(browser: Browser, report: Path, scheme: str) -> None:
    page = opened(browser, report, color_scheme=scheme).page
    page.fill("#amount", "x")
    pairs = page.evaluate(
        """() => ['body', '.caption', 'figcaption', 'a[href^="tables/"]', 'td', '.verdict', '.facts dt', '.field label',
                  '.message', 'summary'].map(name => {
            const one = document.querySelector(name);
            return [name, getComputedStyle(one).color, getComputedStyle(document.body).backgroundColor];
        })"""
    )
    for name, ink, paper in pairs:
        assert _contrast(ink, paper) >= 4.5, (name, ink, paper)
    assert (_luminance(pairs[0][2]) < 0.05) == (scheme == "dark")
    card = page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert _contrast("rgb(31, 36, 48)", card) >= 4.5
    # Cards are turned dark as a whole, so what is light on the screen is what counts.
    shown = imread(_shot(page.locator("figure .card").first, report / f"card_{scheme}.png"))
    assert (np.median(shown[..., :3]) < 0.2) == (scheme == "dark")
    page.close()


def test_a_keyboard_reaches_everything_and_shows_where_it_is(browser: Browser, report: Path) -> None:
    page = opened(browser, report).page
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    expect(focused).to_have_text("Skip to the report")
    expect(focused).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('class')"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert {"amount", "unit", "speed", "use", "price", "tolerance", "plot", "scroll"} <= reached
    page.close()


def test_without_scripts_every_picture_and_the_table_of_budgets_is_there(browser: Browser, report: Path) -> None:
    found = opened(browser, report, java_script_enabled=False)
    for figure in found.page.locator("figure").all():
        expect(figure.locator(".still svg")).to_be_visible()
    expect(found.page.locator("form.calculator")).to_be_hidden()
    expect(found.page.get_by_text("The calculator needs scripts")).to_be_visible()
    expect(found.page.locator("#table-budgets table")).to_be_visible()
    assert found.page.locator("#table-budgets tbody tr").count() == 7
    assert found.is_quiet()
    found.page.close()


def test_print_shows_the_still_pictures_and_makes_a_pdf(browser: Browser, report: Path) -> None:
    page = opened(browser, report, 794).page
    page.emulate_media(media="print")
    for figure in page.locator("figure").all():
        expect(figure.locator(".still svg")).to_be_visible()
    expect(page.locator(".chart").first).to_be_hidden()
    expect(page.locator("form.calculator")).to_be_hidden()
    expect(page.locator("#table-runs table")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF-")
    assert 5 < len(re.findall(rb"/Type\s*/Page\b", pdf)) < 60
    page.close()


def test_thin_figures_look_as_matplotlib_drew_them(browser: Browser, tmp_path: Path, monkeypatch) -> None:
    def draw() -> str:
        with figures.styled():
            canvas, (axes,) = figures.new_canvas()
            x = np.geomspace(1e4, 1e6, 30)
            for power in (0.1, 0.15, 0.2, 0.25):
                axes.plot(x, x**-power, marker="o", ms=3, label=f"power {power}")
                axes.scatter(x, 1.1 * x**-power, s=12, marker="s")
            axes.fill_between(x, x**-0.3, x**-0.28, alpha=0.2)
            axes.annotate("turned", (1e5, 0.1), rotation=30)
            figures.count_axis(axes.xaxis, x, "parameters N")
            figures.loss_axis(axes.yaxis, [0.015, 0.5], "loss")
            figures.legend_above(canvas, axes, "powers")
            return figures.svg_text(canvas, "drawn", "A figure")

    thin = draw()
    monkeypatch.setattr(figures, "thinned", lambda svg, name, title: svg)
    plain = draw()
    page, shots = browser.new_page(viewport={"width": 600, "height": 420}), []
    for name, svg in (("thin", thin), ("plain", plain)):
        page.set_content(svg)
        shots.append(imread(_shot(page.locator("svg"), tmp_path / f"{name}.png"))[..., :3])
    assert len(thin) < 0.6 * len(plain)
    assert np.ptp(shots[1]) > 0.9
    assert np.abs(shots[0] - shots[1]).mean() < 0.002
    page.close()


def _shot(locator, path: Path) -> Path:
    locator.screenshot(path=path)
    return path


def _contrast(first: str, second: str) -> float:
    """Contrast ratio of two css colours (WCAG 2.2, 1.4.3)."""
    lights = sorted(_luminance(colour) for colour in (first, second))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
