"""A report on what has ended so far: honest about what is missing, and nothing of the study is touched."""

import shutil

import polars as pl

from pipeline.planning.table import read_plan
from tests.faults.project import study


def tables(folder):
    """Every byte of the results and reports of a study by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in ("results", "reports")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def without(folder, condition):
    """The ids of the runs that meet `condition`, whose records are gone."""
    gone = read_plan(folder / "plan/runs.parquet")[0].filter(condition)["run_id"].to_list()
    for run_id in gone:
        shutil.rmtree(folder / "runs" / run_id)
    return gone


def test_a_partial_report_names_what_is_missing_and_touches_nothing(finished):
    gone = without(finished, (pl.col("width") == 32) & (pl.col("D") > 70_000) & (pl.col("kind") == "cooldown"))
    before = tables(finished)
    code, printed = study(finished, "report", "--partial")
    assert code == 0, printed
    assert tables(finished) == before
    planned = read_plan(finished / "plan/runs.parquet")[0]
    assert f"{len(planned) - len(gone)} of {len(planned)} planned runs have ended" in printed
    assert f"have ended. The others: {len(gone)} not trained yet." in printed
    partial = finished / "scratch/partial"
    runs = pl.read_parquet(partial / "results/runs.parquet")
    assert sorted(runs.filter(status="missing")["run_id"]) == sorted(gone)
    whole = pl.read_parquet(finished / "results/runs.parquet")
    losses = runs.join(whole, on="run_id").filter(pl.col("status") == "finished")
    assert losses["loss"].equals(losses["loss_right"], null_equal=True)
    points = whole.filter(pl.col("loss").is_not_null())
    reach = points["C"].max() / points.filter(~pl.col("run_id").is_in(gone))["C"].max()
    assert ("no law that predicts" in printed) or f"{reach:.3g} times below the largest planned" in printed
    page = (partial / "reports/index.html").read_text()
    assert "This report is partial" in page
    assert all(run_id in page for run_id in gone)


def test_a_partial_report_before_anything_has_ended_is_one_of_nothing(planned):
    code, printed = study(planned, "report", "--partial")
    assert code == 0, printed
    assert "0 of " in printed
    assert "no law that predicts" in printed


def test_without_a_plan_there_is_nothing_to_report_on(planned):
    (planned / "plan/runs.parquet").unlink()
    code, printed = study(planned, "report", "--partial")
    assert code == 1
    assert printed.strip().startswith("error: plan/runs.parquet: no such file")
