"""Figures and tables that put the fit to the test, in words and pictures.

Reference: the tables and the summary of the study's own judge, changed here one at a time; the predictor itself; and a
study whose runs are so noisy that no law may show an exponent.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.experiments.language_model import draw_checks, draw_fit, draw_residuals
from pipeline.experiments.language_model.describe import describe
from pipeline.experiments.language_model.draw_fit import profile_interval
from pipeline.experiments.language_model.outlook import forecast, forecast_fact, forecast_sentence
from pipeline.experiments.language_model.scene import make_scene
from pipeline.fitting.prediction import Predictor
from pipeline.params import read_params
from pipeline.reporting.chapter import Chapter, Figure
from pipeline.reporting.figures import styled
from pipeline.reporting.inputs import Inputs, read_inputs
from pipeline.reporting.numbers import decimal
from tests.reporting.published import unknown_words

FIT_FIGURES = {
    "residuals_against_compute": (draw_residuals.residuals_against_compute, "points", "residual_q_form"),
    "rolling_origin": (draw_checks.rolling, "rolling", "bias"),
    "influence": (draw_residuals.influence, "influence", "change_of_forecast"),
    "objective_map": (draw_fit.objective_map, "objective_map", "excess"),
    "profile_of_E": (draw_fit.profile_of_E, "profile_E", "statistic"),
    "exponent_by_approach": (draw_fit.approaches, "approaches", "a"),
}
"""Figure -> its painter, and the table and a column that it is drawn from."""
NAME = "language_model"


@pytest.fixture(scope="module")
def study(report: Path) -> Inputs:
    return read_inputs(report)


def painted(study: Inputs, name: str, table: pl.DataFrame | None = None) -> Figure | None:
    """One figure, from the study's tables or with another `table` in place of its own."""
    paint, source, _ = FIT_FIGURES[name]
    tables = study.tables[NAME] if table is None else study.tables[NAME] | {source: table}
    with styled():
        return paint(make_scene(study.experiments[NAME]["summary"], tables, study.runs, study.curves))


def described(study: Inputs, root: Path, summary: dict | None = None) -> Chapter:
    settings = read_params(root / "params.yaml").language_model
    return describe(summary or study.experiments[NAME]["summary"], study.tables[NAME], study.runs, settings)


def test_the_page_shows_every_figure_of_the_fit_among_the_checks(report: Path) -> None:
    html = (report / "reports/index.html").read_text(encoding="utf-8")
    checks = re.search(r'<section id="checks">.*?<section id="checklist">', html, flags=re.DOTALL)[0]
    for name in (*FIT_FIGURES, "residuals_against_size", "residuals_against_tokens", "predicted_against_measured"):
        assert f'<figure id="figure-{name}">' in checks
    assert html.index('id="figure-loss_against_compute"') < html.index('id="checks"')
    assert 'id="figure-loss_against_compute"' not in checks


@pytest.mark.parametrize("name", FIT_FIGURES)
def test_a_figure_is_drawn_from_the_table_beside_it(study: Inputs, report: Path, name: str) -> None:
    _, table, column = FIT_FIGURES[name]
    judged = study.tables[NAME][table]
    published = pl.read_csv(report / f"reports/tables/{name}.csv")
    assert len(published) == len(judged)
    assert published[column].to_list() == pytest.approx(judged[column].to_list(), nan_ok=True)
    before, after = painted(study, name), painted(study, name, judged.with_columns(pl.col(column) * 1.3))
    assert before.check
    assert before.svg == (report / f"reports/figures/{name}.svg").read_text(encoding="utf-8")
    assert after.svg != before.svg
    assert painted(study, name, judged.clear()) is None


def test_the_interval_of_a_profile_is_where_it_crosses_its_level() -> None:
    E = np.linspace(0.5, 1.5, 101)
    assert profile_interval(E, ((E - 1.0) / 0.1) ** 2, 4.0) == pytest.approx((0.8, 1.2), abs=1e-3)
    low, high = profile_interval(E, np.maximum(E - 0.7, 0.0) * 10, 4.0)
    assert low is None
    assert high == pytest.approx(1.1, abs=1e-3)


def test_an_estimator_without_a_region_has_a_map_without_one(study: Inputs) -> None:
    judged = study.tables[NAME]["objective_map"]
    with_region = painted(study, "objective_map")
    without = painted(study, "objective_map", judged.with_columns(level=pl.lit(float("nan"))))
    assert "95 % region" in with_region.svg
    assert "95 % region" not in without.svg
    assert "gives no region" in without.caption


def test_influence_names_the_run_that_moves_the_forecast_most(study: Inputs) -> None:
    judged = study.tables[NAME]["influence"]
    run = judged["run_id"][3]
    one = pl.when(pl.col("run_id") == run).then(0.5).otherwise(pl.col("change_of_forecast"))
    figure = painted(study, "influence", judged.with_columns(change_of_forecast=one))
    assert "the largest move is 50\u202f%" in figure.caption


def test_the_forecast_is_that_of_the_predictor(study: Inputs) -> None:
    summary, tables = study.experiments[NAME]["summary"], study.tables[NAME]
    predictor = Predictor.from_dict(summary["forecast"], tables["draws"].to_numpy())
    C = 10 * tables["points"]["C"].max()
    best = predictor.budget(C).best
    fact = forecast_fact(summary, tables)
    assert forecast(summary, tables).best.C == pytest.approx(C, rel=1e-9)
    assert float(fact.text) == pytest.approx(best.loss, rel=1e-3)
    for end in best.prediction_interval:
        assert decimal(end, 3) in fact.remark or decimal(end, 2) in fact.remark
    said = forecast_sentence(summary, tables)
    assert "not as a promise" in said
    assert "comes within 0.1 % of the least loss" in said
    assert "not widened" in said


def test_widening_is_said_in_plain_words_and_widens(study: Inputs, report: Path) -> None:
    summary, tables = study.experiments[NAME]["summary"], study.tables[NAME]
    chosen = summary["forecast"]["law"]
    missed = summary["rolling"][chosen] | {"coverage": 0.5, "num_tested": 20, "p": 1e-6, "widening": 1.8}
    wide = summary | {
        "forecast": summary["forecast"] | {"widening": 1.8},
        "rolling": summary["rolling"] | {chosen: missed},
    }
    (said,) = (sentence for sentence in described(study, report, wide).abstract if sentence.startswith("Ten times"))
    assert "held 10 of 20 measured losses" in said
    assert "widened 1.8 times" in said
    narrow, widened = (forecast(one, tables).best.prediction_interval for one in (summary, wide))
    assert np.log(widened[1] / widened[0]) == pytest.approx(1.8 * np.log(narrow[1] / narrow[0]), rel=1e-9)


def test_a_law_that_fails_its_gate_shows_a_reason_and_no_exponent(refused: Path) -> None:
    study = read_inputs(refused)
    summary = study.experiments[NAME]["summary"]
    assert {law["status"] for law in summary["laws"].values()} == {"gate_failed"}
    html = (refused / "reports/index.html").read_text(encoding="utf-8")
    reason = summary["laws"][summary["chosen"]]["reason"]
    assert f"so none of its exponents is shown: {reason}" in html
    parameters = pl.read_csv(refused / "reports/tables/parameters.csv")
    assert parameters["value"].null_count() == len(parameters) == 2
    assert parameters["reason"].to_list() == [law["reason"] for _, law in sorted(summary["laws"].items())]
    approaches = pl.read_csv(refused / "reports/tables/approaches.csv").filter(pl.col("approach") == "parametric")
    assert approaches["a"].null_count() == len(approaches) == 4
    conventions = pl.read_csv(refused / "reports/tables/conventions.csv")
    assert conventions.select("E", "A", "alpha", "B", "beta", "a").null_count().row(0) == (3,) * 6
    names = {path.stem for path in (refused / "reports/figures").glob("*.svg")}
    assert names.isdisjoint({"objective_map", "profile_of_E", "influence", "frontier", "tokens_per_parameter"})
    assert {"loss_against_compute", "residuals_against_compute", "rolling_origin"} <= names
    assert "exponent a of N*" not in re.search(r'<dl class="facts">.*?</dl>', html, flags=re.DOTALL)[0]
    assert "Ten times the largest compute" not in html


def test_bic_and_the_hold_out_are_told_apart(study: Inputs, report: Path) -> None:
    table = study.tables[NAME]["compared"]
    bic = pl.when(pl.col("law") == "no_E").then(-1e6).otherwise(pl.col("bic"))
    changed = replace(study, tables={NAME: study.tables[NAME] | {"compared": table.with_columns(bic=bic)}})
    (shown,) = (one for one in described(changed, report).tables if one.name == "compared")
    assert "BIC prefers “no irreducible loss”, held-out “q-form”" in shown.caption
    assert "The hold-out chooses" in shown.caption
    assert [row[0].text for row in shown.rows][:2] == ["Chinchilla law", "q-form"]
    assert len(shown.rows) == 6


def test_next_runs_say_what_they_cost_and_buy(study: Inputs, report: Path) -> None:
    summary = study.experiments[NAME]["summary"]
    (shown,) = (one for one in described(study, report).tables if one.name == "next_runs")
    assert len(shown.rows) == len(study.tables[NAME]["next_runs"])
    now, then = (summary["planned"][f"half_width_{when}"] for when in ("now", "then"))
    assert f"±{100 * now:.2g}\u202f%" in shown.caption
    assert f"±{100 * then:.2g}\u202f%" in shown.caption


def test_a_study_without_replicates_has_no_trees_and_no_noise(make_study, build) -> None:
    root = build(make_study(replicates=False))
    summary = json.loads((root / "results/findings.json").read_text())["experiments"][NAME]["summary"]
    assert summary["seed_noise"] is None
    parameters = pl.read_csv(root / "reports/tables/parameters.csv")
    assert parameters["trees_low"].null_count() == len(parameters)
    html = (root / "reports/index.html").read_text(encoding="utf-8")
    assert "There are no replicate seeds" in html
    assert unknown_words(html) == []
