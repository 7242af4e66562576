"""Stage fit: what the runs say about each law, from results/*.parquet to results/findings.json and results/fit/."""

from __future__ import annotations

from pathlib import Path

from pipeline.allocator import keep_freed_blocks
from pipeline.external.judge import judge_external
from pipeline.outputs import replaced
from pipeline.params import read_params
from pipeline.results import judge_study
from pipeline.stage import run_stage

RESULTS = Path("results")
INPUTS = ("runs.parquet", "curves.parquet", "laws", "external")
OUTPUTS = ("fit", "findings.json", "metrics.json")


def main() -> None:
    """Writes results/findings.json, results/metrics.json and results/fit/<experiment>/<table>.csv; external runs in
    fit/external/."""
    keep_freed_blocks()
    params = read_params()
    with replaced(RESULTS, OUTPUTS, INPUTS) as out:
        judge_study(params, out, params.laws.tested)
        judge_external(params.collect.external, params.fit, out)


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
