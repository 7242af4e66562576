"""Proves what a bill says of a planned grid against the engine's own expectation, and that it says no."""

import json

import polars as pl
import pytest

from pipeline.command.worth import worth_text
from pipeline.fitting.analysis import analyse
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
    predictor = analyse(Chinchilla, Runs.of(*study("S5")), Huber(), 50, 0, rolling=False).predictor
    folder = tmp_path / "results/fit/language_model"
    folder.mkdir(parents=True)
    findings = {"experiments": {"language_model": {"summary": {"forecast": predictor.as_dict()}}}}
    (tmp_path / "results/findings.json").write_text(json.dumps(findings))
    names = [f"theta_{name}" for name in predictor.form.parameters()]
    pl.DataFrame(predictor.draws, schema=names).write_csv(folder / "draws.csv")
    monkeypatch.chdir(tmp_path)


def half_width(text: str) -> float:
    return float(text.split("+-")[1].split(" %")[0])


@pytest.mark.usefixtures("fitted")
def test_a_larger_grid_is_worth_more():
    small = plan([30_000, 60_000, 120_000, 240_000], [200_000, 400_000, 800_000])
    large = plan([30_000, 60_000, 120_000, 240_000, 480_000, 960_000], [200_000, 400_000, 800_000, 1_600_000])
    first, second = (worth_text(table, "total") for table in (small, large))
    assert half_width(second) < half_width(first)
    assert "10 times the largest planned" in first


@pytest.mark.usefixtures("fitted")
def test_a_collinear_plan_is_told_before_it_is_paid_for():
    sizes = [30_000 * 2**k for k in range(8)]
    rows = [("cooldown", N, N, 20 * N) for N in sizes]
    table = pl.DataFrame(rows, schema=["kind", "N_total", "N_non_embedding", "D"], orient="row")
    assert "would not identify the chinchilla law" in worth_text(table, "total")


def test_without_a_study_nothing_is_promised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert worth_text(plan([1, 2], [3]), "total") == "worth:    not known before a first study has been fitted"
