"""Proves that a page of many runs stays small, says what it leaves out, and keeps all of it in the files beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

from benchmarks.simulated_study import LAW, NOISE_SD, write_study
from pipeline.experiments.experiment import LANGUAGE_MODEL
from pipeline.experiments.language_model.describe import describe
from pipeline.experiments.language_model.draw import draw
from pipeline.experiments.language_model.judge import judge
from pipeline.experiments.language_model.scene import MOST_LEVELS, MOST_MARKS, marked
from pipeline.fitting.points import LARGE
from pipeline.params import read_params
from pipeline.reporting.inputs import read_inputs
from pipeline.reporting.provenance import read_provenance
from pipeline.reporting.report import Page, Part, build_page
from pipeline.reporting.tables import MOST_ROWS, from_frame
from pipeline.results import write_judgements


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """4,400 runs, 2,200 of them points of the law: more than are fitted from many starts or resampled by refits."""
    root = tmp_path_factory.mktemp("many")
    write_study(root, 4_400, num_token_counts=20)
    settings = read_params(root / "params.yaml").fit.model_copy(update={"bootstrap": 100})
    runs, curves = (pl.read_parquet(root / f"results/{name}.parquet") for name in ("runs", "curves"))
    write_judgements({LANGUAGE_MODEL: judge(settings, runs, curves)}, root / "results")
    return root


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    params, inputs = read_params(study / "params.yaml"), read_inputs(study)
    summary, tables = inputs.experiments[LANGUAGE_MODEL]["summary"], inputs.tables[LANGUAGE_MODEL]
    chapter = describe(summary, tables, inputs.runs, params.language_model)
    figures = draw(summary, tables, inputs.runs, inputs.curves)
    return build_page(params, inputs, [Part(chapter, figures)], [], read_provenance(study))


def test_the_law_that_was_simulated_is_found(study: Path) -> None:
    findings = json.loads((study / "results/findings.json").read_text(encoding="utf-8"))
    judged = findings["experiments"][LANGUAGE_MODEL]["summary"]
    fitted = judged["laws"]["chinchilla"]
    assert judged["num_points"] > LARGE
    for name in ("E", "alpha", "beta"):
        off = abs(fitted["params"][name] - getattr(LAW, name))
        assert off < 4 * fitted["standard_errors"][name], name
    assert fitted["lack_of_fit"]["p"] > 1e-3
    assert judged["seed_noise"]["sd"] == pytest.approx(NOISE_SD, rel=0.1)


def test_the_page_shows_the_first_rows_and_the_file_all(study: Path, page: Page) -> None:
    runs = pl.read_parquet(study / "results/runs.parquet")
    assert f"The first {MOST_ROWS} of {len(runs)} rows; all are in the file." in page.html
    listed = pl.read_csv(page.files["tables/runs.csv"])
    assert listed["run_id"].to_list() == runs["run_id"].to_list()
    assert len(page.html.encode()) < 3e6
    assert "Of more than 2000 evenly spaced ones stand for all" in page.html


def test_figures_mark_a_part_of_the_points_and_say_which(study: Path, page: Page) -> None:
    points = pl.read_csv(study / "results/fit/language_model/points.csv")
    svg = page.files["figures/loss_against_compute.svg"].decode()
    marks = len(re.findall(r"<use ", svg))
    assert 0.3 * MOST_MARKS < marks < MOST_MARKS + 100  # ticks and legend beside them
    said = re.search(r"Marked: (all points|one point in (\d+)) of (\d+) of (\d+) sizes; the table has all\.", page.html)
    assert (int(said[3]), int(said[4])) == (MOST_LEVELS, points["N"].n_unique())
    assert len(pl.read_csv(page.files["tables/loss_against_compute.csv"])) == len(points)


def test_marks_are_spread_over_all_levels_and_few_points_are_all_marked() -> None:
    points = pl.DataFrame({"N": range(100)}).join(pl.DataFrame({"D": range(30)}), how="cross")
    shown, said = marked(points, "N")
    assert shown["N"].n_unique() == MOST_LEVELS
    assert {shown["N"].min(), shown["N"].max()} == {0, 99}
    assert len(shown) <= MOST_MARKS
    assert said == f" Marked: one point in 2 of {MOST_LEVELS} of 100 sizes; the table has all."
    few, said = marked(points.head(MOST_MARKS), "N")
    assert (len(few), said) == (MOST_MARKS, "")


def test_a_table_counts_what_it_leaves_out() -> None:
    frame = pl.DataFrame({"x": range(MOST_ROWS + 7)})
    table = from_frame("many", "Many", "", frame, {"x": ("x", "whole")})
    assert (len(table.rows), table.left_out, table.num_rows) == (MOST_ROWS, 7, MOST_ROWS + 7)
    assert table.frame is frame


def test_a_broken_telemetry_file_is_named(study: Path, tmp_path: Path) -> None:
    for path in study.rglob("*"):
        if path.is_file() and "telemetry" not in path.parts:
            copy = tmp_path / path.relative_to(study)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (tmp_path / "telemetry").mkdir()
    (tmp_path / "telemetry/a.json").write_text(json.dumps({"run_id": "a", "seconds": 1.0}), encoding="utf-8")
    assert read_inputs(tmp_path).telemetry["seconds"].to_list() == [1.0]
    (tmp_path / "telemetry/b.json").write_text('{"run_id": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"telemetry/b\.json: line 1: not JSON"):
        read_inputs(tmp_path)
    for facts, message in (
        ({}, "run_id: missing"),
        ([1], "run_id: missing"),
        ({"run_id": "b", "seconds": "x"}, "seconds: 'x' is no Float64; delete it, no result depends on it"),
        ({"run_id": "b", "tokens": 10**30}, f"tokens: {10**30} is no Int64; "),
    ):
        (tmp_path / "telemetry/b.json").write_text(json.dumps(facts), encoding="utf-8")
        with pytest.raises(ValueError, match=rf"telemetry/b\.json: {message}"):
            read_inputs(tmp_path)
