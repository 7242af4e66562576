"""Trains every planned run that has no record yet, in parallel on Ray."""

from __future__ import annotations

from pathlib import Path

from pipeline.driver import tell_failed, train_runs
from pipeline.execution.run_store import RunStore
from pipeline.params import read_section
from pipeline.planning.table import read_plan
from pipeline.planning.waivers import idle_waivers, read_waivers
from pipeline.stage import run_stage
from pipeline.storage import storage_uri
from pipeline.tracking import mirror


def main() -> int:
    """Writes runs/ and telemetry/; 1 when a run has failed and is not waived, after the others are done."""
    settings = read_section("train")
    _, specs = read_plan(Path("plan/runs.parquet"))
    store = RunStore(Path.cwd(), storage_uri())
    for line in idle_waivers(specs, read_waivers(store.root)):
        print(line, flush=True)
    failed = train_runs(specs, store, settings, Path("data/tokens"))
    mirror("plan", "train")
    return tell_failed(failed, specs)


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
