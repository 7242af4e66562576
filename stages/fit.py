"""Stage fit: what the runs say about each law, from results/*.parquet to results/findings.json and results/fit/."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pipeline.experiments.experiment import LANGUAGE_MODEL, step
from pipeline.params import read_params
from pipeline.results import judge_law, write_judgements
from pipeline.stage import run_stage

RESULTS = Path("results")


def main() -> None:
    """Writes results/findings.json and results/fit/<experiment>/<table>.csv."""
    params = read_params()
    runs, curves = (pl.read_parquet(RESULTS / f"{name}.parquet") for name in ("runs", "curves"))
    judgements = {LANGUAGE_MODEL: step(LANGUAGE_MODEL, "judge")(params.fit, runs, curves)}
    judgements |= {name: judge_law(params, name, RESULTS) for name in params.laws.tested}
    write_judgements(judgements, RESULTS)


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
