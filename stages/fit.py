"""Stage fit: what the runs say about each law, from results/*.parquet to results/findings.json and results/fit/."""

from __future__ import annotations

from pathlib import Path

from pipeline.params import read_params
from pipeline.results import judge_study
from pipeline.stage import run_stage


def main() -> None:
    """Writes results/findings.json, results/metrics.json and results/fit/<experiment>/<table>.csv."""
    params = read_params()
    judge_study(params, Path("results"), params.laws.tested)


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
