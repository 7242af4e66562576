"""Proves what a bill says of a planned grid against the engine's own expectation, and that it says no."""

import json

import numpy as np
import polars as pl
import pytest

from pipeline.command.worth import worth_text
from pipeline.fitting.analysis import analyse
from pipeline.fitting.design import expected_interval
from pipeline.fitting.estimators import Huber
from pipeline.fitting.laws import Chinchilla
from pipeline.fitting.runs import Runs
from tests.fitting.measured_studies import study


def plan(sizes, tokens):
    rows = [(kind, N, N, D) for N in sizes for D in tokens for kind in ("trunk", "cooldown", "cooldown")]
    rows.append(("descent", None, None, None))  # a run of another law, planned beside the study
    return pl.DataFrame(rows, schema=["kind", "N_total", "N_non_embedding", "D"], orient="row")


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """A folder with the files that the fit stage leaves, of a law fitted to the measured study S5."""
    measured = study("S5")
    predictor = analyse(Chinchilla, Runs.of(*measured), Huber(), 50, 0, rolling=False).predictor
    folder = tmp_path / "results/fit/language_model"
    folder.mkdir(parents=True)
    findings = {"experiments": {"language_model": {"summary": {"forecast": predictor.as_dict()}}}}
    (tmp_path / "results/findings.json").write_text(json.dumps(findings))
    names = [f"theta_{name}" for name in predictor.form.parameters()]
    pl.DataFrame(predictor.draws, schema=names).write_csv(folder / "draws.csv")
    N, D, L = (column[measured[0] <= 1e5] for column in measured)
    runs = pl.DataFrame({"N_total": N, "N_non_embedding": N, "D": D, "loss": L})
    pl.concat([runs, runs.head(1).with_columns(loss=None, D=pl.lit(1e12))], how="vertical_relaxed").write_parquet(
        tmp_path / "results/runs.parquet"
    )
    monkeypatch.chdir(tmp_path)
    return predictor, N, D


def half_widths(text: str) -> tuple[float, float]:
    """From where to where the interval of the forecast goes, in per cent."""
    return tuple(float(part.split(" %")[0]) for part in text.split("+-")[1:])


@pytest.mark.usefixtures("fitted")
def test_a_larger_grid_is_worth_more():
    small = plan([30_000, 60_000, 120_000, 240_000], [200_000, 400_000, 800_000])
    large = plan([30_000, 60_000, 120_000, 240_000, 480_000, 960_000], [200_000, 400_000, 800_000, 1_600_000])
    first, second = (worth_text(table, "total") for table in (small, large))
    assert half_widths(second)[1] < half_widths(first)[1]
    assert "10 times the largest planned" in first


def test_it_begins_where_the_runs_of_the_last_study_are(fitted):
    predictor, N, D = fitted
    more = np.array([(N, D) for N in (30_000, 60_000, 480_000) for D in (200_000, 800_000, 1_600_000)], float).T
    text = worth_text(plan(*map(np.unique, more)), "total")
    C = 10 * 6 * max((N * D).max(), (more[0] * more[1]).max())
    best = float(predictor.law.optimal_size([C])[0])
    ends = [
        100 * expected_interval(predictor.law, *points, predictor.noise_sd, best, C / 6 / best).target_half_width
        for points in ((N, D), more)
    ]
    assert f"the loss at {C:.3g} FLOPs" in text
    assert half_widths(text) == pytest.approx(ends, rel=0.05)


@pytest.mark.usefixtures("fitted")
def test_a_collinear_plan_is_told_before_it_is_paid_for():
    sizes = [30_000 * 2**k for k in range(8)]
    rows = [("cooldown", N, N, 20 * N) for N in sizes]
    table = pl.DataFrame(rows, schema=["kind", "N_total", "N_non_embedding", "D"], orient="row")
    assert "would not identify the chinchilla law" in worth_text(table, "total")


def test_why_a_study_does_not_tell_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    refused = {"chosen": "q_form", "laws": {"q_form": {"status": "gate_failed", "reason": "9 % off"}}, "forecast": None}
    for content, why in (
        (refused, "(q_form: gate_failed: 9 % off)"),
        ({"forecast": {"law": "chinchilla"}}, ": results/fit/language_model/draws.csv: no such file"),
        ({}, "summary.forecast: this study has no law that predicts"),
    ):
        findings = {"experiments": {"language_model": {"summary": content}}}
        (tmp_path / "results/findings.json").write_text(json.dumps(findings))
        said = worth_text(plan([1, 2], [3]), "total")
        assert said.startswith("worth:    not known: ")
        assert why in said
    (tmp_path / "results/findings.json").write_text("{")
    assert "not known: results/findings.json: not JSON" in worth_text(plan([1, 2], [3]), "total")


def test_without_a_study_nothing_is_promised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert worth_text(plan([1, 2], [3]), "total") == "worth:    not known before a first study has been fitted"
