"""Collects the records of the planned runs into the tables of results/."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import LANGUAGE_MODEL
from pipeline.params import read_params
from pipeline.planning.table import read_plan
from pipeline.results import collect, collect_laws, waived
from pipeline.stage import run_stage

OUT = Path("results")


def main() -> None:
    """Writes results/runs.parquet, results/runs.csv, results/curves.parquet, and two tables a law in results/laws/."""
    params = read_params()
    plan, specs = read_plan(Path("plan/runs.parquet"))
    store = RunStore(Path.cwd())
    left_out = waived(specs, store.root)
    runs, curves = collect(plan.filter(pl.col("experiment") == LANGUAGE_MODEL), store, left_out)
    OUT.mkdir(exist_ok=True)
    runs.write_parquet(OUT / "runs.parquet")
    runs.write_csv(OUT / "runs.csv", float_precision=params.collect.round_digits)
    curves.write_parquet(OUT / "curves.parquet")
    for status, count in runs.group_by("status").len().sort("status").iter_rows():
        print(f"{status}: {count} runs")
    collect_laws([spec for spec in specs if spec.experiment != LANGUAGE_MODEL], store, OUT, left_out)


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
