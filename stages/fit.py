"""Stage fit: what the runs say about each law, from results/*.parquet to results/findings.json and results/fit/."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from pipeline.experiments.experiment import step
from pipeline.params import read_params
from pipeline.stage import run_stage
from pipeline.tracking import mirror

RESULTS = Path("results")


def main() -> None:
    """Writes results/findings.json and results/fit/<experiment>/<table>.csv."""
    params = read_params()
    runs, curves = (pl.read_parquet(RESULTS / f"{name}.parquet") for name in ("runs", "curves"))
    experiments = {}
    for name in params.plan.experiments:
        own = runs.filter(pl.col("experiment") == name)
        judgement = step(name, "judge")(params.fit, own, curves.filter(pl.col("run_id").is_in(own["run_id"].to_list())))
        experiments[name] = {
            "findings": [finding.as_dict() for finding in judgement.findings],
            "summary": judgement.summary,
        }
        folder = RESULTS / "fit" / name
        folder.mkdir(parents=True, exist_ok=True)
        for table, frame in judgement.tables.items():
            frame.write_csv(folder / f"{table}.csv")
    text = json.dumps({"experiments": experiments}, indent=2, sort_keys=True, allow_nan=False)
    (RESULTS / "findings.json").write_text(text + "\n", encoding="utf-8")
    mirror("fit")


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
