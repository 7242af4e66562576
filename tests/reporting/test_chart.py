"""The interactive figures in Chromium: every point is where its run belongs, under every setting, and says so.

Reference: results/runs.parquet and results/findings.json of the study; positions are held against them by regression.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from playwright.sync_api import Browser, Page, expect

from pipeline.fitting.laws import QForm
from tests.reporting.chromium import needs_chromium, opened

pytestmark = needs_chromium


def places(page: Page, along: str) -> pl.DataFrame:
    """(run_id, x, y) of every point of a figure, in pixels of its picture, beside its row of runs."""
    rows = page.evaluate(
        """along => [...document.querySelectorAll(`figure[data-along=${along}] .run`)].map(one =>
            [one.dataset.run, Number(one.getAttribute('cx')), Number(one.getAttribute('cy'))])""",
        along,
    )
    return pl.DataFrame(rows, schema={"run_id": pl.String, "x": pl.Float64, "y": pl.Float64}, orient="row")


def beside(page: Page, along: str, report: Path) -> pl.DataFrame:
    found = places(page, along).join(pl.read_parquet(report / "results/runs.parquet"), on="run_id", how="left")
    assert found["loss"].null_count() == 0
    return found


def off_line(pixels: pl.Series, quantity: np.ndarray) -> float:
    """How far (pixels) the positions are from a straight line in the quantity, at most."""
    line = np.polynomial.Polynomial.fit(quantity, pixels.to_numpy(), 1)
    return float(np.abs(line(quantity) - pixels.to_numpy()).max())


@pytest.fixture
def page(browser: Browser, report: Path):
    found = opened(browser, report)
    yield found.page
    assert found.is_quiet()
    found.page.close()


def test_points_are_placed_by_their_logarithms_or_plainly(page: Page, report: Path) -> None:
    for along, column in {"C": "C_6ND", "N": "N_non_embedding", "D": "D"}.items():
        figure = page.locator(f"figure[data-along={along}]")
        rows = beside(page, along, report)
        points = pl.read_csv(report / "results/fit/language_model/points.csv")
        assert set(rows["run_id"]) == set(points.drop_nulls("loss")["run_id"])
        assert off_line(rows["x"], np.log(rows[column])) < 0.1
        assert off_line(rows["y"], np.log(rows["loss"])) < 0.1
        figure.get_by_label("log x").uncheck()
        figure.get_by_label("log y").uncheck()
        rows = beside(page, along, report)
        assert off_line(rows["x"], rows[column].to_numpy().astype(float)) < 0.1
        assert off_line(rows["y"], rows["loss"].to_numpy()) < 0.1
        assert off_line(rows["x"], np.log(rows[column])) > 5


def test_both_conventions_move_the_points(page: Page, report: Path) -> None:
    for convention, column in {"total": "N_total", "with_head": "N_with_head"}.items():
        page.locator("figure[data-along=N]").get_by_label("N counts").select_option(convention)
        rows = beside(page, "N", report)
        assert off_line(rows["x"], np.log(rows[column])) < 0.1
        assert off_line(rows["x"], np.log(rows["N_non_embedding"])) > 1
    figure = page.locator("figure[data-along=C]")
    absent = figure.locator(".absent")
    expect(absent).to_be_hidden()
    figure.get_by_label("N counts").select_option("total")
    rows = beside(page, "C", report)
    assert off_line(rows["x"], np.log(6 * rows["N_total"] * rows["D"])) < 0.1
    expect(figure.locator(".frontier")).to_have_count(1)
    expect(absent).to_have_text("Not drawn under these settings: the 95 % interval of the frontier.")
    figure.get_by_label("C counts").select_option("exact")
    rows = beside(page, "C", report)
    assert off_line(rows["x"], np.log(rows["C"])) < 0.1
    assert off_line(rows["x"], np.log(6 * rows["N_total"] * rows["D"])) > 1
    expect(figure.locator(".frontier")).to_have_count(0)
    expect(absent).to_contain_text("settings: the frontier, the 95 % interval of the frontier.")
    figure.get_by_label("shown").select_option("residual")
    expect(absent).to_contain_text("settings: lines of the law, the frontier,")


@pytest.mark.parametrize("convention", ["non_embedding", "total", "with_head"])
def test_residuals_are_those_of_the_law_of_that_count(page: Page, report: Path, convention: str) -> None:
    figure = page.locator("figure[data-along=D]")
    figure.get_by_label("N counts").select_option(convention)
    figure.get_by_label("shown").select_option("residual")
    rows = beside(page, "D", report)
    summary = json.loads((report / "results/findings.json").read_text())["experiments"]["language_model"]["summary"]
    fitted = summary["conventions"][convention]
    law = QForm(**{name: fitted[name] or 1.0 for name in QForm.parameters()})
    residual = np.log(rows["loss"].to_numpy() / law.loss(rows[f"N_{convention}"], rows["D"]))
    assert off_line(rows["y"], residual) < 0.1
    assert np.corrcoef(rows["y"], residual)[0, 1] < -0.999


def test_pointing_at_a_run_says_which_it_is(page: Page, report: Path) -> None:
    figure = page.locator("figure[data-along=D]")
    figure.locator(".plot").scroll_into_view_if_needed()
    details = figure.locator(".details")
    expect(details).to_be_hidden()
    for index in (0, 5, -1):
        row = beside(page, "D", report).sort("x", "y").row(index, named=True)
        figure.locator(f".run[data-run='{row['run_id']}']").hover(force=True)
        expect(details).to_be_visible()
        expect(details).to_contain_text(f"width {row['width']}, seed {row['seed']}")
        expect(details).to_contain_text(f"run {row['run_id'][:16]}")
        expect(details).to_contain_text(f"L = {row['loss']:.4f} nats/token, {row['bits_per_byte']:.4f} bits/byte")
    page.mouse.move(2, 2)
    expect(details).to_be_hidden()


def test_a_finger_on_a_run_says_which_it_is(browser: Browser, report: Path) -> None:
    found = opened(browser, report, 400, has_touch=True)
    figure = found.page.locator("figure[data-along=C]")
    figure.scroll_into_view_if_needed()
    row = beside(found.page, "C", report).sort("loss").row(0, named=True)
    figure.locator(f".run[data-run='{row['run_id']}']").tap(force=True)
    expect(figure.locator(".details")).to_contain_text(f"L = {row['loss']:.4f}")
    box, inside = figure.locator(".details").bounding_box(), figure.locator(".canvas").bounding_box()
    assert inside["x"] <= box["x"]
    assert box["x"] + box["width"] <= inside["x"] + inside["width"] + 1
    assert found.is_quiet()
    found.page.close()


def test_arrow_keys_step_through_all_runs_in_order(page: Page, report: Path) -> None:
    figure = page.locator("figure[data-along=C]")
    plot, details = figure.locator(".plot"), figure.locator(".details")
    order = beside(page, "C", report).sort("x", pl.col("loss"))
    plot.focus()
    for row in order.head(4).iter_rows(named=True):
        page.keyboard.press("ArrowRight")
        expect(details).to_contain_text(f"L = {row['loss']:.4f}")
    expect(figure.locator(".ring")).to_have_count(1)
    page.keyboard.press("End")
    expect(details).to_contain_text(f"L = {order['loss'][-1]:.4f}")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(details).to_contain_text(f"L = {order['loss'][-2]:.4f}")
    page.keyboard.press("Escape")
    expect(details).to_be_hidden()
    expect(figure.locator(".ring")).to_have_count(0)


def test_zoom_and_move_by_buttons_keys_wheel_and_drag(page: Page) -> None:
    figure = page.locator("figure[data-along=N]")
    plot = figure.locator(".plot")
    plot.scroll_into_view_if_needed()

    def spread() -> float:
        x = places(page, "N")["x"]
        return float(x.max() - x.min())

    whole, first = spread(), places(page, "N")
    figure.get_by_role("button", name="zoom in").click()
    assert spread() == pytest.approx(whole / 0.7, rel=1e-6)
    figure.get_by_role("button", name="show all").click()
    assert spread() == pytest.approx(whole, rel=1e-9)
    plot.press("-")
    assert spread() == pytest.approx(whole * 0.7, rel=1e-6)
    plot.press("0")
    box = plot.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.wheel(0, -100)
    assert spread() == pytest.approx(whole, rel=1e-9)  # a wheel alone scrolls the page
    plot.scroll_into_view_if_needed()
    page.keyboard.down("Control")
    page.mouse.move(*middle)
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    page.wait_for_function(
        """whole => {
            const all = [...document.querySelectorAll('figure[data-along=N] .run')];
            const x = all.map(one => Number(one.getAttribute('cx')));
            return Math.max(...x) - Math.min(...x) > 1.1 * whole;
        }""",
        arg=whole,
    )
    plot.dblclick()
    assert spread() == pytest.approx(whole, rel=1e-9)
    box = plot.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1] + 25)
    page.mouse.up()
    moved = places(page, "N")
    np.testing.assert_allclose(moved["x"] - first["x"], 40, atol=0.5)
    np.testing.assert_allclose(moved["y"] - first["y"], 25, atol=0.5)
    plot.press("Shift+ArrowRight")
    assert (places(page, "N")["x"] < moved["x"]).all()


def test_a_study_without_a_law_shows_its_points_alone(browser: Browser, refused: Path) -> None:
    found = opened(browser, refused, 400)
    figure = found.page.locator("figure[data-along=C]")
    assert figure.locator(".run").count() > 10
    assert figure.locator(".law, .frontier").count() == 0
    assert figure.get_by_label("shown").count() == 0
    figure.locator(".plot").press("ArrowRight")
    expect(figure.locator(".details")).not_to_contain_text("residual")
    assert found.is_quiet()
    found.page.close()
