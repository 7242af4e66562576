"""Trains every planned run that has no record yet, in parallel on Ray."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.execution.cluster import Cluster
from pipeline.execution.executor import Executor, Policy
from pipeline.execution.progress import Display
from pipeline.execution.run_store import RunStore
from pipeline.params import read_params
from pipeline.planning.table import read_plan
from pipeline.stage import run_stage
from pipeline.study import make_bill
from pipeline.tracking import mirror, run_mirror


def main() -> int:
    """Writes runs/ and telemetry/; 1 when a run failed, after the others are done."""
    settings = read_params().train
    _, specs = read_plan(Path("plan/runs.parquet"))
    store = RunStore(Path.cwd(), settings.storage)
    bill = make_bill(specs, store)
    print(bill.summary, flush=True)
    for folder in ("runs", "telemetry"):
        Path(folder).mkdir(exist_ok=True)
    failed: dict[str, str] = {}
    if bill.new:
        policy = Policy(
            Path("data/tokens").resolve(), settings.micro_batch_tokens, settings.checkpoint_seconds, settings.retries
        )
        with Cluster() as cluster, Display(bill) as display, run_mirror(store) as track:
            failed = Executor(specs, store, cluster, policy, (display, track), bill.seconds).run()
    mirror("train")
    for run_id, reason in sorted(failed.items()):
        print(f"failed: {run_id}: {reason} (traceback: runs/{run_id}/result.json)", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
