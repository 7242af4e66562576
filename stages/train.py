"""Trains every planned run that has no record yet, in parallel on Ray."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.execution.run_store import RunStore
from pipeline.params import read_params
from pipeline.planning.table import read_plan
from pipeline.stage import run_stage
from pipeline.study import train_runs
from pipeline.tracking import mirror


def main() -> int:
    """Writes runs/ and telemetry/; 1 when a run failed, after the others are done."""
    settings = read_params().train
    _, specs = read_plan(Path("plan/runs.parquet"))
    failed = train_runs(specs, RunStore(Path.cwd(), settings.storage), settings, Path("data/tokens"))
    mirror("train")
    for run_id, reason in sorted(failed.items()):
        print(f"failed: {run_id}: {reason} (traceback: runs/{run_id}/result.json)", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
